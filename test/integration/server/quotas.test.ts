import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import WebSocket from 'ws';
import { createClient, RateLimitError } from '../../../packages/client/src/index.js';
import { KeyFile } from '../../../src/server/credentials/key-file.js';
import { ALL_SCOPES } from '../../../src/sessions/index.js';
import { MemoryStore } from '../../support/memory-store.js';
import { startTestServer, type TestServer, until } from '../../support/test-server.js';

const TOKEN = 'the-token-of-the-operator';
const SCOPES = ALL_SCOPES.filter((scope) => scope !== 'admin');
const bearer = (key: string) => ({ authorization: `Bearer ${key}` });

let server: TestServer;
let store: MemoryStore;
let keys: KeyFile;

beforeEach(() => {
  store = new MemoryStore();
  keys = new KeyFile(store);
});
afterEach(() => server.close());

const start = async (settings = {}) =>
  void (server = await startTestServer({ store, settings: { token: TOKEN, ...settings } }));
const keyOf = async (tenant: string, limits = {}) => (await keys.create({ tenant, scopes: SCOPES, limits })).key;

type Answer = { __typename: string; id?: string; code?: string; message?: string; retryAfterSeconds?: number };
const ask = async (key: string, text: string, variables: object = {}) => {
  const { it } = await server.query<{ it: Answer }>(
    `${text} fragment A on Error { code message ... on RateLimitError { retryAfterSeconds } }`,
    variables,
    bearer(key),
  );
  return it;
};
const create = (key: string) =>
  ask(
    key,
    'mutation { it: createSession(input: {prompt: "a", pace: REALTIME}) { __typename ... on Session { id } ...A } }',
  );
const prompt = (key: string, id: string | undefined) =>
  ask(key, 'mutation ($id: ID!) { it: switchPrompt(sessionId: $id, prompt: "b") { __typename ...A } }', { id });

const post = (key: string, query: string) =>
  fetch(`${server.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...bearer(key) },
    body: JSON.stringify({ query }),
  });

describe('what callers may use', () => {
  test('is one amount for all keys of a tenant; beyond it the answer says when to come again', async () => {
    await start({ creationsPerMinute: 2 });
    const [one, two, other] = [await keyOf('acme'), await keyOf('acme'), await keyOf('zenith')];
    const made = [await create(one), await create(two)];
    expect(made.map(({ __typename }) => __typename)).toEqual(['Session', 'Session']);
    const refused = await create(one);
    expect(refused).toMatchObject({ __typename: 'RateLimitError', code: 'RATE_LIMIT' });
    expect(refused.message).toContain('Your tenant may make 2 sessions a minute');
    expect(refused.retryAfterSeconds).toBeGreaterThan(0);
    expect((await create(other)).__typename).toBe('Session');
  });

  test('is less for a key that was made with less, and for the client tokens that it makes', async () => {
    await start();
    const key = await keyOf('acme', { prompts: 1 });
    const { id } = await create(key);
    const { it } = await server.query<{ it: { token: string } }>(
      'mutation ($id: ID!) { it: createClientToken(sessionId: $id, scopes: ["session:prompt"]) { ... on ClientToken { token } } }',
      { id },
      bearer(key),
    );
    // The window is a second: of many at once, one in each window is taken.
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) => prompt(index % 2 === 0 ? key : it.token, id)),
    );
    const taken = answers.filter(({ __typename }) => __typename === 'SwitchReceipt').length;
    expect(taken).toBeGreaterThan(0);
    expect(taken).toBeLessThan(10);
    expect(answers.find(({ code }) => code)?.message).toContain('Your API key may send 1 prompts a second');
    expect((await prompt(await keyOf('acme'), id)).__typename).toBe('SwitchReceipt');
  });

  test('of the cost of operations is told with 429 and Retry-After', async () => {
    await start({ costPerMinute: 20 });
    const key = await keyOf('acme');
    expect((await post(key, '{ __typename }')).status).toBe(200);
    const refused = await post(key, '{ sessions(first: 100) { ... on SessionConnection { nodes { id } } } }');
    expect(refused.status).toBe(429);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await refused.text()).toContain('Your tenant may ask for 20 fields a minute');
  });

  test('makes the kits throw an error of its own, and wait as long as they were told to', async () => {
    await start({ creationsPerMinute: 1 });
    await using client = createClient({ url: server.url, webSocket: WebSocket, token: await keyOf('acme') });
    await client.create({ prompt: 'a' });
    const refused = await client.create({ prompt: 'a' }).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(RateLimitError);
    expect((refused as RateLimitError).retryAfterSeconds).toBeGreaterThan(0);
  });
});

describe('an address that sends wrong credentials', () => {
  const status = async (credential: string) => {
    const response = await post(credential, '{ __typename }');
    return [response.status, response.headers.get('retry-after') !== null];
  };

  test('is told to wait after some, and its tokens are not looked at; who has a key is served', async () => {
    await start({ failedLoginsPerMinute: 3 });
    const key = await keyOf('acme');
    for (let i = 0; i < 3; i++) expect(await status(`guess-${i}`)).toEqual([401, false]);
    expect(await status('guess-3')).toEqual([429, true]);
    expect(await status(TOKEN)).toEqual([429, true]);
    expect(await status(key)).toEqual([200, false]);
    const socket = new WebSocket(`${server.url.replace('http', 'ws')}/graphql`, 'graphql-transport-ws');
    let code: number | undefined;
    socket.on('open', () => socket.send(JSON.stringify({ type: 'connection_init', payload: bearer('guess-4') })));
    socket.on('close', (closed) => (code = closed));
    await until(() => code !== undefined, 'the socket is closed');
    expect(code).toBe(1013);
  });

  test('may come without any as often as it likes', async () => {
    await start({ failedLoginsPerMinute: 1 });
    for (let i = 0; i < 5; i++) expect((await fetch(`${server.url}/graphql?query={__typename}`)).status).toBe(401);
    expect(await status(TOKEN)).toEqual([200, false]);
  });
});
