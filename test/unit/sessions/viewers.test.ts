import { describe, expect, it, vi } from 'vitest';
import { LocalWire } from '../../../src/cluster/index.js';
import type { SubscribeOptions } from '../../../src/sessions/index.js';
import { chunksOf, makeWorld, read, type World } from '../../support/fake-service.js';

// Virtual time costs little, but a crowded machine may take its time over it.
vi.setConfig({ testTimeout: 60_000 });

const TIMES = { step: 40, recache: 30 };
const LEAD_SECONDS = 2;

/** A session, with somebody who reads its stream until the world's end. */
async function watch(world: World, options: SubscribeOptions, input: { maxSeconds?: number } = {}) {
  const { id } = await world.clock.until(world.service.createSession({ prompt: 'a fox', ...input }));
  const over = new AbortController();
  const events = read(world, id, { ...options, signal: over.signal });
  return { id, events, leave: () => over.abort() };
}

const ACKNOWLEDGES: SubscribeOptions = { byClock: false };

/** Says every second where somebody is who plays from `from` on, for so many seconds; answers with how far the video was ahead. */
async function plays(world: World, id: string, from: number, seconds: number, more: object = {}): Promise<number[]> {
  const ahead: number[] = [];
  for (let at = 0; at < seconds; at++) {
    const position = { viewer: 'v', seconds: from + at, playing: true, ...more };
    await world.clock.until(world.service.acknowledge(id, position));
    await world.clock.advance(1_000);
    ahead.push((await world.service.session(id)).seconds - (from + at + 1));
  }
  return ahead;
}

const stands = (world: World, id: string, seconds: number, more: object = {}) =>
  world.clock.until(world.service.acknowledge(id, { viewer: 'v', seconds, playing: false, ...more }));

const made = async (world: World, id: string) => (await world.service.session(id)).seconds;

describe('a viewer who says how far it has seen', () => {
  it('who stands still has nothing made for it but what it has ahead anyway, and gets on where it goes on', async () => {
    const world = makeWorld({ times: TIMES });
    const { id, leave } = await watch(world, ACKNOWLEDGES);
    await plays(world, id, 0, 4);
    await stands(world, id, 4);
    await world.clock.advance(60_000);
    expect(await made(world, id)).toBeLessThanOrEqual(4 + LEAD_SECONDS);
    expect(world.engine.active).toBe(1); // It waits, and is not paused.
    const ahead = await plays(world, id, 4, 10);
    expect(Math.min(...ahead.slice(1))).toBeGreaterThan(0.4);
    expect(Math.max(...ahead)).toBeLessThanOrEqual(LEAD_SECONDS);
    leave();
  });

  it('has a prompt take effect at what comes next behind what it has, however long it stood', async () => {
    const world = makeWorld({ times: TIMES });
    const { id, leave } = await watch(world, ACKNOWLEDGES);
    await plays(world, id, 0, 3);
    await stands(world, id, 3);
    await world.clock.advance(40_000);
    await world.clock.until(world.service.switchPrompt(id, { prompt: 'a robot' }));
    await plays(world, id, 3, 5);
    const { timeline } = await world.service.session(id);
    expect(timeline.at(-1)).toMatchObject({ prompt: 'a robot' });
    expect(timeline.at(-1)?.seconds).toBeLessThanOrEqual(3 + LEAD_SECONDS);
    leave();
  });

  it('gets as much ahead as it wants, up to ten seconds, and no faster than it plays', async () => {
    const world = makeWorld({ times: TIMES });
    const { id, leave } = await watch(world, ACKNOWLEDGES);
    await plays(world, id, 0, 2);
    await stands(world, id, 2, { aheadSeconds: 6 });
    await world.clock.advance(2_000);
    expect(await made(world, id)).toBeLessThan(7);
    await world.clock.advance(20_000);
    expect(await made(world, id)).toBeGreaterThan(7);
    expect(await made(world, id)).toBeLessThanOrEqual(8);
    await stands(world, id, 2, { aheadSeconds: 1e6 });
    await world.clock.advance(30_000);
    expect(await made(world, id)).toBeLessThanOrEqual(12);
    leave();
  });

  it('who says more than is there makes nothing faster', async () => {
    const world = makeWorld({ times: TIMES });
    const { id, leave } = await watch(world, ACKNOWLEDGES);
    await world.clock.advance(1_000);
    await plays(world, id, 1e9, 10);
    expect(await made(world, id)).toBeLessThanOrEqual(11 + LEAD_SECONDS);
    leave();
  });

  it('counts as far as it plays for a moment only when it falls silent, and no more after two minutes', async () => {
    const world = makeWorld({ times: TIMES });
    const { id, leave } = await watch(world, ACKNOWLEDGES);
    await plays(world, id, 0, 4);
    await world.clock.advance(60_000);
    expect(await made(world, id)).toBeLessThanOrEqual(4 + 2.5 + LEAD_SECONDS);
    await world.clock.advance(90_000);
    expect(await made(world, id)).toBeGreaterThan(20);
    leave();
  });

  it('who leaves while it stands still lets the session become idle', async () => {
    const world = makeWorld({ times: TIMES, policy: { idleSeconds: 20 } });
    const { id, leave } = await watch(world, ACKNOWLEDGES);
    await plays(world, id, 0, 3);
    await stands(world, id, 3);
    leave();
    await world.clock.advance(30_000);
    expect(await world.service.session(id)).toMatchObject({ state: 'PAUSED', reason: 'IDLE' });
  });

  it('does not keep a session from its end that has nothing more to make', async () => {
    const world = makeWorld({ times: TIMES });
    const { id, events } = await watch(world, ACKNOWLEDGES, { maxSeconds: 4 });
    await plays(world, id, 0, 2);
    await stands(world, id, 2);
    expect((await world.clock.until(events)).at(-1)).toMatchObject({ type: 'SessionEnded', state: 'COMPLETED' });
  });

  it('leaves nothing in the log', async () => {
    const world = makeWorld({ times: TIMES });
    const { id, events, leave } = await watch(world, ACKNOWLEDGES);
    await plays(world, id, 0, 6);
    leave();
    const types = new Set((await world.clock.until(events)).map(({ type }) => type));
    expect([...types].sort()).toEqual(['FrameChunk', 'PromptApplied', 'PromptRequested', 'StateChanged']);
  });

  it.each([
    [{ viewer: '', seconds: 1 }, 'viewer'],
    [{ viewer: 'v'.repeat(101), seconds: 1 }, 'viewer'],
    [{ viewer: 'v', seconds: -1 }, 'seconds'],
    [{ viewer: 'v', seconds: NaN }, 'seconds'],
    [{ viewer: 'v', seconds: 1, aheadSeconds: -1 }, 'aheadSeconds'],
  ])('is refused what cannot be: %o', async (position, field) => {
    const world = makeWorld();
    const saying = world.service.acknowledge('none', { playing: true, ...position });
    await expect(saying).rejects.toMatchObject({ code: 'INVALID_INPUT', field });
  });

  it('is told when nobody hears it', async () => {
    const world = makeWorld();
    await expect(stands(world, 'none', 1)).resolves.toBe(false);
  });
});

describe('several viewers', () => {
  it('are followed to where the furthest is', async () => {
    const world = makeWorld({ times: TIMES });
    const { id, leave } = await watch(world, ACKNOWLEDGES);
    await stands(world, id, 0, { viewer: 'left behind' });
    const ahead = await plays(world, id, 0, 12);
    expect(Math.min(...ahead.slice(2))).toBeGreaterThan(0.4);
    leave();
  });

  it.each([
    ['a stream of somebody who says nothing', (world: World, id: string) => read(world, id)],
    ['a playlist that is fetched again and again', (world: World, id: string) => keepFetching(world, id)],
  ])('go by the clock as long as there is %s', async (_what, begin) => {
    const world = makeWorld({ times: TIMES });
    const { id, leave } = await watch(world, ACKNOWLEDGES);
    await plays(world, id, 0, 3);
    await stands(world, id, 3);
    await world.clock.advance(10_000);
    void begin(world, id);
    await world.clock.advance(20_000);
    expect(await made(world, id)).toBeGreaterThan(20);
    leave();
  });
});

async function keepFetching(world: World, id: string): Promise<void> {
  for (;;) {
    await world.service.playlist(id);
    await world.clock.sleep(1_000);
  }
}

describe('between servers', () => {
  it('what is said at one that generates nothing reaches the one that has the session; who watches by the clock there counts', async () => {
    const wire = new LocalWire();
    const worker = makeWorld({ times: TIMES, wire });
    const api = makeWorld({ wire, hosts: false, after: worker });
    await worker.clock.until(Promise.all([worker.service.start(), api.service.start()]));
    const { id, leave } = await watch(api, ACKNOWLEDGES);
    await plays(api, id, 0, 4);
    await stands(api, id, 4);
    await api.clock.advance(30_000);
    expect(await made(api, id)).toBeLessThanOrEqual(4 + LEAD_SECONDS);
    const over = new AbortController();
    const byClock = read(api, id, { signal: over.signal });
    await api.clock.advance(20_000);
    expect(await made(api, id)).toBeGreaterThan(15);
    over.abort();
    expect(chunksOf(await api.clock.until(byClock)).length).toBeGreaterThan(20);
    leave();
  });
});
