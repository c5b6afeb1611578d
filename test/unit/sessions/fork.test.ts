import { describe, expect, it, vi } from 'vitest';
import {
  Checker,
  type ForkSessionInput,
  type Session,
  type StoredEvent,
  StoreError,
} from '../../../src/sessions/index.js';
import { FAKE_MODEL } from '../../support/fake-engine.js';
import { pictureOf } from '../../support/fake-media.js';
import {
  chunksOf,
  expectWhole,
  makeParent,
  makeWorld,
  read,
  readToEnd,
  successorOf,
  type World,
} from '../../support/fake-service.js';

// Virtual time costs little, but a crowded machine may take its time over it.
vi.setConfig({ testTimeout: 60_000 });

const pictures = (events: StoredEvent[]) => chunksOf(events).map(({ data }) => pictureOf(data).picture);
const applied = (events: StoredEvent[]) =>
  events.flatMap((event) => (event.type === 'PromptApplied' ? [[event.block, event.prompt]] : []));

/** 17 chunks of two prompts. */
const STORY = {
  timeline: [{ prompt: 'a fox' }, { prompt: 'a robot', block: 6 }],
  maxSeconds: 12,
  pace: 'FASTEST' as const,
  seed: 3n,
};

async function finished(world: World, input: object = STORY): Promise<{ id: string; events: StoredEvent[] }> {
  const { id } = await world.clock.until(world.service.createSession({ ...STORY, ...input }));
  return { id, events: await readToEnd(world, id) };
}

function fork(world: World, id: string, input: ForkSessionInput = {}): Promise<Session> {
  return world.clock.until(world.service.forkSession(id, { pace: 'FASTEST', maxSeconds: 12, ...input }));
}

describe('a fork', () => {
  it("has its parent's video up to the chunk and goes its own way from there, and the parent stays as it is", async () => {
    const world = makeWorld();
    const parent = await finished(world);
    const made = await fork(world, parent.id, { atChunk: 9, prompt: ' a bird ' });
    expect(made).toMatchObject({
      ...{ parent: { sessionId: parent.id, chunk: 9 }, chunks: 9, frames: 105, prompt: 'a robot' },
      ...{ model: 'fake', modelDigest: 'd1', seed: 3n, width: 64, height: 64, maxSeconds: 12 },
    });
    const events = await readToEnd(world, made.id);
    expectWhole(events, 17);
    expect(pictures(events).slice(0, 9)).toEqual(pictures(parent.events).slice(0, 9));
    expect(pictures(events)[9]).not.toEqual(pictures(parent.events)[9]);
    const prefixes = chunksOf(events).map(({ key, initKey }) => [key.split('/')[1], initKey.split('/')[1]]);
    expect(prefixes).toEqual([
      ...Array<string[]>(9).fill([parent.id, parent.id]),
      ...Array<string[]>(8).fill([made.id, made.id]),
    ]);
    expect(applied(events)).toEqual([
      [0, 'a fox'],
      [6, 'a robot'],
      [9, 'a bird'],
    ]);
    const whole = await world.service.session(made.id);
    expect(whole.timeline.map(({ block, seconds }) => [block, seconds])).toEqual([
      [0, 0],
      [6, 69 / 16],
      [9, 105 / 16],
    ]);
    expect(whole.artifacts.map(({ kind }) => kind)).toEqual(['MP4', 'HLS', 'POSTER', 'TIMELINE']);
    expect(await readToEnd(world, parent.id)).toEqual(parent.events);
  });

  it('that is given no prompt makes what its parent made', async () => {
    const world = makeWorld({ policy: { checkpointBlocks: 1_000 } });
    const parent = await finished(world, { timeline: undefined, prompt: 'a fox' });
    const events = await readToEnd(world, (await fork(world, parent.id, { atChunk: 4 })).id);
    expect(pictures(events)).toEqual(pictures(parent.events));
    expect(world.engine.opened).toEqual(['open', 'open']);
  });

  it('goes on from the checkpoint before, and keeps it', async () => {
    const world = makeWorld({ policy: { checkpointBlocks: 4 } });
    const { id } = await finished(world);
    const made = await fork(world, id, { atChunk: 10 });
    expect(world.store.objects.has(`sessions/${made.id}/checkpoints/000008.safetensors`)).toBe(true);
    const before = world.clock.now();
    await world.clock.until(read(world, made.id, {}, (event) => event.type === 'FrameChunk' && event.chunk === 10));
    expect(world.engine.opened.at(-1)).toBe('restore');
    // Two blocks again, of six steps, and the frames of one that is new: no more than that.
    expect(world.clock.now() - before).toBe(2 * 6 * 50 + 5 * 50);
  });

  it('begins where a live session is, which goes on', async () => {
    const world = makeWorld();
    const { id } = await world.clock.until(world.service.createSession(STORY));
    await world.clock.advance(1_100);
    const { chunks: there } = await world.service.session(id);
    expect(there).toBeGreaterThan(1);
    const made = await fork(world, id, { prompt: 'a bird' });
    expect(made.parent).toEqual({ sessionId: id, chunk: there });
    expectWhole(await readToEnd(world, made.id), 17);
    expectWhole(await readToEnd(world, id), 17);
  });

  it('of a fork has the video of both, and finds the checkpoint of the first', async () => {
    const world = makeWorld({ policy: { checkpointBlocks: 4 } });
    const first = await finished(world);
    const second = await fork(world, first.id, { atChunk: 11, prompt: 'a bird' });
    const seconds = await readToEnd(world, second.id);
    for (const atChunk of [14, 6]) {
      const third = await fork(world, second.id, { atChunk, prompt: 'a ship' });
      const events = await readToEnd(world, third.id);
      expectWhole(events, 17);
      expect(pictures(events).slice(0, atChunk)).toEqual(pictures(seconds).slice(0, atChunk));
      expect(new Set(chunksOf(events).map(({ key }) => key.split('/')[1]))).toEqual(
        new Set([first.id, ...(atChunk > 11 ? [second.id] : []), third.id]),
      );
    }
    expect(world.engine.opened).toEqual(['open', 'restore', 'restore', 'restore']);
  });

  it('inherits what took effect, and nothing that was only asked for', async () => {
    const world = makeWorld();
    const { id } = await world.clock.until(world.service.createSession(STORY));
    await world.clock.until(
      world.service.switchPrompt(id, { prompt: 'a ship', when: { block: 12 }, idempotencyKey: 'k' }),
    );
    await readToEnd(world, id);
    const made = await fork(world, id, { atChunk: 8, prompt: 'a bird' });
    const switched = await world.clock.until(
      world.service.switchPrompt(made.id, { prompt: 'a tree', when: { block: 11 }, idempotencyKey: 'k' }),
    );
    expect(applied(await readToEnd(world, made.id))).toEqual([
      [0, 'a fox'],
      [6, 'a robot'],
      [8, 'a bird'],
      [11, 'a tree'],
    ]);
    const { receipts } = await world.service.session(made.id);
    expect(receipts.map(({ prompt, status }) => [prompt, status])).toEqual(
      ['a fox', 'a robot', 'a bird', 'a tree'].map((prompt) => [prompt, 'APPLIED']),
    );
    expect(receipts.at(-1)?.id).toBe(switched.id);
  });

  it.each([
    [0, 1],
    [0.5, 1],
    [0.6, 2],
    [6.5, 9],
    [12.5, 17],
  ])('at %d seconds has chunks of its own from %d on', async (atSeconds, chunk) => {
    const world = makeWorld();
    const { id } = await finished(world);
    expect((await fork(world, id, { atSeconds, maxSeconds: 20 })).parent).toEqual({ sessionId: id, chunk });
  });

  it('is one for a key, however often it is asked for', async () => {
    const world = makeWorld();
    const { id } = await finished(world);
    const input = { atChunk: 5, prompt: 'a bird', idempotencyKey: 'one' };
    const made = await fork(world, id, input);
    expect((await fork(world, id, input)).id).toBe(made.id);
    await expect(fork(world, id, { ...input, atChunk: 6 })).rejects.toMatchObject({ code: 'CONFLICT' });
    const other = await finished(world);
    await expect(fork(world, other.id, input)).rejects.toMatchObject({ code: 'CONFLICT' });
  });

  it('whose beginning was cut off by a crash is completed by the next server', async () => {
    const world = makeWorld();
    const parent = await finished(world, { maxSeconds: 90 });
    expect(parent.events.length).toBeGreaterThan(2 * 60);
    const input = { pace: 'FASTEST' as const, maxSeconds: 100, atChunk: 100, prompt: 'a bird', idempotencyKey: 'k' };
    world.store.fault = (operation, key) => {
      if (operation !== 'put' || !key.endsWith('/log/000001.jsonl')) return undefined;
      world.crash();
      return { when: 'before', error: new StoreError('UNREACHABLE', 'nobody waits for this') };
    };
    void world.service.forkSession(parent.id, input);
    await world.clock.advance(1_000);
    world.store.fault = () => undefined;
    const next = await successorOf(world);
    const made = await fork(next, parent.id, input);
    expect(made.chunks).toBeGreaterThanOrEqual(100);
    await next.clock.until(next.service.stopSession(made.id));
    const events = await readToEnd(next, made.id);
    expectWhole(events, chunksOf(events).length);
    expect(chunksOf(events).length).toBeGreaterThan(100);
    expect(pictures(events).slice(0, 100)).toEqual(pictures(parent.events).slice(0, 100));
    expect(applied(events).at(-1)).toEqual([100, 'a bird']);
  });

  it('is refused where the log of its parent has gaps', async () => {
    const world = makeWorld();
    const { id } = await finished(world, { maxSeconds: 90 });
    world.store.objects.delete(`sessions/${id}/log/000001.jsonl`);
    await expect(fork(world, id, { atChunk: 100, maxSeconds: 100 })).rejects.toMatchObject({ code: 'STORAGE' });
    expect(world.engine.active).toBe(0);
  });

  it.each([1, 2])('of a session that is its own ancestor (%i) is refused as damage', async (length) => {
    const world = makeWorld();
    const { id } = await finished(world);
    const other = length === 1 ? id : (await finished(world)).id;
    for (const [child, parent] of [
      [id, other],
      [other, id],
    ] as const) {
      await makeParent(world, child, parent);
    }
    for (const key of [...world.store.objects.keys()])
      if (key.includes('/checkpoints/')) world.store.objects.delete(key);
    const damage = {
      name: 'DamagedError',
      code: 'STORAGE',
      message: expect.stringContaining('own ancestor') as string,
    };
    const next = makeWorld({ after: world });
    await expect(fork(next, id, { atChunk: 5 })).rejects.toMatchObject(damage);
    expect(next.engine.active).toBe(0);
    const { findings } = await new Checker(next, { repair: false }).session(id);
    expect(findings).toEqual([
      {
        key: `sessions/${id}/session.json`,
        problem: expect.stringContaining('own ancestor') as string,
        repaired: false,
      },
    ]);
    expect(await next.clock.until(next.service.playlist(id))).toContain('chunks/000016.m4s');
  });

  it('needs the very model its parent was made with', async () => {
    const world = makeWorld();
    const { id } = await finished(world);
    const next = makeWorld({ after: world, models: [{ ...FAKE_MODEL, digest: 'd2' }] });
    await expect(fork(next, id, { atChunk: 5 })).rejects.toMatchObject({
      code: 'MODEL_UNAVAILABLE',
      message: expect.stringContaining('another package of that version') as string,
    });
  });

  it.each<[string, ForkSessionInput, string, RegExp]>([
    ['no chunk at all', { atChunk: 0 }, 'atChunk', /between 1 and 17/],
    ['a chunk that is not there', { atChunk: 18 }, 'atChunk', /between 1 and 17/],
    ['a time that is not there', { atChunk: undefined, atSeconds: 13 }, 'atSeconds', /between 0 and 12\.5625/],
    ['a chunk and a time', { atSeconds: 5 }, 'atSeconds', /not both/],
    ['half a chunk', { atChunk: 2.5 }, 'atChunk', /whole number/],
    ['an end before its beginning', { atChunk: 9, maxSeconds: 6 }, 'maxSeconds', /greater than 6\.56/],
    ['an empty prompt', { prompt: ' ' }, 'prompt', /not be empty/],
    ['an unknown mode', { mode: 'SHAKE' as 'RECACHE' }, 'mode', /one of RECACHE/],
    ['an unknown pace', { pace: 'SLOW' as 'FASTEST' }, 'pace', /one of REALTIME/],
  ])('is refused with %s', async (_what, input, field, message) => {
    const world = makeWorld();
    const { id } = await finished(world);
    await expect(fork(world, id, { atChunk: 5, ...input })).rejects.toMatchObject({
      ...{ code: 'INVALID_INPUT', field },
      message: expect.stringMatching(message) as string,
    });
  });

  it('is refused of a session that is not there, or has nothing yet', async () => {
    const world = makeWorld();
    await expect(fork(world, 'a'.repeat(26))).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const { id } = await world.clock.until(world.service.createSession(STORY));
    await expect(fork(world, id)).rejects.toMatchObject({ code: 'INVALID_INPUT', field: 'sessionId' });
  });
});
