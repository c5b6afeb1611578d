import { describe, expect, it, vi } from 'vitest';
import type { Session, StateChanged, StoredEvent } from '../../../src/sessions/index.js';
import { pictureOf } from '../../support/fake-media.js';
import { chunksOf, makeWorld, read, stored, type World } from '../../support/fake-service.js';

// Virtual time costs little, but a crowded machine may take its time over it.
vi.setConfig({ testTimeout: 60_000 });

const states = (events: StoredEvent[]) =>
  events.filter((event): event is StateChanged => event.type === 'StateChanged').map(({ state }) => state);

async function runToEnd(world: World, session: Session): Promise<StoredEvent[]> {
  return stored(await world.clock.until(read(world, session.id, { inline: true })));
}

describe('a session', () => {
  it('runs from QUEUED to COMPLETED, rounded up to whole chunks, with everything in order', async () => {
    const world = makeWorld();
    const session = await world.clock.until(world.service.createSession({ prompt: 'a fox', maxSeconds: 5, seed: 1n }));
    const events = await runToEnd(world, session);
    expect(states(events)).toEqual(['QUEUED', 'STARTING', 'LIVE', 'COMPLETED']);
    expect(events.map(({ sequence }) => sequence)).toEqual(events.map((_, i) => i + 1));
    expect(chunksOf(events).map(({ chunk }) => chunk)).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(chunksOf(events).map(({ firstFrame }) => firstFrame)).toEqual([0, 9, 21, 33, 45, 57, 69]);
    expect(events.map(({ type }) => type).slice(0, 6)).toEqual([
      'StateChanged',
      'PromptRequested',
      'StateChanged',
      'PromptApplied',
      'StateChanged',
      'FrameChunk',
    ]);
    expect(events.at(-1)).toMatchObject({ type: 'SessionEnded', state: 'COMPLETED', chunks: 7, frames: 81 });
  });

  it('announces only what the store already has', async () => {
    const world = makeWorld();
    const session = await world.clock.until(world.service.createSession({ prompt: 'a fox', maxSeconds: 4 }));
    const watching = read(world, session.id, {}, (event) => {
      if (event.type === 'FrameChunk') {
        expect(world.store.objects.has(event.key)).toBe(true);
        expect(world.store.objects.has(event.initKey)).toBe(true);
        expect(world.store.text(`sessions/${session.id}/log/000000.jsonl`)).toContain(`"sequence":${event.sequence},`);
      }
      return false;
    });
    await world.clock.until(watching);
  });

  it('leaves an MP4 of all chunks, a playlist, a poster and a timeline', async () => {
    const world = makeWorld();
    const session = await world.clock.until(world.service.createSession({ prompt: 'a fox', maxSeconds: 2 }));
    await runToEnd(world, session);
    const ended = await world.service.session(session.id);
    expect(ended.artifacts.map(({ kind }) => kind)).toEqual(['MP4', 'HLS', 'POSTER', 'TIMELINE']);
    const prefix = `sessions/${session.id}/`;
    const bodies = [0, 1, 2].map((n) => world.store.text(`${prefix}chunks/00000${n}.m4s`));
    expect(world.store.text(`${prefix}video.mp4`)).toBe('init' + bodies.join(''));
    expect(world.store.text(`${prefix}index.m3u8`)).toBe(
      '#MAP init.mp4\nchunks/000000.m4s\nchunks/000001.m4s\nchunks/000002.m4s\n#END',
    );
    expect([...world.store.objects.keys()].filter((key) => key.startsWith('unfinished/'))).toEqual([]);
  });

  it('frees the device and the encoder at the end', async () => {
    const world = makeWorld();
    const session = await world.clock.until(world.service.createSession({ prompt: 'a fox', maxSeconds: 2 }));
    await runToEnd(world, session);
    expect(world.engine.active).toBe(0);
    expect(world.media.openEncoders).toBe(0);
    expect(world.service.status().devices[0]).toMatchObject({ realtimeSessions: 0, load: 0 });
  });

  it('follows a timeline to the block', async () => {
    const world = makeWorld();
    const timeline = [
      { prompt: 'one' },
      { prompt: 'two', atSeconds: 2 },
      { prompt: 'three', block: 5, mode: 'CLEAR_CACHE' as const },
    ];
    const session = await world.clock.until(world.service.createSession({ timeline, maxSeconds: 5 }));
    const events = await runToEnd(world, session);
    // 2 s is frame 32, block 3 begins at frame 33.
    expect(chunksOf(events).map(({ data }) => pictureOf(data).prompt)).toEqual([
      'one',
      'one',
      'one',
      'two',
      'two',
      'three',
      'three',
    ]);
    expect((await world.service.session(session.id)).timeline).toMatchObject([
      { prompt: 'one', block: 0, frame: 0 },
      { prompt: 'two', block: 3, frame: 33, seconds: 33 / 16, mode: 'RECACHE' },
      { prompt: 'three', block: 5, frame: 57, mode: 'CLEAR_CACHE' },
    ]);
  });

  it('stops on request and keeps what was made', async () => {
    const world = makeWorld();
    const session = await world.clock.until(world.service.createSession({ prompt: 'a fox' }));
    await world.clock.until(read(world, session.id, {}, (event) => event.type === 'FrameChunk' && event.chunk === 2));
    const stopped = await world.clock.until(world.service.stopSession(session.id));
    expect(stopped.state).toBe('STOPPED');
    const events = await runToEnd(world, session);
    expect(events.at(-1)).toMatchObject({ type: 'SessionEnded', state: 'STOPPED', reason: 'REQUESTED' });
    expect(await world.service.stopSession(session.id)).toMatchObject({ state: 'STOPPED' });
    await expect(world.service.switchPrompt(session.id, { prompt: 'x' })).rejects.toMatchObject({ code: 'ENDED' });
    await expect(world.service.pauseSession(session.id)).rejects.toMatchObject({ code: 'ENDED' });
    await expect(world.service.resumeSession(session.id)).rejects.toMatchObject({ code: 'ENDED' });
  });

  it('makes the same pictures with and without a pause in between', async () => {
    const plain = makeWorld();
    const a = await plain.clock.until(plain.service.createSession({ prompt: 'a fox', maxSeconds: 5, seed: 7n }));
    const whole = chunksOf(await runToEnd(plain, a)).map(({ data }) => pictureOf(data).picture);

    const world = makeWorld();
    const b = await world.clock.until(world.service.createSession({ prompt: 'a fox', maxSeconds: 5, seed: 7n }));
    await world.clock.advance(480);
    const paused = await world.clock.until(world.service.pauseSession(b.id));
    expect(paused).toMatchObject({ state: 'PAUSED', reason: 'REQUESTED' });
    const before = paused.chunks;
    await world.clock.advance(20_000);
    expect((await world.service.session(b.id)).chunks).toBe(before);
    expect(await world.clock.until(world.service.resumeSession(b.id))).toMatchObject({ state: 'LIVE' });
    const events = await runToEnd(world, b);
    expect(chunksOf(events).map(({ data }) => pictureOf(data).picture)).toEqual(whole);
    expect(states(events)).toEqual(['QUEUED', 'STARTING', 'LIVE', 'PAUSED', 'LIVE', 'COMPLETED']);
  });

  it('fails with a typed reason when the engine does, and keeps what was made', async () => {
    const world = makeWorld();
    world.engine.failAt = (block) => (block === 3 ? new Error('device fell off the bus') : undefined);
    const session = await world.clock.until(world.service.createSession({ prompt: 'a fox', maxSeconds: 5 }));
    const events = await runToEnd(world, session);
    expect(events.at(-1)).toMatchObject({ state: 'FAILED', reason: 'ENGINE', chunks: 3 });
    expect(events.at(-1)).toHaveProperty('failure.message', 'device fell off the bus');
    expect((await world.service.session(session.id)).artifacts).toHaveLength(4);
    expect(world.engine.active).toBe(0);
  });

  it('fails with MEDIA when the encoder does', async () => {
    const world = makeWorld();
    world.media.failAt = (block) => (block === 2 ? new Error('no bits left') : undefined);
    const session = await world.clock.until(world.service.createSession({ prompt: 'a fox', maxSeconds: 5 }));
    const events = await runToEnd(world, session);
    expect(events.at(-1)).toMatchObject({ state: 'FAILED', reason: 'MEDIA', chunks: 2 });
    expect(world.media.openEncoders).toBe(0);
  });
});

it('a resume that comes while a session begins to rest by itself takes it up again', async () => {
  for (const share of [0, 0.3, 0.6, 0.9]) {
    const world = makeWorld({ policy: { idleSeconds: 2 } });
    const { service, clock } = world;
    const { id } = await clock.until(service.createSession({ prompt: 'a fox' }));
    await clock.advance(500);
    world.slow(300);
    while ((await service.session(id)).state !== 'PAUSED') await clock.advance(10);
    await clock.advance(300 * share);
    expect((await clock.until(service.resumeSession(id))).state).toBe('LIVE');
    await clock.advance(1_000);
    expect((await service.session(id)).state).toBe('LIVE');
  }
});
