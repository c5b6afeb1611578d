/** Bytes that no HTTP library would send, and a server that answers or closes, and lives. */
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import WebSocket from 'ws';
import type { RunningServer } from '../../../src/server/index.js';
import { frame } from '../../fuzz/hostile.js';
import { type Script, send, statusOf } from '../../fuzz/wire.js';
import { startPaintingServer } from '../../support/painting-server.js';
import { startTestServer } from '../../support/test-server.js';

let server: RunningServer;
let host: string;
beforeAll(async () => {
  server = await startPaintingServer();
  host = new URL(server.url).host;
});
afterAll(() => server?.close());

const PATIENCE_MS = 10_000;

const script = (write: string, end: Script['end'] = 'half-close', patience = PATIENCE_MS): Script => ({
  ...{ kind: 'raw', steps: [{ write }], end, patience },
});

const answerTo = async (script: Script) => (await send(server.url, script)).answers[0] as string;

const request = (method: string, target: string, headers = '') =>
  `${method} ${target} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n${headers}\r\n`;

const UPGRADE =
  'connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: graphql-transport-ws\r\n';

const handshake = (target = '/graphql') => `GET ${target} HTTP/1.1\r\nhost: ${host}\r\n${UPGRADE}\r\n`;

async function lives(): Promise<void> {
  expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
}

describe('a request target', () => {
  it.each([
    ['GET', '//', 400],
    ['GET', '//evil.example/healthz', 400],
    ['GET', '///', 400],
    ['GET', '*', 400],
    ['OPTIONS', '*', 204],
    ['GET', 'healthz', 400],
    ['GET', '/%', 400],
    ['GET', '/%zz', 400],
    ['GET', '/%c3%28', 400],
    ['GET', '/%00', 400],
    ['GET', '/a\\b', 400],
    ['GET', '/a#b', 400],
    ['GET', '/?q=\xff', 400],
    ['GET', 'ftp://localhost/', 400],
    ['GET', 'http://', 400],
    ['GET', 'http://[/healthz', 400],
    ['GET', 'http://localhost/healthz', 200],
    ['GET', 'http://rebind.example/metrics', 421],
    ['GET', '/sessions/../healthz', 200],
    ['CONNECT', 'localhost:80', 405],
    ['CONNECT', '//', 405],
  ])('%s %s is answered %i, as it is in an upgrade', async (method, target, status) => {
    expect(statusOf(await answerTo(script(request(method, target))))).toBe(String(status));
    if (status === 400) expect(statusOf(await answerTo(script(handshake(target))))).toBe('400');
    await lives();
  });
});

describe('what a page of another site makes a browser fetch without an origin, as <img> does', () => {
  const QUERY = '/graphql?query=%7B__typename%7D';
  const asked = async (site: string, target: string, headers = '', method = 'GET') =>
    statusOf(await answerTo(script(request(method, target, `sec-fetch-site: ${site}\r\n${headers}`), 'hold')));

  it.each(['cross-site', 'same-site'])('is no GraphQL request, and no stream: %s', async (site) => {
    expect(await asked(site, QUERY)).toBe('403');
    expect(await asked(site, QUERY, 'accept: text/event-stream\r\n')).toBe('403');
    expect(await asked(site, QUERY, 'origin: https://evil.example\r\n')).toBe('403');
    expect(await asked(site, '/graphql', 'content-length: 0\r\n', 'POST')).toBe('403');
    expect(await asked(site, QUERY, `origin: http://${host}\r\n`)).toBe('200');
  });

  it('is a page or media as before', async () => {
    expect(await asked('cross-site', '/graphql', 'accept: text/html\r\n')).toBe('200');
    expect(await asked('cross-site', '/healthz')).toBe('200');
    expect(await asked('cross-site', '/sessions/01ARZ3NDEKTSV4RRFFQ69G5FAV/poster.webp')).not.toBe('421');
    for (const site of ['same-origin', 'none']) expect(await asked(site, QUERY)).toBe('200');
  });
});

describe('an idle connection', () => {
  const get = () => ({ write: `GET /healthz HTTP/1.1\r\nhost: ${host}\r\n\r\n` });
  const times = (count: number, ...steps: Script['steps']) => Array.from({ length: count }, () => steps).flat();

  it('is not kept by empty lines', async () => {
    await using short = await startTestServer({ settings: { keepAliveSeconds: 0.5, headerSeconds: 0.5 } });
    const steps = [get(), { until: 'ok' }, ...times(40, { wait: 100 }, { write: '\r\n' })];
    const began = performance.now();
    expect((await send(short.url, { kind: 'raw', steps, end: 'hold', patience: 10 })).closed).toBe(true);
    expect(performance.now() - began).toBeLessThan(10_000);
  });

  it('is kept by requests, and by a WebSocket', async () => {
    await using short = await startTestServer({ settings: { keepAliveSeconds: 0.5, headerSeconds: 0.5 } });
    const asking = [...times(8, get(), { wait: 300 })];
    expect((await send(short.url, { kind: 'raw', steps: asking, end: 'hold', patience: 10 })).closed).toBe(false);
    const socket = [get(), { until: 'ok' }, { write: handshake() }, { wait: 2500 }];
    expect((await send(short.url, { kind: 'raw', steps: socket, end: 'hold', patience: 10 })).closed).toBe(false);
  });
});

describe('an upgrade to another protocol than a WebSocket', () => {
  const ask = (text: string, protocol = 'h2c') =>
    text.replace(
      '\r\n\r\n',
      `\r\nhttp2-settings: AAMAAABkAAQAAP__\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: ${protocol}\r\n\r\n`,
    );
  const plain = (method: string, target: string, headers = '', body = '') =>
    `${method} ${target} HTTP/1.1\r\nhost: ${host}\r\n${headers}\r\n${body}`;
  const BODY = '{"query":"{ __typename }"}';
  const JSON_BODY = `content-type: application/json\r\ncontent-length: ${BODY.length}\r\n`;
  const CHUNKED = 'content-type: application/json\r\ntransfer-encoding: chunked\r\n';

  it.each(['h2c', 'websockets', 'WebSocket, x', 'TLS/1.2, HTTP/1.1'])(
    '%s is ignored, with a body or without',
    async (protocol) => {
      const says = async (text: string) => {
        const answer = await answerTo(
          script(ask(text, protocol).replace('HTTP2-Settings\r', 'HTTP2-Settings, close\r'), 'hold'),
        );
        expect(answer).not.toContain('101 ');
        return statusOf(answer);
      };
      expect(await says(plain('GET', '/healthz'))).toBe('200');
      expect(await says(plain('GET', '/graphql?query=%7B__typename%7D'))).toBe('200');
      expect(await says(plain('GET', '/nowhere'))).toBe('404');
      expect(await says(plain('POST', '/graphql', JSON_BODY, BODY))).toBe('200');
      expect(
        await says(plain('POST', '/graphql', CHUNKED, `${BODY.length.toString(16)}\r\n${BODY}\r\n0\r\n\r\n`)),
      ).toBe('200');
      expect(await says(plain('POST', '/nowhere', JSON_BODY, BODY))).toBe('405');
      await lives();
    },
  );

  it('leaves its connection usable, also for a WebSocket', async () => {
    const steps = [
      { write: ask(plain('POST', '/graphql', JSON_BODY)) },
      ...[{ wait: 100 }, { write: BODY }],
      ...[{ until: '__typename' }, { write: plain('GET', '/healthz') }],
      ...[{ until: 'ok' }, { write: handshake() }],
    ];
    const answer = await answerTo({ kind: 'raw', steps, end: 'hold', patience: 2000 });
    expect(answer.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 200', 'HTTP/1.1 101']);
  });
});

describe('a body that is none', () => {
  const broken = (body: string) =>
    script(
      `POST /graphql HTTP/1.1\r\nhost: ${host}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n${body}`,
      'hold',
    );

  it.each([
    ['-1\r\n', '400'],
    ['zz\r\n', '400'],
    ['2\r\n{}junk', '400'],
    [`2;${'x'.repeat(20_000)}\r\n`, '413'],
    [`2\r\n{}\r\n0\r\n${`x: ${'y'.repeat(60)}\r\n`.repeat(400)}`, '431'],
  ])('is answered before it is closed: %.12j', async (body, status) => {
    const { answers, closed } = await send(server.url, broken(body));
    expect([statusOf(answers[0] as string), closed]).toEqual([status, true]);
    await lives();
  });

  it('is answered also when it does not come', async () => {
    await using impatient = await startTestServer({ settings: { bodySeconds: 0.5, headerSeconds: 0.5 } });
    const { answers, closed } = await send(impatient.url, broken('2\r\n{'));
    expect([statusOf(answers[0] as string), closed]).toEqual(['408', true]);
  });

  it.each([
    ['content-encoding: gzip\r\n', 'application/json', '415'],
    ['', 'application/json; charset=utf-16', '415'],
    ['', 'application/json;charset="latin1"', '415'],
    ['content-encoding: identity\r\n', 'application/json; charset="UTF-8"', '200'],
  ])('is not guessed at: %j %s', async (headers, type, status) => {
    const body = '{"query":"{ __typename }"}';
    const text = request('POST', '/graphql', `${headers}content-type: ${type}\r\ncontent-length: ${body.length}\r\n`);
    expect(statusOf(await answerTo(script(text + body, 'hold')))).toBe(status);
  });
});

describe('an upgrade', () => {
  it('that is refused and reset harms nobody', async () => {
    const storm = Array.from({ length: 60 }, (_, i) =>
      send(server.url, script(handshake(i % 2 ? '/nowhere' : '//'), 'reset', i % 25)),
    );
    await Promise.all(storm);
    await lives();
  });

  it('that is refused is closed, whether its client closes or not', async () => {
    const socket = connect({ host: '127.0.0.1', port: Number(new URL(server.url).port), allowHalfOpen: true });
    socket.on('error', () => undefined);
    socket.resume();
    socket.write(handshake('/nowhere'));
    const began = performance.now();
    await new Promise((resolve) =>
      socket.once('close', resolve).once('end', () => setTimeout(() => socket.end(), 5000)),
    );
    expect(performance.now() - began).toBeLessThan(5_000 + PATIENCE_MS);
    await lives();
  });

  it('whose first frame is too large is closed with 1009', async () => {
    const steps = [{ write: handshake() }, { write: frame(1, 'x'.repeat(20_000)) }];
    const answer = await answerTo({ kind: 'raw', steps, end: 'hold', patience: PATIENCE_MS });
    expect(statusOf(answer)).toBe('101');
    const close = Buffer.from(answer.slice(answer.indexOf('\r\n\r\n') + 4), 'latin1');
    expect([close[0], close.readUInt16BE(2)]).toEqual([0x88, 1009]);
    await lives();
  });

  it('whose first frame says that it is larger than any is closed', async () => {
    const steps = [{ write: handshake() }, { write: frame(1, 'x', { length: 2n ** 62n }) }];
    expect((await send(server.url, { kind: 'raw', steps, end: 'hold', patience: PATIENCE_MS })).closed).toBe(true);
    await lives();
  });

  it('whose pings are not read is cut off', async () => {
    const socket = connect({ host: '127.0.0.1', port: Number(new URL(server.url).port) });
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => undefined);
    socket.pause();
    socket.write(handshake());
    for (let i = 0; i < 400 && !socket.destroyed; i++) {
      socket.write(frame(9, 'p'.repeat(125)).repeat(40), 'latin1');
      await sleep(2);
    }
    socket.resume();
    await closed;
    await lives();
  });
});

describe('bytes in small pieces', () => {
  const PIECES = '1\r\nx\r\n'.repeat(250_000);
  const post = (headers: string) =>
    `POST /graphql HTTP/1.1\r\nhost: ${host}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n${headers}\r\n`;

  it('make a body that is refused before it has come to its end', async () => {
    expect(statusOf(await answerTo(script(post('') + PIECES, 'hold')))).toBe('413');
    await lives();
  });

  it.each([
    ['POST /graphql', '401'],
    ['GET /', '200'],
  ])('are not read behind the answer to a request that needs none of them: %s', async (line, status) => {
    const guarded = await startTestServer({ settings: { token: 'secret', keepAliveSeconds: 60 } });
    try {
      const socket = connect(Number(new URL(guarded.url).port), '127.0.0.1');
      let answer = '';
      socket.on('data', (bytes: Buffer) => (answer += bytes.toString()));
      socket.on('error', () => undefined);
      const closed = new Promise((resolve) => socket.once('close', () => resolve('closed')));
      socket.write(post('').replace(host, new URL(guarded.url).host).replace('POST /graphql', line) + PIECES);
      expect(await Promise.race([closed, sleep(PATIENCE_MS)])).toBe('closed');
      expect(statusOf(answer)).toBe(status);
    } finally {
      await guarded.close();
    }
  });

  it('make a WebSocket message that closes it', async () => {
    const socket = new WebSocket(`${server.url.replace('http', 'ws')}/graphql`, 'graphql-transport-ws');
    const acknowledged = new Promise((resolve) => socket.once('message', resolve));
    const closed = new Promise<number>((resolve) => socket.once('close', (code) => resolve(code)));
    socket.once('open', () => socket.send('{"type":"connection_init"}'));
    await acknowledged;
    for (let piece = 0; piece < 600; piece++) socket.send('x', { fin: false });
    expect(await closed).toBe(1008);
    await lives();
  });
});
