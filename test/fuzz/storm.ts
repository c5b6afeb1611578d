/**
 * Thousands of connects and disconnects of each kind, one kind after the other, with a healthy client beside them: what the
 * process holds must be back where it was within 20 s after each.
 *
 *     npm run storm:edge -- [connections of each kind: 5000] [--concurrency 24] [--out result.json]
 */

import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Bystander, footprintOf, settled } from './bystander.js';
import { startTarget, type Target } from './target.js';
import { complaintAbout, type Script, send, statusOf } from './wire.js';

const HANDSHAKE =
  'connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: graphql-transport-ws\r\n';

/** The kinds, with the status that each is answered with; none where the client does not wait for an answer. */
function kindsOf(host: string, sessionId: string): { script: Script; status: string | undefined }[] {
  const stream = JSON.stringify({
    query: 'subscription ($id: ID!) { sessionStream(sessionId: $id) { __typename } }',
    variables: { id: sessionId },
  });
  const kind = (name: string, write: string, end: Script['end'], patience: number, status?: string) => ({
    script: { kind: name, steps: [{ write }], end, patience },
    status,
  });
  const upgrade = (target: string) => `GET ${target} HTTP/1.1\r\nhost: ${host}\r\n${HANDSHAKE}`;
  const post = `POST /graphql HTTP/1.1\r\nhost: ${host}\r\ncontent-type: application/json\r\naccept: text/event-stream\r\ncontent-length: ${stream.length}\r\n\r\n${stream}`;
  return [
    kind('HTTP', `GET /healthz HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`, 'hold', 10_000, '200'),
    kind('half an upgrade, cut off', upgrade('/graphql'), 'reset', 20),
    kind('refused upgrade, cut off', `${upgrade('/nowhere')}\r\n`, 'reset', 20),
    kind('refused upgrade, left half open', `${upgrade('/nowhere')}\r\n`, 'half-close', 10_000, '404'),
    kind('WebSocket without login', `${upgrade('/graphql')}\r\n`, 'reset when answered', 10_000, '101'),
    kind('SSE, cut off', post, 'reset when answered', 10_000, '200'),
    // As many as come, whether they are answered or not: more than the service can take.
    kind('SSE, left after 100 ms', post, 'reset', 100),
  ];
}

async function storm(target: Target, script: Script, count: number, concurrency: number) {
  const { service, secrets, watchedId } = target;
  const before = footprintOf(service.pid);
  const bystander = new Bystander(service, watchedId);
  const statuses: Record<string, number> = {};
  const complaints: string[] = [];
  let [sent, peak] = [0, before.descriptors];
  const began = performance.now();
  const one = async () => {
    const answer = await send(service.url, script).then(
      ({ answers }) => answers.join(),
      (error: unknown) => String(error),
    );
    const status = answer === '' || answer.startsWith('HTTP/') ? statusOf(answer) : answer.slice(0, 80);
    statuses[status] = (statuses[status] ?? 0) + 1;
    const complaint = complaintAbout(answer, secrets);
    if (complaint !== undefined) complaints.push(complaint);
  };
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      while (sent < count) {
        if (++sent % 100 === 0) peak = Math.max(peak, footprintOf(service.pid).descriptors);
        await one();
      }
    }),
  );
  const seconds = Math.round((performance.now() - began) / 100) / 10;
  await bystander.leave();
  const ended = performance.now();
  const { after, complaint } = await settled(service.pid, before);
  const back = Math.round(performance.now() - ended) / 1000;
  const all = [...complaints, ...bystander.complaints, ...(complaint ? [complaint] : [])];
  return {
    seconds,
    statuses,
    healthyMilliseconds: bystander.summary,
    before,
    peak,
    after,
    backSeconds: back,
    complaints: all,
  };
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { concurrency: { type: 'string' }, out: { type: 'string' } },
  });
  const count = Number(positionals[0] ?? 5000);
  const target = await startTarget();
  const results: object[] = [];
  try {
    for (const { script, status } of kindsOf(target.prey.host, target.watchedId)) {
      const result = await storm(target, script, count, Number(values.concurrency ?? 24));
      if (status !== undefined && (result.statuses[status] ?? 0) < count * MOST_SHARE)
        result.complaints.push(`fewer than ${MOST_SHARE * 100} % were answered ${status}`);
      if (result.complaints.length > 0) process.exitCode = 1;
      results.push({ kind: script.kind, count, ...result });
      process.stdout.write(`${JSON.stringify(results.at(-1))}\n`);
    }
  } finally {
    await target.close();
  }
  if (values.out !== undefined) writeFileSync(values.out, `${JSON.stringify(results, null, 2)}\n`);
}

/** The rest may be cut off before an answer comes, on a busy machine. */
const MOST_SHARE = 0.9;

await main();
