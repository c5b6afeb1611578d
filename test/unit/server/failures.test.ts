import { describe, expect, it } from 'vitest';
import type { ApiContext } from '../../../src/api/index.js';
import { loadConfig } from '../../../src/server/index.js';
import { createGraphQL, noteFailure } from '../../../src/server/graphql.js';
import { Metrics } from '../../../src/server/metrics.js';
import { withRequestId } from '../../../src/server/request.js';
import { DomainError, type DomainErrorCode, type Logger } from '../../../src/sessions/index.js';

const SECRET = '/srv/models/secret/dit.safetensors';

/** Asks a service of which every session fails so; what the client reads, and what the log has. */
async function ask(query: string, failure: DomainError) {
  const logged: { error?: Error; requestId?: string }[] = [];
  const write = (details: object) => void logged.push(details);
  const log: Logger = { debug: () => undefined, info: write, warn: write, error: write };
  const fail = () => Promise.reject(failure);
  const sessions = {
    session: fail,
    status: () => ({ accepting: false, detail: failure.message, devices: [], sessions: {} }),
  };
  const context = {
    sessions,
    spend: async () => undefined,
    failed: (error: DomainError) => noteFailure(log, error),
    facts: {},
  } as unknown as ApiContext;
  const limits = loadConfig({}, {});
  const yoga = createGraphQL({
    context: () => context,
    limits,
    requestSeconds: 5,
    maxBodyBytes: 10_000,
    maxAnswerBytes: 100_000,
    metrics: new Metrics(),
    log,
  });
  const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ query }) };
  const answer = await withRequestId('the-request', async () =>
    (await yoga.fetch('http://localhost/graphql', init)).text(),
  );
  return { answer, logged };
}

const CODES: DomainErrorCode[] = ['STORAGE', 'ENGINE', 'MEDIA', 'MODEL_UNAVAILABLE'];

describe('a failure of the service', () => {
  it.each(CODES)('%s tells the client no path, and the log everything under the id of the request', async (code) => {
    const failure = new DomainError(code, `${SECRET} is cut off; install it again.`);
    const one = await ask('{ session(id: "Session:abc") { __typename ... on Error { code message } } }', failure);
    expect(one.answer).toContain('dit.safetensors is cut off; install it again.');
    const other = await ask('{ node(id: "Session:abc") { id } }', failure);
    for (const { answer, logged } of [one, other]) {
      expect(answer).not.toContain('/srv');
      expect(logged).toEqual([expect.objectContaining({ error: failure, code, requestId: 'the-request' })]);
    }
  });

  it('is no path either where the service says why it takes nothing', async () => {
    const { answer } = await ask('{ service { detail } }', new DomainError('ENGINE', `${SECRET} is gone.`));
    expect(answer).toContain('"dit.safetensors is gone."');
  });

  it('is not made of the mistakes of clients', async () => {
    const mistake = new DomainError('INVALID_INPUT', 'none');
    for (const query of ['{ session(id: "Session:abc") { __typename } }', '{ node(id: "Session:abc") { id } }'])
      expect((await ask(query, mistake)).logged).toEqual([]);
  });
});
