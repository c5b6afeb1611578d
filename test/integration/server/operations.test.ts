import { queryObjects } from 'node:v8';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createSession, startTestServer, type TestServer, until } from '../../support/test-server.js';

let server: TestServer;
let sessionId: string;
beforeAll(async () => {
  server = await startTestServer({ settings: { requestSeconds: 1, graphiql: false } });
  sessionId = (await createSession(server, { maxSeconds: 1 })).id;
  await until(async () => (await server.service.session(sessionId.slice(8))).finishedAt !== undefined, 'it has ended');
});
afterAll(() => server.close());

interface Answer {
  data?: Record<string, unknown> | null;
  errors?: { message: string; extensions?: { code?: string } }[];
}

async function ask(query: string, variables: object = {}): Promise<Answer> {
  const response = await fetch(`${server.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query, variables }),
  });
  return (await response.json()) as Answer;
}

function countReads(): () => number {
  let reads = 0;
  server.store.fault = (operation) => {
    if (operation === 'get') reads++;
    return undefined;
  };
  return () => reads;
}

describe('pages', () => {
  test('7,000 times one id is refused before anything is read', async () => {
    const reads = countReads();
    const query = 'query ($i: [ID!]!) { nodes(ids: $i) { ... on Session { receipts { prompt } } } }';
    const { errors } = await ask(query, { i: Array(7000).fill(sessionId) });
    expect(errors).toMatchObject([{ extensions: { code: 'OPERATION_LIMIT' } }]);
    const cheap = await ask('query ($i: [ID!]!) { nodes(ids: $i) { id } }', { i: Array(7000).fill(sessionId) });
    expect(cheap.errors).toMatchObject([
      {
        message: expect.stringContaining('at most 100 items; got 7000') as string,
        extensions: { code: 'INVALID_INPUT' },
      },
    ]);
    expect(reads()).toBe(0);
    server.store.fault = () => undefined;
  });

  test.each(['x', '', ':', 'Nothing:x', '__proto__:x', 'toString:x'])('"%s" is refused as an id', async (id) => {
    const refused = (field: string) => [{ extensions: { code: 'INVALID_INPUT', field } }];
    const one = await ask('query ($id: ID!) { node(id: $id) { id } }', { id });
    expect(one.errors).toMatchObject(refused('id'));
    const many = await ask('query ($ids: [ID!]!) { nodes(ids: $ids) { id } }', { ids: [sessionId, id] });
    expect(many.errors).toMatchObject(refused('ids'));
  });

  test('prompts of a session come in pages, newest first, and a page too long is refused', async () => {
    const page = (args: string) =>
      ask(
        `query ($id: ID!) { session(id: $id) { ... on Session { receipts { prompt } timeline { prompt }
          promptReceipts${args} { nodes { prompt status } edges { cursor } pageInfo { hasNextPage endCursor } }
          timelineEntries { edges { node { prompt block } } } } } }`,
        { id: sessionId },
      );
    const { data } = await page('(first: 1)');
    expect(data?.['session']).toMatchObject({
      receipts: [{ prompt: 'a red fox' }],
      timeline: [{ prompt: 'a red fox' }],
      promptReceipts: { nodes: [{ prompt: 'a red fox', status: 'APPLIED' }], pageInfo: { hasNextPage: false } },
      timelineEntries: { edges: [{ node: { prompt: 'a red fox', block: 0 } }] },
    });
    expect((await page('(first: 101)')).errors).toMatchObject([
      { extensions: { code: 'INVALID_INPUT', field: 'first' } },
    ]);
    const [local = ''] = sessionId.split(':').slice(1);
    const cursor = Buffer.from(`1:${local}`).toString('base64url');
    expect((await page(`(after: "${cursor}")`)).errors).toBeUndefined();
    const beyond = Buffer.from(`999999:${local}`).toString('base64url');
    for (const after of ['nonsense', `${cursor}=`, `${cursor}\\n`, beyond]) {
      expect((await page(`(after: "${after}")`)).errors, after).toMatchObject([
        { extensions: { code: 'INVALID_INPUT', field: 'after' } },
      ]);
    }
  });
});

describe('the time of a request', () => {
  test('ends its work: nothing is read for it any more', async () => {
    const ids = Array.from({ length: 100 }, (_, i) => `Session:${String(i).padStart(26, '0')}`);
    let reads = 0;
    // Every read waits, then fails as if the store were away: each id would be asked for again and again.
    const { StoreError } = await import('../../../src/sessions/index.js');
    server.store.fault = (operation) => {
      if (operation !== 'get') return undefined;
      reads++;
      return { when: 'before', error: new StoreError('UNREACHABLE', 'Away.') };
    };
    const { errors } = await ask('query ($i: [ID!]!) { nodes(ids: $i) { id } }', { i: ids });
    expect(errors).toMatchObject([{ extensions: { code: 'TIMEOUT' } }]);
    const then = reads;
    expect(then).toBeGreaterThanOrEqual(100);
    await new Promise((resolve) => setTimeout(resolve, 700));
    expect(reads).toBe(then);
    server.store.fault = () => undefined;
  });

  test('keeps the mutations behind it from beginning', async () => {
    let created = 0;
    const create = server.service.createSession.bind(server.service);
    server.service.createSession = async () => {
      created++;
      await new Promise((resolve) => setTimeout(resolve, 1300));
      throw new Error('never answered');
    };
    const one = (name: string) => `${name}: createSession(input: { prompt: "x" }) { __typename }`;
    const { errors } = await ask(`mutation { ${one('a')} ${one('b')} }`);
    expect(errors).toMatchObject([{ extensions: { code: 'TIMEOUT' } }]);
    await new Promise((resolve) => setTimeout(resolve, 600));
    expect(created).toBe(1);
    server.service.createSession = create;
  });
});

test('a text that is too long, and introspection that nests or repeats, are refused', async () => {
  const code = async (query: string) => (await ask(query)).errors?.[0]?.extensions?.code;
  expect(await code(`{ models { id } } # ${'x'.repeat(70_000)}`)).toBe('OPERATION_LIMIT');
  const nested = '__schema { types { fields { type { fields { type { name } } } } } }';
  const aliases = Array.from({ length: 55 }, (_, i) => `a${i}: ${nested}`).join(' ');
  expect((await ask(`{ ${aliases} }`)).errors?.length).toBeGreaterThan(0);
  const deep = '{ __schema { types { fields { type { fields { type { fields { type { fields { name } } } } } } } } } }';
  expect((await ask(deep)).errors?.[0]?.message).toContain('introspection depth');
});

describe('operations of a WebSocket', () => {
  const open = async () => {
    const { WebSocket } = await import('ws');
    const socket = new WebSocket(`${server.url.replace('http', 'ws')}/graphql`, 'graphql-transport-ws');
    const messages: { id?: string; type: string; payload?: unknown }[] = [];
    socket.on('message', (data: Buffer) => messages.push(JSON.parse(data.toString()) as (typeof messages)[number]));
    const send = (message: object) => socket.send(JSON.stringify(message));
    await new Promise((resolve) => socket.once('open', resolve));
    send({ type: 'connection_init' });
    await until(() => messages.some(({ type }) => type === 'connection_ack'), 'it has logged in');
    return { socket, messages, send };
  };

  test('keep their places until their work has ended, also when they are completed early', async () => {
    const get = vi.spyOn(server.store, 'get').mockImplementation(() => new Promise(() => undefined));
    const { socket, messages, send } = await open();
    const answered = (wanted: string) => messages.find(({ id }) => id === wanted);
    for (let i = 0; i < 40; i++) {
      // What changes something is not ended by leaving it.
      const query = `mutation { stopSession(sessionId: "Session:${`${i}`.padStart(26, '0')}") { __typename } }`;
      send({ id: `${i}`, type: 'subscribe', payload: { query } });
      await until(() => get.mock.calls.length > i || answered(`${i}`) !== undefined, 'it has begun or is refused');
      send({ id: `${i}`, type: 'complete' });
    }
    expect(get).toHaveBeenCalledTimes(32);
    expect(JSON.stringify(answered('39'))).toContain('At most 32 operations');
    // Their time is over, too.
    await until(async () => {
      send({ id: 'next', type: 'subscribe', payload: { query: '{ __typename }' } });
      await new Promise((resolve) => setTimeout(resolve, 100));
      return messages.some(({ id, type }) => id === 'next' && type === 'next');
    }, 'there is a place again');
    get.mockRestore();
    socket.terminate();
  });

  test('that only read end when they are completed', async () => {
    const get = vi.spyOn(server.store, 'get').mockImplementation(() => new Promise(() => undefined));
    const { socket, messages, send } = await open();
    for (let i = 0; i < 40; i++) {
      const query = `{ session(id: "Session:${`${i}`.padStart(26, '0')}") { __typename } }`;
      send({ id: `${i}`, type: 'subscribe', payload: { query } });
      await until(() => get.mock.calls.length > i, 'it reads');
      send({ id: `${i}`, type: 'complete' });
    }
    expect(messages.filter(({ type }) => type === 'error')).toEqual([]);
    get.mockRestore();
    socket.terminate();
  });
});

test('keeps nothing of an operation that has ended', async () => {
  const server = await startTestServer();
  try {
    const ask = (times: number) =>
      Promise.all(Array.from({ length: times }, () => server.query('{ service { version } models { name } }')));
    await ask(40);
    const before = queryObjects(AbortSignal, { format: 'count' });
    for (let round = 0; round < 5; round++) await ask(40);
    expect(queryObjects(AbortSignal, { format: 'count' }) - before).toBeLessThan(100);
  } finally {
    await server.close();
  }
});
