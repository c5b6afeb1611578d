import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { createSession, startTestServer, type TestServer, until } from '../../support/test-server.js';
import { STREAM } from '../../support/transports.js';

const STALL_SECONDS = 4;
const CHUNK_BYTES = 1 << 20;

let server: TestServer;
const sockets: Socket[] = [];
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await server.close();
});

/** Sends a request and reads nothing but what `read` asks for. */
function ask(head: string[], body = ''): Socket {
  const { hostname, port } = new URL(server.url);
  const socket = connect(Number(port), hostname).on('error', () => undefined);
  sockets.push(socket);
  socket.pause();
  socket.write(
    [...head, `host: ${hostname}:${port}`, `content-length: ${Buffer.byteLength(body)}`, '', body].join('\r\n'),
  );
  return socket;
}

function subscribe(id: string): Socket {
  const body = JSON.stringify({ query: STREAM, variables: { id, media: 'INLINE' } });
  return ask(['POST /graphql HTTP/1.1', 'content-type: application/json', 'accept: text/event-stream'], body);
}

const subscriptions = () => server.metric('longlive_subscriptions');

test('an SSE client that takes nothing is closed and its place freed, one that takes little stays', async () => {
  server = await startTestServer({
    settings: { stallSeconds: STALL_SECONDS },
    chunkBytes: CHUNK_BYTES,
    times: { step: 50, recache: 2 },
  });
  const { id } = await createSession(server, { maxSeconds: 120 });
  const blocked = subscribe(id);
  await until(async () => (await subscriptions()) === 1, 'it is a viewer');
  const slow = subscribe(id);
  let over = false;
  const reading = (async () => {
    for (slow.on('readable', () => undefined); !over && !slow.closed; await sleep(100)) slow.read();
  })();
  await until(async () => (await subscriptions()) === 2, 'both are viewers');
  await until(async () => (await subscriptions()) === 1, 'the blocked one is gone', 40_000);
  expect(slow.closed).toBe(false);
  expect(blocked.bytesRead).toBe(0);
  over = true;
  await reading;
});

test('a download that nobody takes is closed', async () => {
  server = await startTestServer({ settings: { stallSeconds: STALL_SECONDS }, chunkBytes: 64 << 20 });
  const { id } = await createSession(server, { maxSeconds: 1 });
  const path = await chunkPath(id);
  const socket = ask([`GET ${path} HTTP/1.1`]);
  const answers = () => server.metric('longlive_http_request_seconds_count{route="/sessions",status="200"}');
  const before = await answers();
  await until(async () => (await answers()) > before, 'the server has ended it', 40_000);
  await until(() => socket.resume().closed, 'the connection is closed', 40_000);
  expect(socket.bytesRead).toBeLessThan(64 << 20);
});

test('a request behind an answer that nobody takes is not begun', async () => {
  server = await startTestServer({ chunkBytes: 24 << 20 });
  const { id } = await createSession(server, { maxSeconds: 1 });
  const path = await chunkPath(id);
  const asked = `POST /graphql HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n`;
  const query = JSON.stringify({ query: `{ session(id: "${id}") { __typename } }` });
  const socket = ask([`GET ${path} HTTP/1.1`]);
  socket.write(`${asked}content-length: ${query.length}\r\n\r\n${query}`);
  const operations = () => server.metric('longlive_graphql_operations_total{kind="query",outcome="ok"}');
  const before = await operations();
  await sleep(1500);
  expect(await operations()).toBe(before);
  socket.resume();
  await until(async () => (await operations()) > before, 'it is begun when the answer was taken', 40_000);
});

async function chunkPath(id: string): Promise<string> {
  let url: string | undefined;
  await until(async () => {
    const query = `query ($id: ID!) { session(id: $id) { ... on Session { playlistUrl } } }`;
    const { session } = await server.query<{ session: { playlistUrl: string } }>(query, { id });
    const text = await (await fetch(new URL(session.playlistUrl, server.url))).text();
    const line = text.split('\n').find((uri) => uri.startsWith('chunks/'));
    url = line && new URL(line, new URL(session.playlistUrl, server.url)).href;
    return url !== undefined;
  }, 'there is a chunk');
  const { pathname, search } = new URL(url as string);
  return pathname + search;
}
