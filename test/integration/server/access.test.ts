import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import WebSocket from 'ws';
import { createClient } from '../../../packages/client/src/index.js';
import { schema } from '../../../src/api/index.js';
import { KeyFile } from '../../../src/server/credentials/key-file.js';
import { ALL_SCOPES, type Scope, SCOPE_OF } from '../../../src/sessions/index.js';
import { answering, sign, type SigningKey, signingKey } from '../../support/issuer.js';
import { MemoryStore } from '../../support/memory-store.js';
import { createSession, startTestServer, type TestServer, until } from '../../support/test-server.js';

const TOKEN = 'the-token-of-the-operator';
const bearer = (key: string) => ({ authorization: `Bearer ${key}` });

let server: TestServer;
let store: MemoryStore;
let keys: KeyFile;

beforeEach(async () => {
  store = new MemoryStore();
  keys = new KeyFile(store);
});
afterEach(() => server.close());

const start = async (settings = {}) =>
  void (server = await startTestServer({ store, settings: { token: TOKEN, ...settings } }));
const keyOf = async (tenant: string, scopes: readonly Scope[] = ALL_SCOPES.filter((scope) => scope !== 'admin')) =>
  (await keys.create({ tenant, scopes })).key;
const as = (key: string) => ({
  query: <T>(text: string, variables?: object) => server.query<T>(text, variables, bearer(key)),
});
const make = async (key: string, input: object = {}) =>
  (
    await as(key).query<{ createSession: { id: string; playlistUrl: string; cursor: string } }>(
      `mutation ($input: CreateSessionInput!) {
        createSession(input: $input) { ... on Session { id cursor playlistUrl } ... on Error { message } }
      }`,
      { input: { prompt: 'a red fox', pace: 'FASTEST', maxSeconds: 2, ...input } },
    )
  ).createSession;

/** Everything that takes a session's id, as one answer each. */
const ABOUT = {
  session: 'query ($id: ID!) { it: session(id: $id) { ...A } }',
  node: 'query ($id: ID!) { it: node(id: $id) { id } }',
  nodes: 'query ($id: ID!) { it: nodes(ids: [$id]) { id } }',
  artifact: 'query ($artifact: ID!) { it: artifact(id: $artifact) { ...A } }',
  export: 'query ($export: ID!) { it: export(id: $export) { ...A } }',
  switchPrompt: 'mutation ($id: ID!) { it: switchPrompt(sessionId: $id, prompt: "a cat") { ...A } }',
  planPrompt: 'mutation ($id: ID!) { it: planPrompt(sessionId: $id, prompt: "a cat", atBlock: 9) { ...A } }',
  movePrompt: 'mutation ($id: ID!) { it: movePrompt(sessionId: $id, receiptId: "r", atBlock: 9) { ...A } }',
  cancelPrompt: 'mutation ($id: ID!) { it: cancelPrompt(sessionId: $id, receiptId: "r") { ...A } }',
  pauseSession: 'mutation ($id: ID!) { it: pauseSession(sessionId: $id) { ...A } }',
  resumeSession: 'mutation ($id: ID!) { it: resumeSession(sessionId: $id) { ...A } }',
  stopSession: 'mutation ($id: ID!) { it: stopSession(sessionId: $id) { ...A } }',
  updateSession: 'mutation ($id: ID!) { it: updateSession(sessionId: $id, title: "t") { ...A } }',
  remakeArtifacts: 'mutation ($id: ID!) { it: remakeArtifacts(sessionId: $id) { ...A } }',
  forkSession: 'mutation ($id: ID!) { it: forkSession(sessionId: $id) { ...A } }',
  exportSession: 'mutation ($id: ID!) { it: exportSession(sessionId: $id) { ...A } }',
  cancelExport: 'mutation ($export: ID!) { it: cancelExport(id: $export) { ...A } }',
  acknowledgePlayback:
    'mutation ($id: ID!) { it: acknowledgePlayback(sessionId: $id, viewer: "v", seconds: 0) { ... on PlaybackAcknowledged { heard } ...A } }',
  deleteSession: 'mutation ($id: ID!) { it: deleteSession(sessionId: $id) { ...A } }',
};
const A = ' fragment A on Error { __typename code message }';
const textOf = (name: keyof typeof ABOUT) =>
  name.startsWith('node') ? ABOUT[name] : `${ABOUT[name].replaceAll('...A', '__typename ...A')}${A}`;
const variablesOf = (id: string) => ({
  id,
  artifact: `${id.replace('Session', 'Artifact')}/MP4`,
  export: `${id.replace('Session', 'Export')}/000000-000001`,
});

const NOBODY = 'Session:0123456789abcdefghjkmnpqrs';

describe("another tenant's session", () => {
  test.each(Object.keys(ABOUT) as (keyof typeof ABOUT)[])('is answered by %s like one that never was', async (name) => {
    await start();
    const [mine, other] = [await keyOf('acme'), await keyOf('zenith')];
    const { id } = await make(mine);
    await until(async () => (await server.service.session(id.slice(8))).finishedAt !== undefined, 'it has ended');
    const ask = (of: string) => as(other).query(textOf(name), variablesOf(of));
    const before = [...store.objects.keys()].filter((key) => !key.startsWith('access/')).sort();
    const answer = await ask(id);
    expect(answer).toEqual(await ask(NOBODY));
    expect(answer).toEqual(await ask(id));
    expect([...store.objects.keys()].filter((key) => !key.startsWith('access/')).sort()).toEqual(before);
    if (name === 'acknowledgePlayback') return; // Nobody generates one that has ended.
    const own = await as(mine).query<{ it: { code?: string } }>(textOf(name), variablesOf(id));
    expect(own).not.toEqual(answer);
  });

  test('is in no list, and its idempotency keys are its own', async () => {
    await start();
    const [mine, other] = [await keyOf('acme'), await keyOf('zenith')];
    const made = [await make(mine, { idempotencyKey: 'order' }), await make(other, { idempotencyKey: 'order' })];
    const third = await createSessionOfOperator({ idempotencyKey: 'order' });
    expect(new Set([...made.map(({ id }) => id), third]).size).toBe(3);
    expect((await make(mine, { idempotencyKey: 'order' })).id).toBe(made[0]?.id);
    expect(await list(mine)).toEqual([made[0]?.id]);
    expect(await list(other)).toEqual([made[1]?.id]);
    expect((await list(TOKEN)).sort()).toEqual([...made.map(({ id }) => id), third].sort());
  });

  test('is passed over page by page', async () => {
    await start();
    const [mine, other] = [await keyOf('acme'), await keyOf('zenith')];
    const made: string[] = [];
    for (const key of [mine, other, other, mine, other, mine]) {
      const { id } = await make(key);
      if (key === mine) made.unshift(id);
      await until(async () => (await server.service.session(id.slice(8))).finishedAt !== undefined, 'it has ended');
    }
    expect(await list(mine, 1)).toEqual(made);
  });

  test('cannot be told from none by its deletion', async () => {
    await start();
    const [mine, other] = [await keyOf('acme'), await keyOf('zenith')];
    const { id } = await make(mine);
    await until(async () => (await server.service.session(id.slice(8))).finishedAt !== undefined, 'it has ended');
    const ask = (key: string, of: string) =>
      as(key).query<{ it: { deletedAt?: string } }>(
        `mutation ($id: ID!) { it: deleteSession(sessionId: $id) { ... on DeletedSession { deletedAt } ...A } }${A}`,
        { id: of },
      );
    const deleted = await ask(mine, id);
    expect(deleted.it.deletedAt).toBeDefined();
    expect(await ask(mine, id)).toEqual(deleted);
    expect(await ask(other, id)).toEqual(await ask(other, NOBODY));
    expect(await as(other).query(textOf('session'), { id })).toEqual(
      await as(other).query(textOf('session'), { id: NOBODY }),
    );
  });

  const createSessionOfOperator = async (input: object) => (await make(TOKEN, input)).id;

  async function list(key: string, first = 20): Promise<string[]> {
    const ids: string[] = [];
    for (let after: string | null = null; ;) {
      const {
        sessions,
      }: { sessions: { edges: { node: { id: string } }[]; pageInfo: { endCursor: string; hasNextPage: boolean } } } =
        await as(key).query(
          'query ($first: Int, $after: String) { sessions(first: $first, after: $after) { ... on SessionConnection { edges { node { id } } pageInfo { endCursor hasNextPage } } } }',
          { first, after },
        );
      ids.push(...sessions.edges.map(({ node }) => node.id));
      if (!sessions.pageInfo.hasNextPage) return ids;
      after = sessions.pageInfo.endCursor;
    }
  }
});

describe('a scope', () => {
  test('is tried for every operation that there is', async () => {
    await start();
    const roots = [schema.getQueryType(), schema.getMutationType(), schema.getSubscriptionType()];
    const operations = roots.flatMap((root) => Object.keys(root?.getFields() ?? {}));
    const tried = [
      ...Object.keys(ABOUT),
      'createSession',
      'sessions',
      'models',
      'service',
      'sessionStream',
      'createClientToken',
      'refreshClientToken',
    ];
    expect(operations.sort()).toEqual(tried.sort());
  });

  /** Which scope each operation needs, as the domain has it. */
  const NEEDED = {
    ...SCOPE_OF,
    node: 'session:watch',
    nodes: 'session:watch',
    artifact: 'session:watch',
    acknowledgePlayback: 'session:watch',
  } as const;

  test.each(Object.keys(ABOUT) as (keyof typeof ABOUT)[])('is needed for %s, and no other one', async (name) => {
    await start();
    const { id } = await make(await keyOf('acme'));
    await until(async () => (await server.service.session(id.slice(8))).finishedAt !== undefined, 'it has ended');
    const scope = NEEDED[name];
    const others = ALL_SCOPES.filter((each) => each !== scope && each !== 'admin');
    const without = await keyOf('acme', others);
    const text = textOf(name);
    const variables = variablesOf(id);
    const body = await raw(without, text, variables);
    expect(body).toContain('FORBIDDEN');
    expect(body).toContain(scope);
    expect(await raw(await keyOf('acme', [scope]), text, variables)).not.toContain('FORBIDDEN');
  });

  test.each([
    [
      'createSession',
      'session:create',
      'mutation { createSession(input: {prompt: "a", maxSeconds: 1}) { __typename ... on Error { message code } } }',
    ],
    ['sessions', 'session:list', '{ sessions { __typename ... on Error { message code } } }'],
    ['models', 'models:read', '{ models { name } }'],
    ['node of a model', 'models:read', '{ node(id: "Model:fake") { id } }'],
  ] as const)('is needed for %s', async (_name, scope, text) => {
    await start();
    const others = ALL_SCOPES.filter((each) => each !== scope && each !== 'admin');
    expect(await raw(await keyOf('acme', others), text, {})).toContain('FORBIDDEN');
    expect(await raw(await keyOf('acme', [scope]), text, {})).not.toContain('FORBIDDEN');
  });

  test('admin is needed for metrics, and to see how busy others are', async () => {
    await start();
    const [key, admin] = [await keyOf('acme'), await keyOf('acme', ['admin'])];
    await make(key);
    const status = async (of?: string) =>
      (await fetch(`${server.url}/metrics`, of === undefined ? {} : { headers: bearer(of) })).status;
    expect([await status(), await status(key), await status(admin), await status(TOKEN)]).toEqual([401, 403, 200, 200]);
    const text = '{ service { accepting devices { load } sessions { count } } }';
    expect(await as(key).query(text)).toEqual({ service: { accepting: true, devices: [], sessions: [] } });
    expect(await as(admin).query<{ service: { devices: object[] } }>(text)).toMatchObject({
      service: { devices: [{}] },
    });
  });

  async function raw(key: string, text: string, variables: object): Promise<string> {
    const response = await fetch(`${server.url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...bearer(key) },
      body: JSON.stringify({ query: text, variables }),
    });
    return response.text();
  }
});

const STREAM = 'subscription ($id: ID!) { sessionStream(sessionId: $id) { __typename ... on Error { code message } } }';

/** A stream over a WebSocket: what came, and how it was closed. */
function socketOf(key: string | undefined, id: string) {
  const seen: string[] = [];
  const socket = new WebSocket(`${server.url.replace('http', 'ws')}/graphql`, 'graphql-transport-ws');
  const closed = new Promise<number>((resolve) => socket.once('close', resolve));
  socket.on('open', () =>
    socket.send(JSON.stringify({ type: 'connection_init', payload: key === undefined ? {} : bearer(key) })),
  );
  socket.on('message', (bytes: Buffer) => {
    const { type } = JSON.parse(bytes.toString()) as { type: string };
    seen.push(bytes.toString());
    if (type === 'connection_ack')
      socket.send(JSON.stringify({ id: '1', type: 'subscribe', payload: { query: STREAM, variables: { id } } }));
  });
  return { seen, closed, socket };
}

describe('a stream', () => {
  const endless = { maxSeconds: undefined, pace: 'REALTIME' };

  test("of another tenant's session is one error, over either transport, in the words for none", async () => {
    await start();
    const [mine, other] = [await keyOf('acme'), await keyOf('zenith')];
    const { id } = await make(mine, endless);
    const answers = await Promise.all(
      [id, NOBODY].map(async (of) => {
        const { seen, socket } = socketOf(other, of);
        await until(() => seen.length === 3, 'the stream has ended');
        socket.close();
        const sse = await fetch(`${server.url}/graphql`, {
          method: 'POST',
          headers: { 'content-type': 'application/json', accept: 'text/event-stream', ...bearer(other) },
          body: JSON.stringify({ query: STREAM, variables: { id: of } }),
        });
        return [...seen, await sse.text()];
      }),
    );
    expect(answers[0]).toEqual(answers[1]);
    expect(answers[0]?.[1]).toContain('NOT_FOUND');
  });

  test('is closed with 4403, or cut off, soon after its key is revoked; others go on', async () => {
    await start();
    const { key, record } = await keys.create({ tenant: 'acme', scopes: ['session:watch', 'session:create'] });
    const { id } = await make(key, endless);
    const other = await keyOf('acme', ['session:watch']);
    const [ended, goesOn] = [socketOf(key, id), socketOf(other, id)];
    const sse = await fetch(`${server.url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'text/event-stream', ...bearer(key) },
      body: JSON.stringify({ query: STREAM, variables: { id } }),
    });
    await until(() => ended.seen.length > 2 && goesOn.seen.length > 2, 'both have events');
    await keys.revoke(record.id);
    expect(await ended.closed).toBe(4403);
    await expect(sse.text()).rejects.toThrow();
    expect(goesOn.socket.readyState).toBe(WebSocket.OPEN);
    goesOn.socket.close();
    expect(await socketOf(key, id).closed).toBe(4403);
  });

  test('without a credential is for nobody as soon as there are keys', async () => {
    await start({ token: undefined });
    const { id } = await createSession(server, endless);
    const stream = socketOf(undefined, id);
    await until(() => stream.seen.length > 2, 'it has events');
    await keyOf('acme');
    expect(await stream.closed).toBe(4403);
    expect((await fetch(`${server.url}/graphql?query={__typename}`)).status).toBe(401);
  });
});

describe("a token of the customer's identity provider", () => {
  const STARTED = Math.floor(Date.now() / 1000);
  const claims = { iss: 'https://login.example/', aud: 'longlive', sub: 'ann', scope: 'session:create session:watch' };
  let provider: Awaited<ReturnType<typeof answering>>;
  let signing: SigningKey;
  let down = false;

  beforeEach(async () => {
    signing = await signingKey('one');
    down = false;
    provider = await answering((_request, response) =>
      down ? response.writeHead(500).end() : response.end(JSON.stringify({ keys: [signing.jwk] })),
    );
  });
  afterEach(() => provider.close());

  const startWithProvider = () =>
    start({ token: undefined, jwtIssuer: claims.iss, jwtAudience: 'longlive', jwtJwks: provider.url });
  const tokenOf = (tenant: string, exp = STARTED + 600) => sign(signing, { ...claims, tenant, exp });

  test('is its tenant, in its scopes, over HTTP and WebSocket; at its end the socket is closed with 4403', async () => {
    await startWithProvider();
    const [mine, other] = [await tokenOf('acme'), await tokenOf('zenith')];
    const { id } = await make(mine, { maxSeconds: undefined, pace: 'REALTIME' });
    const ask = (name: keyof typeof ABOUT, token: string, of: string) => as(token).query(textOf(name), variablesOf(of));
    expect(await ask('session', mine, id)).toMatchObject({ it: { __typename: 'Session' } });
    expect(await ask('session', other, id)).toEqual(await ask('session', other, NOBODY));
    expect(await ask('pauseSession', mine, id)).toMatchObject({ it: { code: 'FORBIDDEN' } });
    // Within the minute that clocks may differ by.
    const [ends, stays] = [socketOf(await tokenOf('acme', Math.floor(Date.now() / 1000) - 57), id), socketOf(mine, id)];
    await until(() => ends.seen.length > 2 && stays.seen.length > 2, 'both have events');
    expect(await ends.closed).toBe(4403);
    expect(stays.socket.readyState).toBe(WebSocket.OPEN);
    stays.socket.close();
  });

  test('that is not right is refused like none at all', async () => {
    await startWithProvider();
    const answerTo = async (headers: Record<string, string>) => {
      const response = await fetch(`${server.url}/graphql?query={__typename}`, { headers });
      return [response.status, response.headers.get('www-authenticate'), await response.text()];
    };
    const none = await answerTo({});
    expect(none[0]).toBe(401);
    const stranger = await signingKey('one');
    for (const wrong of [
      await sign(stranger, { ...claims, tenant: 'acme', exp: STARTED + 600 }),
      await sign(signing, { ...claims, tenant: 'acme' }),
      await sign(signing, { ...claims, tenant: 'a b', exp: STARTED + 600 }),
      await tokenOf('acme', STARTED - 600),
    ]) {
      expect(await answerTo(bearer(wrong))).toEqual(none);
      expect(await socketOf(wrong, NOBODY).closed).toBe(4403);
    }
    expect((await answerTo(bearer(await tokenOf('acme'))))[0]).toBe(200);
  });

  test('is told to try again while the provider has not said which keys it has', async () => {
    down = true;
    await startWithProvider();
    const response = await fetch(`${server.url}/graphql?query={__typename}`, {
      headers: bearer(await tokenOf('acme')),
    });
    expect([response.status, await response.text()]).toEqual([503, expect.stringContaining('identity provider')]);
    expect(await socketOf(await tokenOf('acme'), NOBODY).closed).toBe(1013);
    const ready = await fetch(`${server.url}/readyz`);
    expect([ready.status, await ready.text()]).toEqual([200, expect.stringContaining('jwtJwks')]);
  });

  test('makes client tokens that end no later than it does', async () => {
    await startWithProvider();
    const { id } = await make(await tokenOf('acme'), { maxSeconds: undefined, pace: 'REALTIME' });
    const query = `mutation ($id: ID!) { it: createClientToken(sessionId: $id, scopes: ["session:watch"], ttlSeconds: 600) { ... on ClientToken { expiresAt } } }`;
    const exp = Math.floor(Date.now() / 1000) + 30;
    const { it } = await as(await tokenOf('acme', exp)).query<{ it: { expiresAt: string } }>(query, { id });
    expect(Date.parse(it.expiresAt)).toBeLessThanOrEqual((exp + 60) * 1000);
  });
});

describe('a client token', () => {
  const MINT = `mutation ($id: ID!, $scopes: [String!]!, $ttl: Int) {
    it: createClientToken(sessionId: $id, scopes: $scopes, ttlSeconds: $ttl) { ... on ClientToken { token expiresAt } ...A }
  }${A}`;
  type Minted = { it: { token: string; code?: string } };
  const mint = async (key: string, id: string, scopes = ['session:watch'], ttl = 300) =>
    (await as(key).query<Minted>(MINT, { id, scopes, ttl })).it;
  const endless = { maxSeconds: undefined, pace: 'REALTIME' };

  test('reaches its session in its scopes, and nothing else; it makes no others', async () => {
    await start();
    const key = await keyOf('acme');
    const [{ id }, other] = [await make(key, endless), await make(key)];
    const { token } = await mint(key, id);
    const ask = (name: keyof typeof ABOUT, of: string) => as(token).query(textOf(name), variablesOf(of));
    expect(await ask('session', id)).toMatchObject({ it: { __typename: 'Session' } });
    expect(await ask('session', other.id)).toEqual(await ask('session', NOBODY));
    expect(await ask('pauseSession', id)).toMatchObject({ it: { code: 'FORBIDDEN' } });
    expect(await as(token).query(`{ sessions { __typename } }`)).toMatchObject({
      sessions: { __typename: 'ForbiddenError' },
    });
    expect(await mint(token, id)).toMatchObject({ code: 'FORBIDDEN' });
  });

  test('has no more than who makes it has, and is of the tenant of its session', async () => {
    await start();
    const [key, watcher, other] = [await keyOf('acme'), await keyOf('acme', ['session:watch']), await keyOf('zenith')];
    const { id } = await make(key, endless);
    expect(await mint(watcher, id, ['session:watch', 'session:prompt'])).toMatchObject({ code: 'FORBIDDEN' });
    expect(await mint(other, id)).toMatchObject({ code: 'NOT_FOUND' });
    for (const scopes of [['admin'], ['session:list'], [], ['dream']])
      expect(await mint(TOKEN, id, scopes), String(scopes)).toMatchObject({ code: 'INVALID_INPUT' });
    for (const ttl of [0, 601]) expect(await mint(key, id, undefined, ttl)).toMatchObject({ code: 'INVALID_INPUT' });
    const { token } = await mint(TOKEN, id);
    expect(await as(token).query(textOf('session'), { id })).toMatchObject({ it: { __typename: 'Session' } });
  });

  test('closes its WebSocket with 4403 at its end, unless the socket is given another one', async () => {
    await start();
    const key = await keyOf('acme');
    const { id } = await make(key, endless);
    const [short, prolonged] = [await mint(key, id, undefined, 3), await mint(key, id, undefined, 3)];
    const [ends, stays] = [socketOf(short.token, id), socketOf(prolonged.token, id)];
    await until(() => ends.seen.length > 2 && stays.seen.length > 2, 'both have events');
    const refresh = async (token: string) => {
      const query = 'mutation ($token: String!) { it: refreshClientToken(token: $token) { __typename ...A } }' + A;
      stays.socket.send(JSON.stringify({ id: token, type: 'subscribe', payload: { query, variables: { token } } }));
      await until(() => stays.seen.some((text) => text.includes(`"${token}"`)), 'it is answered');
      return stays.seen.find((text) => text.includes(`"${token}"`));
    };
    const elsewhere = await mint(key, (await make(key)).id);
    for (const wrong of [elsewhere.token, key, 'x']) expect(await refresh(wrong)).toContain('INVALID_INPUT');
    expect(await refresh((await mint(key, id)).token)).toContain('ClientTokenRefreshed');
    expect(await ends.closed).toBe(4403);
    expect(stays.socket.readyState).toBe(WebSocket.OPEN);
    stays.socket.close();
    expect(await socketOf(short.token, id).closed).toBe(4403);
  });

  test('ends with the key that made it', async () => {
    await start();
    const { key, record } = await keys.create({ tenant: 'acme', scopes: ['session:watch', 'session:create'] });
    const { id } = await make(key, endless);
    const { token } = await mint(key, id);
    const stream = socketOf(token, id);
    await until(() => stream.seen.length > 2, 'it has events');
    await keys.revoke(record.id);
    expect(await stream.closed).toBe(4403);
    await expect(as(token).query(textOf('session'), { id })).rejects.toThrow(/401/);
  });

  test('may stand in the query of a stream over GET, where no other credential is taken, for pages that may call', async () => {
    await start();
    const key = await keyOf('acme');
    const { id } = await make(key, endless);
    const { token } = await mint(key, id);
    const url = (given: string) =>
      `${server.url}/graphql?${new URLSearchParams({ query: STREAM, variables: JSON.stringify({ id }), token: given }).toString()}`;
    const status = async (given: string, headers: object = {}) => {
      const stop = new AbortController();
      const response = await fetch(url(given), {
        headers: { accept: 'text/event-stream', ...headers },
        signal: stop.signal,
      });
      stop.abort();
      return response.status;
    };
    expect(await status(token)).toBe(200);
    expect(await status(token, { origin: server.url })).toBe(200);
    expect(await status(token, { origin: 'https://elsewhere.example' })).toBe(403);
    expect(await status(token, { 'sec-fetch-site': 'cross-site' })).toBe(403);
    expect([await status(key), await status(TOKEN), await status(`${token}x`)]).toEqual([401, 401, 401]);
    expect((await fetch(url(token), { headers: { accept: 'application/json' } })).status).toBe(401);
  });

  test('that ends in the middle costs a client kit no chunk: it asks for another one', async () => {
    await start();
    const key = await keyOf('acme');
    const { id } = await make(key, { pace: 'REALTIME', maxSeconds: 8 });
    let asked = 0;
    await using client = createClient({
      url: server.url,
      webSocket: WebSocket,
      token: async () => (asked++, (await mint(key, id, undefined, 2)).token),
    });
    const indexes: number[] = [];
    for await (const event of (await client.session(id)).events())
      if (event.type === 'chunk') indexes.push(event.index);
    expect(indexes).toEqual(Array.from({ length: indexes.length }, (_, index) => index));
    expect(indexes.length).toBeGreaterThan(8);
    expect(asked).toBeGreaterThan(2);
  });
});
