import { describe, expect, it, vi } from 'vitest';
import { StoreError } from '../../../src/sessions/index.js';
import { pictureOf } from '../../support/fake-media.js';
import {
  chunksOf,
  expectWhole,
  makeWorld,
  randomOf,
  read,
  readToEnd,
  statesOf,
  successorOf,
  type World,
} from '../../support/fake-service.js';

// Virtual time costs little, but a crowded machine may take its time over it.
vi.setConfig({ testTimeout: 60_000 });

const OUTAGE = new StoreError('UNREACHABLE', 'no route to host');

async function create(world: World, maxSeconds = 12): Promise<string> {
  const input = { prompt: 'a fox', maxSeconds, pace: 'FASTEST' as const, seed: 3n };
  return (await world.clock.until(world.service.createSession(input))).id;
}

describe('after a crash', () => {
  it('a session that goes to its end does so by itself, from its last checkpoint and without a hole', async () => {
    const world = makeWorld({ policy: { checkpointBlocks: 4 } });
    const id = await create(world);
    await world.clock.advance(3_000);
    const next = await successorOf(world);
    const events = await readToEnd(next, id);
    expectWhole(events, 17);
    expect(next.engine.opened).toEqual(['restore']);
    expect(statesOf(events)).toEqual([
      ['QUEUED', undefined],
      ['STARTING', undefined],
      ['LIVE', undefined],
      ['PAUSED', 'WORKER_LOST'],
      ['LIVE', undefined],
      ['COMPLETED', 'DURATION_REACHED'],
    ]);
    expect(events.at(-1)).toMatchObject({ type: 'SessionEnded', state: 'COMPLETED' });
  });

  it('without a checkpoint it starts over and makes the very same pictures', async () => {
    const plain = makeWorld();
    const whole = chunksOf(await readToEnd(plain, await create(plain))).map(({ data }) => pictureOf(data).picture);
    const world = makeWorld({ policy: { checkpointBlocks: 1_000 } });
    const id = await create(world);
    await world.clock.advance(2_000);
    const next = await successorOf(world);
    const events = await readToEnd(next, id);
    expectWhole(events, 17);
    expect(chunksOf(events).map(({ data }) => pictureOf(data).picture)).toEqual(whole);
    expect(next.engine.opened).toEqual(['open']);
  });

  it('a server that is not dead but late cannot write over its successor', async () => {
    const world = makeWorld();
    const id = await create(world);
    await world.clock.advance(2_000);
    const next = makeWorld({ after: world });
    // The old one cannot reach the store for longer than its lease, but keeps running.
    world.away(true);
    await next.clock.until(next.service.start());
    await next.clock.advance(15_000);
    world.away(false);
    const events = await readToEnd(next, id);
    expectWhole(events, 17);
    await world.clock.advance(60_000);
    expect(world.engine.active).toBe(0);
    const again = await readToEnd(makeWorld({ after: world }), id);
    expect(again).toHaveLength(events.length);
    expect(chunksOf(again).map(({ data }) => pictureOf(data))).toEqual(
      chunksOf(events).map(({ data }) => pictureOf(data)),
    );
  });

  it('an ended session whose artifacts were not complete gets them', async () => {
    const world = makeWorld();
    const id = await create(world, 2);
    world.store.fault = (operation, key) =>
      operation === 'put' && key.endsWith('video.mp4') ? { when: 'before', error: OUTAGE } : undefined;
    await world.clock.advance(10_000);
    expect(await world.service.session(id)).toMatchObject({ state: 'COMPLETED', artifacts: [] });
    world.store.fault = () => undefined;
    const next = await successorOf(world);
    await readToEnd(next, id);
    expect((await next.service.session(id)).artifacts).toHaveLength(4);
  });

  it('a clean shutdown leaves an exact checkpoint', async () => {
    const world = makeWorld();
    const id = await create(world);
    await world.clock.advance(2_000);
    await world.clock.until(world.service.shutdown());
    expect(world.engine.active).toBe(0);
    const next = makeWorld({ after: world });
    const { chunks: count, state, reason } = await next.service.session(id);
    expect([state, reason]).toEqual(['PAUSED', 'WORKER_LOST']);
    expect(world.store.objects.has(`sessions/${id}/checkpoints/${String(count).padStart(6, '0')}.safetensors`)).toBe(
      true,
    );
    await next.clock.until(next.service.start());
    expectWhole(await readToEnd(next, id), 17);
    await expect(world.service.createSession({ prompt: 'x' })).rejects.toMatchObject({ code: 'SHUTTING_DOWN' });
  });
});

describe('when the store fails', () => {
  it('a short outage is survived without anybody noticing', async () => {
    const world = makeWorld({ policy: { storeRetrySeconds: 60 } });
    const id = await create(world);
    await world.clock.advance(1_000);
    world.store.fault = () => ({ when: 'before', error: OUTAGE });
    await world.clock.advance(20_000);
    world.store.fault = () => undefined;
    const events = await readToEnd(world, id);
    expectWhole(events, 17);
    expect(events.filter(({ type }) => type === 'StateChanged')).toHaveLength(4);
  });

  it('a long outage pauses the session with STORAGE; resuming loses nothing', async () => {
    const world = makeWorld({ policy: { storeRetrySeconds: 5, idleSeconds: 0 } });
    const id = await create(world);
    await world.clock.advance(1_000);
    world.store.fault = (operation) => (operation === 'put' ? { when: 'before', error: OUTAGE } : undefined);
    await world.clock.advance(30_000);
    const paused = await world.service.session(id);
    expect(paused).toMatchObject({ state: 'PAUSED', reason: 'STORAGE', failure: { code: 'STORAGE' } });
    const [beat] = await world.clock.until(read(world, id, { after: paused.lastSequence }, () => true));
    expect(beat).toMatchObject({ type: 'Heartbeat', state: 'PAUSED', reason: 'STORAGE' });
    await expect(world.clock.until(world.service.resumeSession(id))).rejects.toMatchObject({ code: 'STORAGE' });
    expect(world.service.status().devices[0]).toMatchObject({ fastestSessions: 0 });
    world.store.fault = () => undefined;
    expect(await world.clock.until(world.service.resumeSession(id))).toMatchObject({ state: 'LIVE' });
    const events = await readToEnd(world, id);
    expectWhole(events, 17);
    expect(events.filter((event) => event.type === 'StateChanged').map((event) => event.state)).toEqual([
      'QUEUED',
      'STARTING',
      'LIVE',
      'PAUSED',
      'LIVE',
      'COMPLETED',
    ]);
  });

  /** A session that was to be stopped while the store failed, which the caller was told. */
  async function refusedStop(): Promise<{ world: World; id: string }> {
    const world = makeWorld({ policy: { storeRetrySeconds: 1, idleSeconds: 0 } });
    const id = await create(world);
    await world.clock.advance(1_000);
    world.store.fault = () => ({ when: 'before', error: new StoreError('UNREACHABLE', 'no network') });
    await world.clock.advance(10_000);
    const stopping = world.clock.until(world.service.stopSession(id));
    await expect(stopping).rejects.toMatchObject({ code: 'STORAGE' });
    return { world, id };
  }

  it('a session can be stopped and finished after an outage', async () => {
    const world = makeWorld({ policy: { storeRetrySeconds: 1, idleSeconds: 0 } });
    const id = await create(world);
    await world.clock.advance(1_000);
    world.store.fault = () => ({ when: 'before', error: new StoreError('NO_SPACE', 'disk full') });
    await world.clock.advance(10_000);
    expect(await world.service.session(id)).toMatchObject({ state: 'PAUSED', reason: 'STORAGE' });
    await expect(world.clock.until(world.service.stopSession(id))).rejects.toMatchObject({ code: 'STORAGE' });
    world.store.fault = () => undefined;
    expect(await world.clock.until(world.service.stopSession(id))).toMatchObject({ state: 'STOPPED' });
    const events = await readToEnd(world, id);
    expect(events.at(-1)).toMatchObject({ type: 'SessionEnded', state: 'STOPPED' });
    expect((await world.service.session(id)).artifacts).toHaveLength(4);
  });

  it('a stop that was refused is carried out when the store is well, without being asked for again', async () => {
    const { world, id } = await refusedStop();
    world.store.fault = () => undefined;
    await world.clock.advance(60_000);
    expect(await world.service.session(id)).toMatchObject({ state: 'STOPPED', reason: 'REQUESTED' });
  });

  it.each(['UNREACHABLE', 'NO_SPACE', 'DENIED'] as const)(
    'a stop that was refused is carried out within seconds after the store was %s for long',
    async (code) => {
      const world = makeWorld({ policy: { storeRetrySeconds: 1, idleSeconds: 0 } });
      await world.clock.until(world.service.start());
      const id = await create(world);
      await world.clock.advance(1_000);
      let tried = 0;
      world.store.fault = (_operation, key) => {
        if (key.includes('/log/')) tried = world.clock.monotonic();
        return { when: 'before', error: new StoreError(code, 'no') };
      };
      await world.clock.advance(10_000);
      await expect(world.clock.until(world.service.stopSession(id))).rejects.toMatchObject({ code: 'STORAGE' });
      await world.clock.advance(300_000);
      // The longest of the waits between attempts has just begun.
      while (world.clock.monotonic() - tried < 5_000) await world.clock.advance(500);
      world.store.fault = () => undefined;
      await world.clock.advance(6_000);
      expect(await world.service.session(id)).toMatchObject({ state: 'STOPPED', reason: 'REQUESTED' });
    },
  );

  it('a stop that was refused ends with the process: the session goes on, and stops when it is asked for again', async () => {
    const { world, id } = await refusedStop();
    world.crash();
    world.store.fault = () => undefined;
    const next = await successorOf(world, { policy: { idleSeconds: 0 } });
    expect(['LIVE', 'PAUSED']).toContain((await next.service.session(id)).state);
    expect(await next.clock.until(next.service.stopSession(id))).toMatchObject({ state: 'STOPPED' });
    expect((await readToEnd(next, id)).at(-1)).toMatchObject({ type: 'SessionEnded', state: 'STOPPED' });
  });

  it('creating fails with STORAGE and takes no place', async () => {
    const world = makeWorld({ policy: { storeRetrySeconds: 1 } });
    world.store.fault = () => ({ when: 'before', error: new StoreError('DENIED', 'wrong key') });
    const refused = world.clock.until(world.service.createSession({ prompt: 'a fox' }));
    await expect(refused).rejects.toMatchObject({ code: 'STORAGE' });
    expect(world.service.status().devices[0]).toMatchObject({ realtimeSessions: 0 });
  });

  const seeds = Array.from({ length: 20 }, (_, i) => i + 1);

  it.each(seeds)(
    'random faults, also answers that get lost, leave neither hole nor duplicate (seed %i)',
    async (seed) => {
      const random = randomOf(seed);
      const world = makeWorld({
        policy: { storeRetrySeconds: random() < 0.5 ? 0.3 : 60, idleSeconds: 0, checkpointBlocks: 2 },
      });
      const id = await create(world);
      world.store.fault = () => {
        if (random() < 0.7) return undefined;
        return { when: random() < 0.5 ? 'before' : 'after', error: OUTAGE };
      };
      const resuming = (async () => {
        for (let tries = 0; tries < 4_000; tries++) {
          const session = await world.service.session(id).catch(() => undefined);
          if (session?.finishedAt) return;
          if (session?.state === 'PAUSED') await world.service.resumeSession(id).catch(() => undefined);
          await world.clock.sleep(1_000);
        }
        throw new Error('The session never finished.');
      })();
      await world.clock.until(resuming);
      world.store.fault = () => undefined;
      const events = await readToEnd(world, id);
      expectWhole(events, 17);
      expect(chunksOf(events).every(({ chunk, data }) => pictureOf(data).block === chunk)).toBe(true);
      expect(world.engine.active).toBe(0);
    },
  );
});
