import { mkdtempSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ComposedBackend, compose } from '../../../src/cli/backend.js';
import { openEngine } from '../../../src/engine/index.js';
import { createMediaFactory } from '../../../src/media/index.js';
import type { CreateSessionInput, SessionEvent } from '../../../src/sessions/index.js';
import { openStore } from '../../../src/storage/index.js';

/** The whole path but the network: native core, Pocket, encoder, files; small pictures, so that it is quick. */

const MODELS = fileURLToPath(new URL('../../../models', import.meta.url));
const INPUT: CreateSessionInput = {
  timeline: [{ prompt: 'a red fox walks over green grass' }, { prompt: 'a blue robot on sand at night', block: 2 }],
  width: 64,
  height: 64,
  seed: 11n,
  pace: 'FASTEST',
  maxSeconds: 3,
};
const BLOCKS = 5;

let directory: string;
const opened: ComposedBackend[] = [];

async function open(): Promise<ComposedBackend> {
  const engine = await openEngine({ models: MODELS, threads: 2 });
  const store = openStore(pathToFileURL(directory).href);
  const media = createMediaFactory({ workers: 1 });
  const logger = { info: () => undefined, warn: () => undefined, error: () => undefined };
  const backend = compose({ engine, media, store, policy: { checkpointBlocks: 2 }, logger });
  opened.push(backend);
  return backend;
}

async function until(
  { sessions }: ComposedBackend,
  id: string,
  enough: (event: SessionEvent) => boolean = () => false,
): Promise<SessionEvent[]> {
  const events: SessionEvent[] = [];
  for await (const event of sessions.subscribe(id)) {
    events.push(event);
    if (enough(event)) break;
  }
  return events;
}

const chunk = (id: string, n: number) => readFile(join(directory, `sessions/${id}/chunks/00000${n}.m4s`));
const chunksOf = (id: string, count = BLOCKS) => Promise.all(Array.from({ length: count }, (_, n) => chunk(id, n)));
const isChunk = (n: number) => (event: SessionEvent) => event.type === 'FrameChunk' && event.chunk === n;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'longlive-native-'));
});

afterAll(async () => {
  for (const backend of opened) {
    await backend.sessions.shutdown();
    await backend.close();
  }
  rmSync(directory, { recursive: true, force: true });
});

describe('a session on the native core', () => {
  it('gives the same bytes for the same request, also with a pause in between', async () => {
    const backend = await open();
    const plain = await backend.sessions.createSession(INPUT);
    const events = await until(backend, plain.id);
    expect(events.at(-1)).toMatchObject({ type: 'SessionEnded', state: 'COMPLETED', chunks: BLOCKS, frames: 57 });
    expect(events.find((event) => event.type === 'PromptApplied' && event.block === 2)).toMatchObject({ frame: 21 });

    const paused = await backend.sessions.createSession(INPUT);
    await until(backend, paused.id, isChunk(1));
    expect(await backend.sessions.pauseSession(paused.id)).toMatchObject({ state: 'PAUSED' });
    await backend.sessions.resumeSession(paused.id);
    await until(backend, paused.id);
    expect(await chunksOf(paused.id)).toEqual(await chunksOf(plain.id));
    expect(await backend.sessions.session(paused.id)).toMatchObject({ state: 'COMPLETED' });
  });

  it('forks: without a prompt to the bytes it would have made, with one to a story of its own', async () => {
    const backend = await open();
    const { id } = await backend.sessions.createSession(INPUT);
    await until(backend, id);
    const same = await backend.sessions.forkSession(id, { atChunk: 1, pace: 'FASTEST', maxSeconds: 3 });
    const other = await backend.sessions.forkSession(id, {
      ...{ atChunk: 3, prompt: 'a yellow bird on snow', pace: 'FASTEST', maxSeconds: 3 },
    });
    for (const fork of [same, other]) {
      const events = await until(backend, fork.id);
      expect(events.at(-1)).toMatchObject({ type: 'SessionEnded', state: 'COMPLETED', chunks: BLOCKS, frames: 57 });
      const { artifacts } = await backend.sessions.session(fork.id);
      expect(artifacts.map(({ kind }) => kind)).toEqual(['MP4', 'HLS', 'POSTER', 'TIMELINE']);
    }
    expect(await chunk(same.id, 1)).toEqual(await chunk(id, 1));
    await expect(chunk(same.id, 0)).rejects.toThrow('ENOENT');
    expect(await chunk(other.id, 3)).not.toEqual(await chunk(id, 3));
  });

  it('goes on in another process from its checkpoint', async () => {
    const first = await open();
    const { id } = await first.sessions.createSession(INPUT);
    await until(first, id, isChunk(2));
    await first.sessions.shutdown();
    const before = (await first.sessions.session(id)).chunks;
    const kept = await chunksOf(id, before);
    const second = await open();
    await second.sessions.start();
    expect(await second.sessions.session(id)).toMatchObject({ state: 'PAUSED', chunks: before });
    await second.sessions.resumeSession(id);
    const events = await until(second, id);
    expect(events.at(-1)).toMatchObject({ type: 'SessionEnded', state: 'COMPLETED', chunks: BLOCKS });
    expect(await chunksOf(id, before)).toEqual(kept);
  });
});
