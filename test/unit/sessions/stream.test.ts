import { describe, expect, it, vi } from 'vitest';
import type { SessionEvent, StoredEvent } from '../../../src/sessions/index.js';
import { pictureOf } from '../../support/fake-media.js';
import { makeWorld, randomOf, read, stored, type World } from '../../support/fake-service.js';

// Virtual time costs little, but a crowded machine may take its time over it.
vi.setConfig({ testTimeout: 60_000 });

const identity = (events: SessionEvent[]) => stored(events).map((event) => withoutData(event));

function withoutData(event: StoredEvent): StoredEvent {
  if (event.type !== 'FrameChunk') return event;
  return { ...event, data: undefined };
}

const pictures = (events: SessionEvent[]) =>
  events.flatMap((event) => (event.type === 'FrameChunk' ? [pictureOf(event.data).picture] : []));

async function create(world: World, maxSeconds = 60): Promise<string> {
  const input = { prompt: 'a fox', maxSeconds, pace: 'FASTEST' as const };
  return (await world.clock.until(world.service.createSession(input))).id;
}

describe('subscribe', () => {
  it.each([1, 2, 3, 4, 5, 6, 7, 8])('reconnecting anywhere gives exactly the rest (seed %i)', async (seed) => {
    const random = randomOf(seed);
    const world = makeWorld({ policy: { ringEvents: 1 + Math.floor(random() * 8) } });
    const id = await create(world);
    const pieces: SessionEvent[] = [];
    const reading = (async () => {
      for (let cursor = 0; ;) {
        const size = 1 + Math.floor(random() * 20);
        const piece = stored(await read(world, id, { after: cursor }, (_, all) => stored(all).length >= size));
        pieces.push(...piece);
        cursor = piece.at(-1)?.sequence ?? cursor;
        if (piece.at(-1)?.type === 'SessionEnded' || piece.length === 0) return;
        if (random() < 0.5) await world.clock.sleep(random() * 5_000);
      }
    })();
    await world.clock.until(reading);
    const whole = await world.clock.until(read(world, id));
    expect(identity(pieces)).toEqual(identity(whole));
    expect(identity(whole).map(({ sequence }) => sequence)).toEqual(identity(whole).map((_, i) => i + 1));
  });

  it('gives the same after a restart, from the store, media included', async () => {
    const world = makeWorld();
    const id = await create(world, 10);
    const before = stored(await world.clock.until(read(world, id, { inline: true })));
    const again = makeWorld({ after: world });
    const after = stored(await again.clock.until(read(again, id, { inline: true })));
    expect(identity(after)).toEqual(identity(before));
    expect(pictures(after)).toEqual(pictures(before));
    expect(pictures(after)).toHaveLength(14);
    expect(stored(await again.clock.until(read(again, id, { after: before.length - 2 })))).toHaveLength(2);
    expect(await again.clock.until(read(again, id, { after: before.length }))).toEqual([]);
  });

  it('does not let a slow reader slow the producer or the others', async () => {
    const world = makeWorld({ policy: { ringEvents: 2 } });
    const id = await create(world, 30);
    const slow: SessionEvent[] = [];
    const dawdling = (async () => {
      for await (const event of world.service.subscribe(id, { inline: true })) {
        slow.push(event);
        await world.clock.sleep(60_000);
      }
    })();
    const began = world.clock.now();
    const fast = await world.clock.until(read(world, id, { inline: true }));
    // 41 blocks of 6 steps of 50 ms, one recache.
    expect(world.clock.now() - began).toBe(41 * 300 + 30);
    expect(slow.length).toBeLessThan(3);
    await world.clock.until(dawdling, 1e9);
    expect(identity(slow)).toEqual(identity(fast));
    expect(pictures(slow)).toEqual(pictures(fast));
  });

  it('sends heartbeats while nothing happens', async () => {
    const world = makeWorld({ policy: { heartbeatSeconds: 10, idleSeconds: 0 } });
    const id = await create(world);
    await world.clock.advance(1_000);
    const paused = await world.clock.until(world.service.pauseSession(id));
    const two = (_: SessionEvent, all: SessionEvent[]) => all.filter(({ type }) => type === 'Heartbeat').length === 2;
    const began = world.clock.now();
    const events = await world.clock.until(read(world, id, { after: paused.lastSequence }, two));
    expect(events).toMatchObject([
      { type: 'Heartbeat', state: 'PAUSED', lastSequence: paused.lastSequence },
      { type: 'Heartbeat', state: 'PAUSED' },
    ]);
    expect(world.clock.now() - began).toBe(20_000);
  });

  it('ends at once when it is closed while waiting, and is no longer counted', async () => {
    const world = makeWorld({ policy: { idleSeconds: 0 } });
    const id = await create(world);
    await world.clock.advance(1_000);
    const { lastSequence } = await world.clock.until(world.service.pauseSession(id));
    const events = world.service.subscribe(id, { after: lastSequence });
    const pending = events.next();
    await world.clock.advance(10);
    expect((await world.service.session(id)).viewers).toBe(1);
    const began = world.clock.now();
    await world.clock.until(Promise.all([events.return(), pending]));
    expect(world.clock.now()).toBe(began);
    expect((await world.service.session(id)).viewers).toBe(0);
  });

  it('refuses cursors that are not of the session, and unknown sessions', async () => {
    const world = makeWorld();
    const id = await create(world, 1);
    const first = (after: number) => world.clock.until(world.service.subscribe(id, { after }).next());
    await expect(first(-1)).rejects.toMatchObject({ code: 'INVALID_INPUT', field: 'after' });
    await expect(first(1_000)).rejects.toMatchObject({ code: 'INVALID_INPUT', field: 'after' });
    await expect(world.service.subscribe('0'.repeat(26)).next()).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(world.service.subscribe('../../etc').next()).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('joins live at the newest key chunk', async () => {
    const world = makeWorld();
    const id = await create(world, 60);
    await world.clock.advance(5_000);
    const { chunks } = await world.service.session(id);
    const [first] = await world.clock.until(read(world, id, { after: 'live' }, () => true));
    expect(first).toMatchObject({ type: 'FrameChunk', chunk: chunks - 1 });
  });
});

describe('playlist', () => {
  it('grows with the session, reads only what is new, and ends with it', async () => {
    const world = makeWorld();
    const id = await create(world, 30);
    const lines = async () => (await world.service.playlist(id)).split('\n');
    await world.clock.advance(3_000);
    const { chunks } = await world.service.session(id);
    const expected = Array.from({ length: 41 }, (_, n) => `chunks/${String(n).padStart(6, '0')}.m4s`);
    expect(await lines()).toEqual(['#MAP init.mp4', ...expected.slice(0, chunks)]);
    await world.clock.until(read(world, id));
    expect(await lines()).toEqual(['#MAP init.mp4', ...expected, '#END']);
    expect(await lines()).toEqual(['#MAP init.mp4', ...expected, '#END']);
    const mapped = await world.service.playlist(id, (key) => `https://cdn/${key}`);
    expect(mapped.split('\n')[1]).toBe(`https://cdn/sessions/${id}/chunks/000000.m4s`);
  });
});
