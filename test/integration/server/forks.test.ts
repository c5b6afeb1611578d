import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createSession, playlistUris, startTestServer, type TestServer } from '../../support/test-server.js';
import { collect, TRANSPORTS, type WireEvent } from '../../support/transports.js';

let server: TestServer;
let parent: { id: string; events: WireEvent[] };

beforeAll(async () => {
  server = await startTestServer();
  const { id } = await createSession(server, { maxSeconds: 7 });
  parent = { id, events: await collect(TRANSPORTS[0]!.open(server.url, { id, media: 'INLINE' })) };
});

afterAll(() => server.close());

const FORK = /* GraphQL */ `
  mutation ($id: ID!, $atChunk: Int, $atSeconds: Float, $prompt: String, $key: String) {
    forkSession(
      sessionId: $id
      atChunk: $atChunk
      atSeconds: $atSeconds
      prompt: $prompt
      pace: FASTEST
      maxSeconds: 7
      idempotencyKey: $key
    ) {
      __typename
      ... on Session {
        id
        playlistUrl
        initUrl
        seconds
        parent {
          sessionId
          chunk
        }
      }
      ... on Error {
        code
        message
      }
      ... on InvalidInputError {
        field
      }
    }
  }
`;

interface Fork {
  id: string;
  playlistUrl: string;
  initUrl: string;
  seconds: number;
}

async function fork(variables: object): Promise<Fork> {
  return (await server.query<{ forkSession: Fork }>(FORK, { id: parent.id, ...variables })).forkSession;
}

const chunks = (events: WireEvent[]) => events.filter(({ __typename }) => __typename === 'FrameChunk');
const pathOf = (url: unknown) => new URL(url as string, server.url).pathname.split('/')[2];
const local = (id: string) => id.replace('Session:', '');

describe('a fork', () => {
  test.each(TRANSPORTS)('streams the part it inherited and its own as one session over $name', async (transport) => {
    const made = await fork({ atChunk: 4, prompt: 'a blue bird' });
    expect(made).toMatchObject({ __typename: 'Session', seconds: 45 / 16, parent: { sessionId: parent.id, chunk: 4 } });
    const inline = await collect(transport.open(server.url, { id: made.id, media: 'INLINE' }));
    expect(chunks(inline).map(({ index }) => index)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    const data = (events: WireEvent[]) => chunks(events).map((event) => event['data']);
    expect(data(inline).slice(0, 4)).toEqual(data(parent.events).slice(0, 4));
    expect(data(inline)[4]).not.toEqual(data(parent.events)[4]);
    const byUrl = chunks(await collect(transport.open(server.url, { id: made.id, media: 'URL' })));
    expect(byUrl.map(({ url }) => pathOf(url))).toEqual([
      ...Array<string>(4).fill(local(parent.id)),
      ...Array<string>(6).fill(local(made.id)),
    ]);
    const bodies = await Promise.all(
      byUrl.map(async ({ url }) =>
        Buffer.from(await (await fetch(server.url + (url as string))).bytes()).toString('base64'),
      ),
    );
    expect(bodies).toEqual(data(inline));
  });

  test('its playlist leads to every chunk, and its file holds them all', async () => {
    const made = await fork({ atSeconds: 2 });
    await collect(TRANSPORTS[0]!.open(server.url, { id: made.id, media: 'NONE' }));
    const playlistUrl = new URL(made.playlistUrl, server.url);
    const uris = playlistUris(await (await fetch(playlistUrl)).text());
    expect(uris.map((uri) => pathOf(new URL(uri, playlistUrl)))).toEqual([
      ...Array<string>(1 + 3).fill(local(parent.id)),
      ...Array<string>(7).fill(local(made.id)),
    ]);
    const answers = await Promise.all(uris.map((uri) => fetch(new URL(uri, playlistUrl))));
    expect(answers.map(({ status }) => status)).toEqual(uris.map(() => 200));
    expect((await fetch(new URL(made.initUrl, server.url))).status).toBe(200);
    const { session } = await server.query<{ session: { artifacts: { kind: string; url: string }[] } }>(
      `query ($id: ID!) { session(id: $id) { ... on Session { artifacts { kind url } } } }`,
      { id: made.id },
    );
    expect(session.artifacts.map(({ kind }) => kind)).toEqual(['MP4', 'HLS', 'POSTER', 'TIMELINE']);
    const files = await Promise.all(session.artifacts.map(({ url }) => fetch(new URL(url, server.url))));
    expect(files.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
  });

  test('gives away of its parent what it inherited, for as long as the link to it works, and nothing else', async () => {
    const made = await fork({ atChunk: 2 });
    await collect(TRANSPORTS[0]!.open(server.url, { id: made.id, media: 'NONE' }));
    const playlistUrl = new URL(made.playlistUrl, server.url);
    const uris = playlistUris(await (await fetch(playlistUrl)).text()).map((uri) => new URL(uri, playlistUrl));
    expect(new Set(uris.map((url) => url.searchParams.get('e')))).toEqual(new Set([playlistUrl.searchParams.get('e')]));
    const theirs = uris.filter((url) => pathOf(url) === local(parent.id));
    expect(theirs).toHaveLength(1 + 2);
    for (const url of [...theirs, ...uris.slice(-1), playlistUrl])
      for (const file of ['chunks/000002.m4s', 'chunks/000009.m4s', 'video.mp4', 'timeline.jsonl', 'index.m3u8'])
        expect((await fetch(`${server.url}/sessions/${local(parent.id)}/${file}${url.search}`)).status).toBe(403);
    const byUrl = chunks(await collect(TRANSPORTS[0]!.open(server.url, { id: made.id, media: 'URL' })));
    const inherited = new URL(byUrl[0]?.['url'] as string, server.url);
    expect((await fetch(`${server.url}/sessions/${local(parent.id)}/video.mp4${inherited.search}`)).status).toBe(403);
    const forged = await fetch(`${playlistUrl.href}==%0Ahttp://elsewhere.example/`);
    expect([forged.status, await forged.text()]).toEqual([403, expect.not.stringContaining('elsewhere') as string]);
  });

  test('is the same one for the same key', async () => {
    const made = await fork({ atChunk: 2, key: 'twice' });
    expect((await fork({ atChunk: 2, key: 'twice' })).id).toBe(made.id);
    expect(await fork({ atChunk: 3, key: 'twice' })).toMatchObject({ __typename: 'ConflictError', code: 'CONFLICT' });
  });

  test.each([
    [{ atChunk: 99 }, { __typename: 'InvalidInputError', field: 'atChunk' }],
    [
      { atChunk: 1, atSeconds: 1 },
      { __typename: 'InvalidInputError', field: 'atSeconds' },
    ],
    [{ id: 'Session:00000000000000000000000000' }, { __typename: 'NotFoundError', code: 'NOT_FOUND' }],
    [{ id: 'Model:fake' }, { __typename: 'InvalidInputError', field: 'sessionId' }],
  ])('%j is refused as data', async (variables, answer) => {
    expect(await fork(variables)).toMatchObject(answer);
  });
});
