import { mkdtempSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ComposedBackend, compose } from '../../../src/cli/backend.js';
import { openEngine } from '../../../src/engine/index.js';
import { findBox, readBoxes } from '../../../src/media/boxes.js';
import { readFragment, readInit } from '../../../src/media/cmaf.js';
import { parseDecoderConfiguration } from '../../../src/media/h264.js';
import { createMediaFactory, type MediaOptions } from '../../../src/media/index.js';
import { type CreateSessionInput, type SessionEvent, SILENT } from '../../../src/sessions/index.js';
import { openStore } from '../../../src/storage/index.js';
import { decode, nalUnits, psnr } from '../../unit/media/pictures.js';

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

async function open(mediaOptions: MediaOptions = {}): Promise<ComposedBackend> {
  const engine = await openEngine({ models: MODELS, threads: 2 });
  const store = openStore(pathToFileURL(directory).href);
  const media = createMediaFactory({ threads: 1, ...mediaOptions });
  const logger = SILENT;
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

  it("keeps Pocket's chunks below a ceiling, seams included", { timeout: 120_000 }, async () => {
    const maxBitsPerSecond = 130_000;
    const input = { ...INPUT, width: 256, height: 144, maxSeconds: 1 };
    const [free, bound] = [await open(), await open({ maxBitsPerSecond })];
    const [{ id: freeId }, { id: boundId }] = [
      await free.sessions.createSession(input),
      await bound.sessions.createSession(input),
    ];
    await Promise.all([until(free, freeId), until(bound, boundId)]);
    const [plain, coarse] = [await play(freeId, 2), await play(boundId, 2)];
    expect(coarse.bytes.every((bytes, i) => bytes <= (maxBitsPerSecond / 8) * ((i === 0 ? 9 : 12) / 16))).toBe(true);
    expect(coarse.bytes.every((bytes, i) => bytes < plain.bytes[i]!)).toBe(true);
    expect(coarse.pictures).toHaveLength(21);
    coarse.pictures.forEach((picture, i) => expect(psnr(picture, plain.pictures[i]!)).toBeGreaterThan(28));
  });
});

/** A session's first chunks as a player has them: one stream behind the init segment. */
async function play(id: string, count: number): Promise<{ bytes: number[]; pictures: Uint8Array[] }> {
  const chunks = await chunksOf(id, count);
  const avc1 = readBoxes(readInit(await readFile(join(directory, `sessions/${id}/init.mp4`))).entry)[0]!;
  const { sps, pps } = parseDecoderConfiguration(findBox(avc1.payload.subarray(78), 'avcC'));
  const slices = chunks.flatMap((bytes) => nalUnits(readFragment(bytes).payload));
  return { bytes: chunks.map(({ length }) => length), pictures: await decode([sps, pps, ...slices]) };
}
