import { describe, expect, it, vi } from 'vitest';
import type { DomainError, FrameChunk } from '../../../src/sessions/index.js';
import { makeWorld, read, type World } from '../../support/fake-service.js';

// Virtual time costs little, but a crowded machine may take its time over it.
vi.setConfig({ testTimeout: 60_000 });

async function create(world: World, input: { maxSeconds?: number; pace?: 'REALTIME' | 'FASTEST' } = {}) {
  return (await world.clock.until(world.service.createSession({ prompt: 'a fox', ...input }))).id;
}

/** How far the generated video was ahead of a viewer who began with the first chunk, chunk by chunk. */
function leads(chunks: FrameChunk[]): number[] {
  const began = (chunks[0]?.at ?? 0) - (chunks[0]?.startSeconds ?? 0) * 1_000;
  return chunks.map(({ at, startSeconds, durationSeconds }) => startSeconds + durationSeconds - (at - began) / 1_000);
}

describe('REALTIME', () => {
  it.each([0, 1, 2, 5])(
    'stays at most %i s (or one chunk) ahead of playback and never falls behind',
    async (leadSeconds) => {
      const world = makeWorld({ policy: { leadSeconds }, times: { step: 40, recache: 30 } });
      const id = await create(world, { maxSeconds: 30 });
      const events = await world.clock.until(read(world, id));
      const ahead = leads(events.filter((event): event is FrameChunk => event.type === 'FrameChunk'));
      expect(Math.max(...ahead)).toBeLessThanOrEqual(Math.max(leadSeconds, 0.75));
      if (leadSeconds >= 1) expect(Math.min(...ahead.slice(2))).toBeGreaterThan(0.4);
    },
  );

  it('on a device that is too slow, generates without a break', async () => {
    const world = makeWorld({ times: { step: 200, recache: 30 } });
    const id = await create(world, { maxSeconds: 10 });
    const began = world.clock.now();
    await world.clock.until(read(world, id));
    expect(world.clock.now() - began).toBe(14 * 6 * 200 + 30);
  });

  it('is told its speed: that of the device among all that must keep up, once a block has been made', async () => {
    const world = makeWorld({ times: { step: 200, recache: 30 } });
    const id = await create(world, { maxSeconds: 10 });
    const speed = async (session: string) => (await world.service.session(session)).speed;
    expect(await speed(id)).toBeUndefined();
    await world.clock.until(read(world, id, {}, (event) => event.type === 'FrameChunk' && event.chunk === 1));
    expect(await speed(id)).toBeCloseTo(0.75 / 1.2, 3);
    await world.clock.until(read(world, id));
    expect(await speed(id)).toBeUndefined();
  });

  it('has no speed to tell where nobody waits for the video', async () => {
    const world = makeWorld({ times: { step: 200, recache: 30 } });
    const id = await create(world, { maxSeconds: 10, pace: 'FASTEST' });
    await world.clock.until(read(world, id, {}, (event) => event.type === 'FrameChunk' && event.chunk === 1));
    expect((await world.service.session(id)).speed).toBeUndefined();
  });

  it('pauses when nobody watches for idleSeconds, frees the device, and goes on when resumed', async () => {
    const world = makeWorld({ policy: { idleSeconds: 20 } });
    const id = await create(world, { maxSeconds: 60 });
    await world.clock.until(read(world, id, {}, (event) => event.type === 'FrameChunk' && event.chunk === 3));
    await world.clock.advance(25_000);
    const paused = await world.service.session(id);
    expect(paused).toMatchObject({ state: 'PAUSED', reason: 'IDLE' });
    expect(world.engine.active).toBe(0);
    expect(world.media.openEncoders).toBe(0);
    await world.clock.until(world.service.resumeSession(id));
    expect(world.engine.opened).toEqual(['open', 'restore']);
    const events = await world.clock.until(read(world, id));
    expect(events.at(-1)).toMatchObject({ type: 'SessionEnded', state: 'COMPLETED', chunks: 81 });
  });

  it('goes on as long as somebody watches or fetches', async () => {
    const world = makeWorld({ policy: { idleSeconds: 5 } });
    const watched = await create(world, { maxSeconds: 60 });
    const events = await world.clock.until(read(world, watched));
    expect(events.at(-1)).toMatchObject({ state: 'COMPLETED' });
    const fetched = await create(world, { maxSeconds: 20 });
    for (let i = 0; i < 10; i++) {
      world.service.touch(fetched);
      await world.clock.advance(2_000);
    }
    expect((await world.service.session(fetched)).state).not.toBe('PAUSED');
  });

  it('a paused session gives its device memory back after idleSeconds', async () => {
    const world = makeWorld({ policy: { idleSeconds: 20 } });
    const id = await create(world, { maxSeconds: 60 });
    await world.clock.advance(1_000);
    await world.clock.until(world.service.pauseSession(id));
    expect(world.engine.active).toBe(1);
    await world.clock.advance(25_000);
    expect(world.engine.active).toBe(0);
    await world.clock.until(world.service.resumeSession(id));
    await world.clock.until(read(world, id));
    expect(world.engine.opened).toEqual(['open', 'restore']);
  });
});

describe('sharing a device', () => {
  it('serves every REALTIME session in time, and FASTEST ones with what is left', async () => {
    const world = makeWorld({ times: { step: 20, recache: 10 } });
    const realtime = await Promise.all([1, 2].map(() => create(world, { maxSeconds: 20 })));
    const fastest = await create(world, { maxSeconds: 20, pace: 'FASTEST' });
    const all = await world.clock.until(Promise.all([...realtime, fastest].map((id) => read(world, id))));
    for (const events of all.slice(0, 2)) {
      const ahead = leads(events.filter((event): event is FrameChunk => event.type === 'FrameChunk'));
      expect(Math.min(...ahead.slice(2))).toBeGreaterThan(0);
    }
    const ends = all.map((events) => events.at(-1)).map((event) => event?.at ?? 0);
    expect(ends[2]).toBeLessThan(Math.min(ends[0] ?? 0, ends[1] ?? 0));
    expect(world.engine.mostConcurrent).toBe(1);
  });

  it('FASTEST sessions advance together', async () => {
    const world = makeWorld();
    const ids = await Promise.all([1, 2, 3].map(() => create(world, { maxSeconds: 20, pace: 'FASTEST' })));
    await world.clock.advance(10_000);
    const chunks = await Promise.all(ids.map(async (id) => (await world.service.session(id)).chunks));
    expect(Math.max(...chunks) - Math.min(...chunks)).toBeLessThanOrEqual(1);
  });

  it('refuses one more REALTIME session than the observed block time allows, with a time to retry', async () => {
    // A block takes 0.3 s of every 0.75 s: two fit into 90 %, three do not.
    const world = makeWorld();
    await create(world, { maxSeconds: 30 });
    await world.clock.advance(2_000);
    expect(world.service.status().devices[0]).toMatchObject({ capacity: 2, realtimeSessions: 1, load: 0.4 });
    await create(world, { maxSeconds: 40 });
    const refused = world.clock.until(world.service.createSession({ prompt: 'one too many' }));
    await expect(refused).rejects.toMatchObject({ code: 'AT_CAPACITY' });
    // The first one has 30 s less what is played and generated of it to go.
    await expect(refused).rejects.toSatisfy(
      ({ retryAfterSeconds }: DomainError) => (retryAfterSeconds ?? 0) > 20 && (retryAfterSeconds ?? 0) <= 30,
    );
    await world.clock.advance(33_000);
    await create(world);
  });

  it('refuses to resume when the place was taken meanwhile', async () => {
    const world = makeWorld({ times: { step: 80, recache: 30 } });
    const first = await create(world, { maxSeconds: 60 });
    await world.clock.advance(3_000);
    await world.clock.until(world.service.pauseSession(first));
    await create(world, { maxSeconds: 60 });
    await expect(world.clock.until(world.service.resumeSession(first))).rejects.toMatchObject({ code: 'AT_CAPACITY' });
    expect((await world.service.session(first)).state).toBe('PAUSED');
  });

  it('has at most maxSessions places', async () => {
    const world = makeWorld({ policy: { maxSessions: 2 } });
    for (let i = 0; i < 2; i++) await create(world, { pace: 'FASTEST', maxSeconds: 10 });
    await expect(world.service.createSession({ prompt: 'x', pace: 'FASTEST' })).rejects.toMatchObject({
      code: 'AT_CAPACITY',
    });
  });
});
