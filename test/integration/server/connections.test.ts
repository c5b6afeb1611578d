import { afterAll, beforeAll, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { createSession, startTestServer, type TestServer } from '../../support/test-server.js';

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({ settings: { maxConnections: 16 } });
});
afterAll(() => server.close());

async function login(): Promise<WebSocket> {
  const socket = new WebSocket(`${server.url.replace('http', 'ws')}/graphql`, 'graphql-transport-ws');
  socket.on('error', () => undefined);
  await new Promise((resolve) => socket.once('open', resolve));
  const acknowledged = new Promise((resolve) => socket.once('message', resolve));
  socket.send(JSON.stringify({ type: 'connection_init' }));
  await acknowledged;
  return socket;
}

test('WebSockets on which nothing runs give way to new connections, one on which something runs stays', async () => {
  const { id } = await createSession(server, { maxSeconds: 600 });
  const working = await login();
  const query = `subscription { sessionStream(sessionId: "${id}") { __typename } }`;
  const answer = new Promise((resolve) => working.once('message', resolve));
  working.send(JSON.stringify({ id: '1', type: 'subscribe', payload: { query } }));
  await answer;
  const others: WebSocket[] = [];
  for (let i = 0; i < 30; i++) others.push(await login());
  expect((await fetch(`${server.url}/healthz`, { headers: { connection: 'close' } })).status).toBe(200);
  const isOpen = ({ readyState }: WebSocket) => readyState === WebSocket.OPEN;
  expect(others.filter(isOpen).length).toBeLessThan(16);
  expect(isOpen(working)).toBe(true);
  for (const socket of [working, ...others]) socket.terminate();
});
