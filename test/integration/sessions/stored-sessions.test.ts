import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ComposedBackend, compose } from '../../../src/cli/backend.js';
import { openEngine } from '../../../src/engine/index.js';
import { findBox, readBoxes } from '../../../src/media/boxes.js';
import { readFragment } from '../../../src/media/cmaf.js';
import { createMediaFactory } from '../../../src/media/index.js';
import { type SessionEvent, SILENT } from '../../../src/sessions/index.js';
import { openStore } from '../../../src/storage/index.js';
import { chunksOf, expectWhole, stored } from '../../support/fake-service.js';
import { writeToyPackage } from '../../support/toy-package.js';

/** Sessions that earlier releases have written (test/support/make-sessions.ts) on the native core and the real encoder. */

const DATA = fileURLToPath(new URL('../../data', import.meta.url));
const RELEASES = readdirSync(DATA).filter((name) => /^sessions-\d+$/.test(name));
const NAMES = ['finished', 'paused', 'forked', 'again', 'long', 'killed'] as const;
/** Chunks of each that every release makes; of the killed one it is open. */
const CHUNKS = { finished: 5, paused: 10, forked: 9, again: 8, long: 4 };

const opened: { backend: ComposedBackend; root: string }[] = [];

async function open(release: string): Promise<{ root: string; backend: ComposedBackend }> {
  const root = mkdtempSync(join(tmpdir(), 'longlive-stored-'));
  cpSync(join(DATA, release), join(root, 'data'), { recursive: true });
  writeToyPackage(join(root, 'models'));
  const engine = await openEngine({ models: join(root, 'models'), threads: 1, device: 'cpu' });
  const store = openStore(pathToFileURL(join(root, 'data')).href);
  const media = createMediaFactory({ threads: 1 });
  const backend = compose({ engine, media, store, logger: SILENT, policy: { checkpointBlocks: 2, idleSeconds: 0 } });
  opened.push({ backend, root });
  await backend.sessions.start();
  return { root, backend };
}

afterAll(async () => {
  for (const { backend, root } of opened) {
    await backend.sessions.shutdown();
    await backend.close();
    rmSync(root, { recursive: true, force: true });
  }
});

/** Everything up to the newest event that there is now, or to the one that is waited for. */
async function play(
  { sessions }: ComposedBackend,
  id: string,
  enough?: (event: SessionEvent) => boolean,
): Promise<SessionEvent[]> {
  const { lastSequence } = await sessions.session(id);
  const events: SessionEvent[] = [];
  for await (const event of sessions.subscribe(id, { inline: true })) {
    events.push(event);
    if (enough ? enough(event) : event.type !== 'Heartbeat' && event.sequence >= lastSequence) break;
  }
  return events;
}

function expectPlayable(events: SessionEvent[]): void {
  const chunks = chunksOf(events);
  expectWhole(stored(events), chunks.length);
  let frame = 0;
  for (const chunk of chunks) {
    const { firstFrame, samples } = readFragment(chunk.data as Uint8Array);
    expect([firstFrame, samples.length, samples[0]?.key]).toEqual([frame, chunk.frameCount, true]);
    frame += samples.length;
  }
}

it('there are sessions of earlier releases', () => expect(RELEASES).toContain('sessions-1'));

describe.each(RELEASES)('%s', (release) => {
  const ids = JSON.parse(readFileSync(join(DATA, `${release}.json`), 'utf8')) as Record<(typeof NAMES)[number], string>;
  let backend: ComposedBackend;
  let root: string;

  beforeAll(async () => {
    ({ backend, root } = await open(release));
  });

  it('lists and plays every session, as it was left', async () => {
    const { items } = await backend.sessions.sessions({ first: 50 });
    expect(items.map(({ id }) => id).sort()).toEqual(Object.values(ids).sort());
    for (const name of NAMES) {
      const events = await play(backend, ids[name]);
      expectPlayable(events);
      if (name !== 'killed') expect([name, chunksOf(events).length]).toEqual([name, CHUNKS[name]]);
      else expect(chunksOf(events).length).toBeGreaterThan(1);
      expect((await backend.sessions.playlist(ids[name])).match(/m4s/g)?.length).toBe(chunksOf(events).length);
    }
    expect(await backend.sessions.session(ids.finished)).toMatchObject({ state: 'COMPLETED', seed: 7n });
    expect(await backend.sessions.session(ids.long)).toMatchObject({ state: 'PAUSED' });
    const { timeline, receipts } = await backend.sessions.session(ids.paused);
    expect(timeline.map(({ block, prompt, mode }) => [block, prompt, mode])).toMatchObject([
      [0, 'a fox', 'RECACHE'],
      [expect.any(Number), 'a robot', 'CLEAR_CACHE'],
      [5, 'a ship', 'KEEP_CACHE'],
    ]);
    expect(receipts.map(({ status }) => status)).toContain('PENDING');
    expect(receipts.map(({ status }) => status)).toContain('SUPERSEDED');
  });

  it('downloads what is finished', () => {
    for (const name of ['finished', 'forked'] as const) {
      const video = readFileSync(join(root, `data/sessions/${ids[name]}/video.mp4`));
      expect(readBoxes(video).map(({ type }) => type)).toEqual(['ftyp', 'moov', 'mdat']);
      const sizes = findBox(video, 'moov', 'trak', 'mdia', 'minf', 'stbl', 'stsz');
      expect(sizes.readUInt32BE(8)).toBe(12 * CHUNKS[name] - 3);
    }
  });

  it.each(['paused', 'again', 'long', 'killed'] as const)('resumes %s without a hole, to its end', async (name) => {
    const id = ids[name];
    const { chunks } = await backend.sessions.session(id);
    await backend.sessions.resumeSession(id);
    const events = await play(backend, id, (event) => event.type === 'FrameChunk' && event.chunk === chunks);
    expectPlayable(events);
    await backend.sessions.stopSession(id);
    const all = await play(backend, id, (event) => event.type === 'SessionEnded');
    expectPlayable(all);
    expect(all.at(-1)).toMatchObject({ state: expect.stringMatching(/STOPPED|COMPLETED/) as string });
    const { artifacts } = await backend.sessions.session(id);
    expect(artifacts.map(({ kind }) => kind)).toEqual(['MP4', 'HLS', 'POSTER', 'TIMELINE']);
  });

  it.each(NAMES)('forks %s', async (name) => {
    const input = { atChunk: 2, prompt: 'a bird', pace: 'FASTEST', maxSeconds: 2 } as const;
    const { id } = await backend.sessions.forkSession(ids[name], input);
    const events = await play(backend, id, (event) => event.type === 'SessionEnded');
    expectPlayable(events);
    expect(events.at(-1)).toMatchObject({ state: 'COMPLETED', chunks: 3 });
  });
});

it('a session of a later release is named, with its version', async () => {
  const { root, backend } = await open('sessions-1');
  const { finished } = JSON.parse(readFileSync(join(DATA, 'sessions-1.json'), 'utf8')) as { finished: string };
  const path = join(root, `data/sessions/${finished}/session.json`);
  const record = JSON.parse(readFileSync(path, 'utf8')) as object;
  writeFileSync(path, JSON.stringify({ ...record, formatVersion: 99 }));
  await expect(backend.sessions.session(finished)).rejects.toThrow(/format version 99; this release reads .*1/);
});
