import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, get, type IncomingHttpHeaders, type IncomingMessage, type RequestOptions } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import { serverAudits } from 'graphql-http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import WebSocket from 'ws';
import { StaticFiles } from '../../../src/server/static.js';
import { StoreError } from '../../../src/sessions/index.js';
import { createSession, playlistUris, startTestServer, type TestServer, until } from '../../support/test-server.js';
import { collect, TRANSPORTS } from '../../support/transports.js';

const TOKEN = 'a-token';
let server: TestServer;
let guarded: TestServer;
/** A finished session of ten chunks. */
let finished: { id: string; chunkUrl: string; playlistUrl: string; videoUrl: string };

beforeAll(async () => {
  server = await startTestServer({ chunkBytes: 1000, settings: { readySeconds: 0 } });
  guarded = await startTestServer({
    settings: { token: TOKEN, corsOrigins: 'https://friend.example', stallSeconds: 60 },
  });
  const { id } = await createSession(server, { maxSeconds: 7 });
  const events = await collect(TRANSPORTS[0]!.open(server.url, { id, media: 'URL' }));
  const { session } = await server.query<{
    session: { playlistUrl: string; artifacts: { kind: string; url: string }[] };
  }>(`query ($id: ID!) { session(id: $id) { ... on Session { playlistUrl artifacts { kind url } } } }`, { id });
  finished = {
    id,
    chunkUrl: server.url + (events.find((event) => event['index'] === 2)?.['url'] as string),
    playlistUrl: server.url + session.playlistUrl,
    videoUrl: server.url + (session.artifacts.find(({ kind }) => kind === 'MP4')?.url as string),
  };
});

afterAll(() => Promise.all([server.close(), guarded.close()]));

const post = (url: string, body: string | object, headers: Record<string, string> = {}) =>
  fetch(`${url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
const errorsOf = async (response: Response) => ((await response.json()) as { errors: { message: string }[] }).errors;

describe('GraphQL over HTTP', () => {
  test('passes every MUST of the audit suite', async () => {
    const failed: string[] = [];
    for (const audit of serverAudits({ url: `${server.url}/graphql` })) {
      const result = await audit.fn();
      if (result.status !== 'ok') failed.push(`${result.status}: ${audit.name}`);
    }
    expect(failed.filter((line) => line.includes('MUST'))).toEqual([]);
    expect(failed.filter((line) => line.startsWith('error'))).toEqual([]);
    expect(failed.length).toBeLessThanOrEqual(2);
  });

  test.each(['application/json', 'application/graphql-response+json', 'text/event-stream'])(
    'takes parameters that are no JSON for the mistake of who sends them: %s',
    async (accept) => {
      for (const wrong of ['variables={', 'variables=%22', 'extensions=nonsense']) {
        const response = await fetch(`${server.url}/graphql?query={__typename}&${wrong}`, { headers: { accept } });
        const text = await response.text();
        expect(text).toContain('must be JSON');
        expect(text).not.toContain('INTERNAL');
        if (accept !== 'text/event-stream') expect(response.status).toBe(400);
      }
    },
  );

  test('refuses what a form on a foreign page could send', async () => {
    const response = await post(server.url, 'query=%7Bmodels%7Bid%7D%7D', {
      'content-type': 'application/x-www-form-urlencoded',
    });
    expect(response.status).toBe(415);
  });

  test('gives every response a request id, and keeps a harmless one', async () => {
    const body = { query: '{ models { id } }' };
    expect((await post(server.url, body)).headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
    expect((await post(server.url, body, { 'x-request-id': 'mine-7' })).headers.get('x-request-id')).toBe('mine-7');
    expect((await post(server.url, body, { 'x-request-id': 'a b' })).headers.get('x-request-id')).not.toBe('a b');
  });

  test('limits tokens, depth, aliases, cost and size, and says which', async () => {
    const refusal = async (query: string) => (await errorsOf(await post(server.url, { query })))[0]?.message;
    expect(await refusal(`{ ${'models { id } '.repeat(400)} }`)).toContain('1000 tokens');
    expect(await refusal(`{ ${Array.from({ length: 16 }, (_, i) => `a${i}: models { id }`).join(' ')} }`)).toContain(
      'aliases of 16',
    );
    expect(
      await refusal(
        '{ sessions(first: 100) { ... on SessionConnection { nodes { id timeline { prompt block frame seconds mode } receipts { id prompt status mode when requestedAt expectedBlock expectedFrame } artifacts { id url bytes kind } } } } }',
      ),
    ).toContain('cost of');
    const large = await post(server.url, { query: '{ models { id } }', variables: { x: 'x'.repeat(300_000) } });
    expect(large.status).toBe(413);
  });

  test('masks bugs and names the request', async () => {
    server.store.fault = () => {
      throw new TypeError('the secret inner life');
    };
    const response = await post(
      server.url,
      { query: '{ session(id: "Session:00000000000000000000000000") { __typename } }' },
      { 'x-request-id': 'find-me' },
    );
    server.store.fault = () => undefined;
    const text = await response.text();
    expect(text).toContain('find-me');
    expect(text).not.toContain('secret');
  });

  test('shows GraphiQL to browsers', async () => {
    const response = await fetch(`${server.url}/graphql`, { headers: { accept: 'text/html' } });
    expect(response.headers.get('content-type')).toContain('text/html');
    expect(await response.text()).toContain('LongLive');
    const policy = response.headers.get('content-security-policy') ?? '';
    expect(policy).toMatch(/default-src 'none'; script-src 'sha256-.*frame-ancestors 'none'/);
    expect(/script-src ([^;]*)/.exec(policy)?.[1]).not.toContain('unsafe');
    expect((await fetch(`${guarded.url}/graphql`, { headers: { accept: 'text/html' } })).status).toBe(401);
    const headers = { accept: 'text/html', authorization: `Bearer ${TOKEN}` };
    expect((await fetch(`${guarded.url}/graphql`, { headers })).status).toBe(200);
    for (const path of ['/', '/graphql']) {
      const page = await fetch(`${server.url}${path}`, { headers: { accept: 'text/html' } });
      expect(page.headers.get('content-security-policy')).toContain("frame-ancestors 'none'");
      expect(Object.fromEntries(page.headers)).toMatchObject({
        'x-content-type-options': 'nosniff',
        'x-frame-options': 'DENY',
        'referrer-policy': 'no-referrer',
      });
    }
  });
});

describe('expected failures are data', () => {
  const create = (input: object) =>
    server
      .query<{ createSession: object }>(
        `mutation ($input: CreateSessionInput!) { createSession(input: $input) {
          __typename ... on Error { code message } ... on InvalidInputError { field } } }`,
        { input },
      )
      .then((data) => data.createSession);

  test.each([
    [{ prompt: '' }, 'prompt'],
    [{ prompt: 'x'.repeat(10_000) }, 'prompt'],
    [{}, 'prompt'],
    [{ prompt: 'a', timeline: [{ prompt: 'b' }] }, 'prompt'],
    [{ timeline: [{ prompt: 'a' }, { prompt: ' ', atSeconds: 4 }] }, 'timeline[1].prompt'],
    [{ prompt: 'a', width: 0 }, 'width'],
    [{ prompt: 'a', height: 1_000_000 }, 'height'],
    [{ prompt: 'a', maxSeconds: -1 }, 'maxSeconds'],
    [{ prompt: 'a', seed: '99999999999999999999' }, 'seed'],
  ])('createSession %j', async (input, field) => {
    expect(await create(input)).toMatchObject({ __typename: 'InvalidInputError', code: 'INVALID_INPUT', field });
  });

  test('an unknown model, an idempotency key used twice', async () => {
    expect(await create({ prompt: 'a', model: 'nobody' })).toMatchObject({ code: 'MODEL_UNAVAILABLE' });
    const key = { idempotencyKey: 'once', maxSeconds: 1 };
    expect(await create({ prompt: 'a', ...key })).toMatchObject({ __typename: 'Session' });
    expect(await create({ prompt: 'a', ...key })).toMatchObject({ __typename: 'Session' });
    expect(await create({ prompt: 'b', ...key })).toMatchObject({ __typename: 'ConflictError', code: 'CONFLICT' });
  });

  test('switching an ended, an unknown, a wrongly named session', async () => {
    const change = (id: string, more = '') =>
      server
        .query<{ switchPrompt: object }>(
          `mutation ($id: ID!) { switchPrompt(sessionId: $id, prompt: "x" ${more}) { __typename ... on Error { code } ... on InvalidInputError { field } } }`,
          { id },
        )
        .then((data) => data.switchPrompt);
    expect(await change(finished.id)).toEqual({ __typename: 'SessionEndedError', code: 'ENDED' });
    expect(await change('Session:nobody')).toEqual({ __typename: 'NotFoundError', code: 'NOT_FOUND' });
    expect(await change('nobody')).toMatchObject({ __typename: 'InvalidInputError', field: 'sessionId' });
    expect(await change(finished.id, 'when: AT_BLOCK')).toMatchObject({
      __typename: 'InvalidInputError',
      field: 'atBlock',
    });
    expect(await change(finished.id, 'atBlock: 3')).toMatchObject({
      __typename: 'InvalidInputError',
      field: 'atBlock',
    });
  });

  test('an unreachable store', async () => {
    server.store.fault = () => ({ when: 'before', error: new StoreError('DENIED', 'No.') });
    const { session } = await server
      .query<{ session: object }>(
        `{ session(id: "Session:00000000000000000000000000") { __typename ... on Error { code } } }`,
      )
      .finally(() => (server.store.fault = () => undefined));
    expect(session).toEqual({ __typename: 'UnavailableError', code: 'STORAGE' });
  });
});

describe('queries', () => {
  test('sessions come newest first in pages', async () => {
    const ids = new Set<string>();
    for (let index = 0; index < 5; index++) ids.add((await createSession(server, { maxSeconds: 1 })).id);
    const page = (after?: string) =>
      server
        .query<{
          sessions: {
            edges: { cursor: string; node: { id: string } }[];
            pageInfo: { hasNextPage: boolean; endCursor: string };
          };
        }>(
          `query ($after: String) { sessions(first: 2, after: $after) { ... on SessionConnection {
            edges { cursor node { id } } pageInfo { hasNextPage endCursor } } } }`,
          { after },
        )
        .then((data) => data.sessions);
    const first = await page();
    expect(first.pageInfo).toEqual({ hasNextPage: true, endCursor: first.edges[1]?.cursor });
    const second = await page(first.pageInfo.endCursor);
    const third = await page(second.edges[0]?.cursor);
    expect(third.edges[0]).toEqual(second.edges[1]);
    const seen = [...first.edges, ...second.edges, ...third.edges.slice(1)].map(({ node }) => node.id);
    expect(new Set(seen)).toEqual(ids);

    const given = first.pageInfo.endCursor;
    for (const after of ['', 'x', '😀', 'MQ==', '0', `${given}=`, `${given}\n`, ` ${given}`, given.slice(0, -1)]) {
      const { sessions } = await server.query<{ sessions: unknown }>(
        `query ($after: String) { sessions(after: $after) { __typename ... on InvalidInputError { code field } } }`,
        { after },
      );
      const refused = { __typename: 'InvalidInputError', code: 'INVALID_INPUT', field: 'after' };
      expect(sessions, JSON.stringify(after)).toEqual(refused);
    }
  });

  test('node finds sessions, models and artifacts by id', async () => {
    const { session, models } = await server.query<{
      session: { artifacts: { id: string }[] };
      models: { id: string }[];
    }>(`query ($id: ID!) { models { id } session(id: $id) { ... on Session { artifacts { id } } } }`, {
      id: finished.id,
    });
    const ids = [finished.id, models[0]?.id, session.artifacts[0]?.id, 'Session:nobody'];
    const { nodes } = await server.query<{ nodes: unknown[] }>(
      `query ($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }`,
      { ids },
    );
    expect(nodes).toEqual([
      { __typename: 'Session', id: ids[0] },
      { __typename: 'Model', id: ids[1] },
      { __typename: 'Artifact', id: ids[2] },
      null,
    ]);
  });

  test('the service tells its devices, its queue and its facts', async () => {
    const { service } = await server.query<{ service: object }>(
      `{ service { version accepting queued heartbeatSeconds devices { name load realtimeSessions } defaultModel { name } sessions { state count } } }`,
    );
    expect(service).toMatchObject({
      accepting: true,
      queued: 0,
      heartbeatSeconds: 0.2,
      defaultModel: { name: 'fake' },
    });
  });
});

describe('media', () => {
  test('a chunk: whole, in ranges, for ever', async () => {
    const whole = await fetch(finished.chunkUrl);
    expect(whole.status).toBe(200);
    expect(Object.fromEntries(whole.headers)).toMatchObject({
      'content-type': 'video/iso.segment',
      'content-length': '1000',
      'cache-control': expect.stringMatching(/^public, max-age=1[4-8]\d{3}, immutable$/) as string,
      'accept-ranges': 'bytes',
    });
    const bytes = await whole.bytes();
    const part = await fetch(finished.chunkUrl, { headers: { range: 'bytes=10-19' } });
    expect([part.status, part.headers.get('content-range')]).toEqual([206, 'bytes 10-19/1000']);
    expect(await part.bytes()).toEqual(bytes.subarray(10, 20));
    const conditional = { range: 'bytes=10-19', 'if-range': '"x"' };
    for (const url of [finished.chunkUrl, finished.videoUrl]) {
      const whole = await fetch(url, { headers: conditional });
      expect([whole.status, whole.headers.get('content-range')]).toEqual([200, null]);
    }
    const beyond = await fetch(finished.chunkUrl, { headers: { range: 'bytes=1000-' } });
    expect([beyond.status, beyond.headers.get('content-range')]).toEqual([416, 'bytes */1000']);
    for (const range of ['', 'bytes=10-19', 'bytes=1000-']) {
      const head = await fetch(finished.chunkUrl, { method: 'HEAD', headers: range === '' ? {} : { range } });
      expect([head.status, head.headers.get('content-length'), await head.text()]).toEqual([200, '1000', '']);
      const video = await fetch(finished.videoUrl, { method: 'HEAD', headers: range === '' ? {} : { range } });
      expect([video.status, video.headers.get('content-range')]).toEqual([200, null]);
    }
  });

  test('the playlist leads to every chunk', async () => {
    const response = await fetch(finished.playlistUrl);
    expect(response.headers.get('content-type')).toBe('application/vnd.apple.mpegurl');
    const uris = playlistUris(await response.text());
    expect(uris).toHaveLength(1 + 10);
    const answers = await Promise.all(uris.map((uri) => fetch(new URL(uri, finished.playlistUrl))));
    expect(answers.map(({ status }) => status)).toEqual(uris.map(() => 200));
  });

  test('the playlist is compressed for whoever takes gzip', async () => {
    const ask = (encoding: string, more = '') =>
      fetchRaw(`${finished.playlistUrl}${more}`, { headers: { 'accept-encoding': encoding } });
    const [plain, zipped] = [await ask('identity'), await ask('br, gzip;q=0.8')];
    expect(plain.headers['content-encoding']).toBeUndefined();
    expect(zipped.headers).toMatchObject({ 'content-encoding': 'gzip', vary: 'accept-encoding' });
    expect(gunzipSync(zipped.body).equals(plain.body)).toBe(true);
    expect(zipped.body.length).toBeLessThan(plain.body.length / 2);
    expect((await ask('gzip;q=0')).headers['content-encoding']).toBeUndefined();
    expect((await ask('identity', '&_HLS_skip=YES')).body.equals(plain.body)).toBe(true);
  });

  test('an artifact, with ranges', async () => {
    const whole = await fetch(finished.videoUrl);
    expect([whole.status, whole.headers.get('content-type')]).toEqual([200, 'video/mp4']);
    const bytes = await whole.bytes();
    const end = await fetch(finished.videoUrl, { headers: { range: 'bytes=-5' } });
    expect([end.status, await end.bytes()]).toEqual([206, bytes.subarray(-5)]);
  });

  test('an artifact of a store that signs is fetched there', async () => {
    server.store.presign = async (key?: string) => `https://bucket.example/${key}` as never;
    const response = await fetch(finished.videoUrl, { redirect: 'manual' });
    server.store.presign = async () => undefined;
    expect([response.status, response.headers.get('location')]).toEqual([
      302,
      expect.stringContaining('https://bucket.example/sessions/'),
    ]);
  });

  test('nothing without a signature, with that of another session, or beyond the files that are served', async () => {
    const url = new URL(finished.chunkUrl);
    const status = async (path: string, query = url.search) => (await fetch(`${server.url}${path}${query}`)).status;
    const prefix = url.pathname.split('/').slice(0, 3).join('/');
    expect(await status(url.pathname, '')).toBe(403);
    const another = url.pathname.replace(/.(?=\/chunks)/, (last) => (last === 'x' ? 'y' : 'x'));
    expect(await status(another)).toBe(403);
    expect(await status(`${prefix}/chunks/999999.m4s`)).toBe(404);
    expect(await status(`${prefix}/session.json`)).toBe(404);
    expect(await status(`${prefix}/chunks/..%2fsession.json`)).toBe(404);
    expect(await status(`${prefix}/chunks/../session.json`)).toBe(404);
  });

  test('fetching keeps a session alive that nobody subscribes to', async () => {
    const before = await server.metric('longlive_media_bytes_total{source="memory"}');
    await (await fetch(finished.chunkUrl)).bytes();
    expect(await server.metric('longlive_media_bytes_total{source="memory"}')).toBe(before + 1000);
  });
});

describe('who may call', () => {
  const body = { query: '{ models { id } }' };

  test('with a token: those who have it, on every transport', async () => {
    expect((await post(guarded.url, body)).status).toBe(401);
    expect((await post(guarded.url, body, { authorization: 'Bearer wrong' })).status).toBe(401);
    expect((await post(guarded.url, body, { authorization: `Bearer ${TOKEN}` })).status).toBe(200);
    expect((await fetch(`${guarded.url}/metrics`)).status).toBe(401);
    expect((await fetch(`${guarded.url}/healthz`)).status).toBe(200);
    expect(await initialise(guarded.url, {})).toBe(4403);
    expect(await initialise(guarded.url, { authorization: `Bearer ${TOKEN}` })).toBe('connection_ack');
  });

  test('pages of listed origins only', async () => {
    const preflight = (origin: string) => fetch(`${guarded.url}/graphql`, { method: 'OPTIONS', headers: { origin } });
    const allowed = async (origin: string) => (await preflight(origin)).headers.get('access-control-allow-origin');
    expect(await allowed('https://friend.example')).toBe('https://friend.example');
    expect(await allowed('https://other.example')).toBeNull();
    expect(await initialise(guarded.url, { authorization: `Bearer ${TOKEN}` }, 'https://other.example')).toBe('error');
    expect(await initialise(guarded.url, { authorization: `Bearer ${TOKEN}` }, 'https://friend.example')).toBe(
      'connection_ack',
    );
  });
});

describe('the WebSocket', () => {
  test.each([
    { type: 'connection_ack' },
    { type: 'next', id: '1', payload: { data: null } },
    { type: 'error', id: '1', payload: [{ message: 'no' }] },
  ])('closes on what only a server sends, as on anything else that is malformed: $type', async (message) => {
    const socket = new WebSocket(`${server.url.replace('http', 'ws')}/graphql`, 'graphql-transport-ws');
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.once('open', () => socket.send('{"type":"connection_init"}'));
    socket.once('message', () => socket.send(JSON.stringify(message)));
    expect(await closed).toBe(4400);
  });

  test('has the same limits and reports them without closing', async () => {
    const socket = new WebSocket(`${server.url.replace('http', 'ws')}/graphql`, 'graphql-transport-ws');
    const messages: { type: string; payload?: { message: string }[] }[] = [];
    socket.on('message', (bytes: Buffer) => messages.push(JSON.parse(bytes.toString()) as never));
    socket.on('open', () => socket.send('{"type":"connection_init"}'));
    await until(() => messages.length === 1, 'it is acknowledged');
    const ask = (id: string, query: string) =>
      socket.send(JSON.stringify({ id, type: 'subscribe', payload: { query } }));
    ask('1', `{ ${'models { id } '.repeat(400)} }`);
    ask('2', '{ nonsense }');
    ask('3', '{ not graphql');
    ask('4', '{ models { id } }');
    await until(() => messages.length === 6, 'all have been answered');
    expect(messages.map(({ type }) => type).sort()).toEqual([
      'complete',
      'connection_ack',
      'error',
      'error',
      'error',
      'next',
    ]);
    socket.close();
  });
});

describe('operations', () => {
  test('health, readiness, metrics, the viewer, and nothing else', async () => {
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
    expect(await (await fetch(`${server.url}/readyz`)).json()).toEqual({ status: 'ready', problems: [] });
    server.store.check = () => Promise.reject(new StoreError('UNREACHABLE', 'Nobody home.'));
    const unready = await fetch(`${server.url}/readyz`);
    expect([unready.status, await unready.json()]).toEqual([
      503,
      { status: 'not ready', problems: ['The store cannot be reached or written to; see the log for the reason.'] },
    ]);
    server.store.check = () => Promise.resolve();
    server.engine.fault = 'The device has failed.';
    const faulty = await fetch(`${server.url}/readyz`);
    expect([faulty.status, await faulty.json()]).toEqual([
      503,
      { status: 'not ready', problems: ['The device has failed.'] },
    ]);
    const { createSession: refused } = await server.query<{ createSession: object }>(
      `mutation { createSession(input: { prompt: "a fox" }) { __typename ... on Error { message } } }`,
    );
    expect(refused).toMatchObject({ __typename: 'UnavailableError', message: 'The device has failed.' });
    server.engine.fault = undefined;
    expect((await fetch(`${server.url}/readyz`)).status).toBe(200);
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    for (const name of [
      'longlive_sessions',
      'longlive_http_request_seconds_count',
      'longlive_stream_events_total',
      'longlive_refused_recordings_total 0',
      'nodejs_eventloop_lag',
    ]) {
      expect(metrics).toContain(name);
    }
    expect((await fetch(`${server.url}/`)).headers.get('content-type')).toContain('text/html');
    expect((await fetch(`${server.url}/nothing`)).status).toBe(404);
    expect((await fetch(`${server.url}/`, { method: 'DELETE' })).status).toBe(405);
  });
});

/** What comes of opening a WebSocket with these parameters: the first message's type, or the close code. */
function initialise(url: string, payload: object, origin?: string): Promise<string | number> {
  return new Promise((resolve) => {
    const socket = new WebSocket(
      `${url.replace('http', 'ws')}/graphql`,
      'graphql-transport-ws',
      origin ? { origin } : {},
    );
    socket.on('open', () => socket.send(JSON.stringify({ type: 'connection_init', payload })));
    socket.on('message', (bytes: Buffer) => {
      resolve((JSON.parse(bytes.toString()) as { type: string }).type);
      socket.close();
    });
    socket.on('close', resolve);
    socket.on('error', () => resolve('error'));
  });
}

/** Without the decoding that fetch does. */
function fetchRaw(url: string, options: RequestOptions): Promise<{ headers: IncomingHttpHeaders; body: Buffer }> {
  return new Promise((resolve, reject) => {
    get(url, options, (response) => {
      buffer(response).then((body) => resolve({ headers: response.headers, body }), reject);
    }).on('error', reject);
  });
}

describe('what browsers are sent', () => {
  test.each([
    ['a-red-fox-4f.mp4', 'attachment; filename="a-red-fox-4f.mp4"'],
    ['rävar.mp4', 'attachment; filename="r_var.mp4"; filename*=UTF-8\'\'r%C3%A4var.mp4'],
    ['../secret.mp4', undefined],
    ['evil".mp4', undefined],
    ['a\r\nx-header: 1.mp4', undefined],
    ['page.html', undefined],
    [`${'x'.repeat(200)}.mp4`, undefined],
  ])('a file under the name that was asked for, if it is one: %j', async (name, expected) => {
    const answer = await fetch(`${finished.videoUrl}&name=${encodeURIComponent(name)}`);
    await answer.arrayBuffer();
    const told = answer.headers.get('content-disposition');
    expect(told).toBe(expected ?? `inline; filename="${videoName()}"`);
  });

  const videoName = () => `${/sessions\/([^/]+)\//.exec(finished.videoUrl)?.[1]}-video.mp4`;

  test('a page for a wrong address, where programs get JSON', async () => {
    const page = await fetch(`${server.url}/nowhere`, { headers: { accept: 'text/html,*/*' } });
    expect([page.status, page.headers.get('content-type')]).toEqual([404, 'text/html; charset=utf-8']);
    const text = await page.text();
    const [, style = ''] = /<style>(.*?)<\/style>/s.exec(text) ?? [];
    const hash = createHash('sha256').update(style).digest('base64');
    expect(page.headers.get('content-security-policy')).toContain(`style-src 'sha256-${hash}'`);
    const other = await fetch(`${server.url}/nowhere`);
    expect([other.status, other.headers.get('content-type')?.split(';')[0]]).toEqual([404, 'application/json']);
  });

  test('the studio compressed, for whoever takes that', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'longlive-studio-'));
    const html = `<!doctype html><title>LongLive</title>${'<p>words</p>'.repeat(200)}`;
    await writeFile(join(folder, 'index.html'), html);
    const files = await StaticFiles.load(folder);
    const small = createServer((_, response) => void files.handle('/', response)).listen(0, '127.0.0.1');
    await once(small, 'listening');
    const { port } = small.address() as AddressInfo;
    const ask = async (encoding: string) => {
      const [response] = (await once(
        get({ port, host: '127.0.0.1', headers: { 'accept-encoding': encoding } }),
        'response',
      )) as [IncomingMessage];
      return { encoding: response.headers['content-encoding'], bytes: await buffer(response) };
    };
    const zipped = await ask('gzip, deflate');
    expect([zipped.encoding, gunzipSync(zipped.bytes).toString()]).toEqual(['gzip', html]);
    expect((await ask('br;q=0, gzip;q=0')).bytes.toString()).toBe(html);
    const brotli = await ask('gzip, br');
    expect([brotli.encoding, brotliDecompressSync(brotli.bytes).toString()]).toEqual(['br', html]);
    await new Promise((resolve) => small.close(resolve));
    await rm(folder, { recursive: true });
  });
});
