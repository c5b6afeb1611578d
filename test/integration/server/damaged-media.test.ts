import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createSession, playlistUris, startTestServer, type TestServer, until } from '../../support/test-server.js';

/** Chunks over plain HTTP: nobody gets bytes that are not what was written. */

const logged: { details: { key?: string }; message: string }[] = [];
/** Of which few fit into the server's memory: what was asked for longer ago is read from the store. */
const CHUNK_BYTES = 400_000;
let server: TestServer;
let id: string;
beforeAll(async () => {
  const onError = (details: object, message: string) => void logged.push({ details, message });
  server = await startTestServer({ settings: { mediaCacheMegabytes: 1 }, chunkBytes: CHUNK_BYTES, onError });
  id = bare((await createSession(server, { maxSeconds: 6 })).id);
  await until(async () => (await server.service.session(id)).finishedAt !== undefined, 'the session has ended');
});
afterAll(() => server.close());

/** As the store knows it. */
function bare(globalId: string): string {
  return globalId.replace(/^Session:/, '');
}

async function urls(of = id): Promise<string[]> {
  const { session } = await server.query<{ session: { playlistUrl: string } }>(
    'query ($id: ID!) { session(id: $id) { ... on Session { playlistUrl } } }',
    { id: `Session:${of}` },
  );
  const playlist = new URL(session.playlistUrl, server.url);
  return playlistUris(await (await fetch(playlist)).text()).map((uri) => new URL(uri, playlist).href);
}

function damage(key: string): () => void {
  const entry = server.store.objects.get(key);
  if (!entry) throw new Error(`There is no ${key}.`);
  const before = entry.bytes;
  entry.bytes = Uint8Array.from(before);
  entry.bytes[Math.floor(before.length / 2)]! ^= 1;
  return () => void (entry.bytes = before);
}

describe.each([
  ['a chunk', 'chunks/000003.m4s', 4],
  ['an init segment', 'init.mp4', 0],
])('%s with a flipped bit', (_what, file, at) => {
  it('is named, logged and not sent, in parts neither; the others are', async () => {
    const key = `sessions/${id}/${file}`;
    const all = await urls();
    const url = all[at] as string;
    expect(new URL(url).pathname).toBe(`/${key}`);
    for (const other of all) if (other !== url) await (await fetch(other)).arrayBuffer();
    const mend = damage(key);
    logged.length = 0;
    for (const range of ['', 'bytes=0-9']) {
      const answer = await fetch(url, { headers: { range } });
      expect(answer.status).toBe(500);
      const { error } = (await answer.json()) as { error: { code: string; message: string } };
      expect(error.code).toBe('STORAGE');
      expect(error.message).toContain(`of session ${id} is damaged: its checksum differs; run longlive fsck`);
      expect(error.message).not.toContain(key);
    }
    expect(logged.map(({ details, message }) => [details.key, message])).toEqual([
      [key, 'A stored file is damaged'],
      [key, 'A stored file is damaged'],
    ]);
    expect((await fetch(all[2] as string)).status).toBe(200);
    mend();
    expect((await fetch(url)).status).toBe(200);
  });
});

describe.each([
  ['a finished video', 'MP4'],
  ['a timeline', 'TIMELINE'],
  ['a poster', 'POSTER'],
])('%s with a flipped bit', (_what, kind) => {
  it('is named and not sent, in parts neither', async () => {
    const { session } = await server.query<{ session: { artifacts: { kind: string; url: string }[] } }>(
      'query ($id: ID!) { session(id: $id) { ... on Session { artifacts { kind url } } } }',
      { id: `Session:${id}` },
    );
    const url = new URL(session.artifacts.find((artifact) => artifact.kind === kind)?.url as string, server.url);
    expect((await fetch(url)).status).toBe(200);
    const key = url.pathname.slice(1);
    const entry = server.store.objects.get(key) as { etag: string };
    const { etag } = entry;
    const mend = damage(key);
    entry.etag = 'another';
    for (const range of ['', 'bytes=0-9']) {
      const answer = await fetch(url, { headers: { range } });
      expect(answer.status).toBe(500);
      expect(await answer.text()).toMatch(/of session \S+ is damaged: its checksum differs; run longlive fsck/);
    }
    mend();
    entry.etag = etag;
    expect((await fetch(url)).status).toBe(200);
  });
});

it('reads an artifact through only once before it is sent', async () => {
  const key = `sessions/${id}/video.mp4`;
  const { etag } = server.store.objects.get(key) as { etag: string };
  let reads = 0;
  const get = server.store.get.bind(server.store);
  server.store.get = async (...args) => {
    if (args[0] === key) reads++;
    return get(...args);
  };
  const { service, store } = server;
  await Promise.all(Array.from({ length: 5 }, () => service.checkArtifact(key, `${etag}-new`)));
  await service.checkArtifact(key, `${etag}-new`);
  expect(reads).toBe(1);
  store.get = get;
});

it('reads the log once for all chunks, and none for what is in memory', async () => {
  const all = await urls();
  const read: string[] = [];
  const get = server.store.get.bind(server.store);
  server.store.get = async (key, ...rest) => {
    read.push(key);
    return get(key, ...rest);
  };
  for (const url of all) expect((await fetch(url)).status).toBe(200);
  expect(read.filter((key) => key.includes('/log/'))).toEqual([]);
  // Each once, but for what the server still has in memory.
  expect(read.length).toBeGreaterThan(all.length - 4);
  expect(read.length).toBeLessThanOrEqual(all.length);
  server.store.get = get;
});

it('still sends what its session, which was deleted, left to a fork, if that is whole', async () => {
  const { forkSession } = await server.query<{ forkSession: { id: string } }>(
    'mutation ($id: ID!) { forkSession(sessionId: $id, atChunk: 4, pace: FASTEST, maxSeconds: 6) { ... on Session { id } } }',
    { id: `Session:${id}` },
  );
  const fork = bare(forkSession.id);
  await until(async () => (await server.service.session(fork)).finishedAt !== undefined, 'the fork has ended');
  await server.service.deleteSession(id);
  await until(() => !server.store.objects.has(`sessions/${id}/log/000000.jsonl`), 'the log is gone');
  const inherited = (await urls(fork)).filter((url) => url.includes(id));
  expect(inherited.length).toBeGreaterThan(3);
  for (const url of inherited) expect((await fetch(url)).status).toBe(200);
  for (const url of inherited) {
    const key = new URL(url).pathname.slice(1);
    // Beyond what the server has in memory.
    for (const other of inherited) if (other !== url) await (await fetch(other)).arrayBuffer();
    const mend = damage(key);
    const answer = await fetch(url);
    expect(answer.status).toBe(500);
    expect(await answer.text()).toMatch(/of session \S+ is damaged/);
    mend();
  }
});
