import { describe, expect, it, vi } from 'vitest';
import { needlessOf } from '../../../src/sessions/stored/checkpoints.js';
import { expectWhole, makeWorld, read, readToEnd } from '../../support/fake-service.js';

// Virtual time costs little, but a crowded machine may take its time over it.
vi.setConfig({ testTimeout: 120_000 });

/** Of Pocket at its own size, whose video is as fast as this one: 12 latent frames of 32 channels and 32x18 in f32, and what belongs to them. */
const CHECKPOINT_BYTES = 885_072;
const MEDIA = /\/(chunks\/|init\.mp4$|video\.mp4$|poster\.webp$)/;

describe('the checkpoints that stay', () => {
  it('are bounded in number, evenly spread, the newest among them, whatever there was before', () => {
    let there: number[] = [];
    for (let block = 8; block <= 20_000; block += 8) {
      there.push(block);
      const needless = needlessOf(there, 20);
      there = there.filter((at) => !needless.has(at));
      expect(there.length).toBeLessThanOrEqual(20);
      expect(there.slice(-4)).toEqual([24, 16, 8, 0].map((back) => block - back).filter((at) => at > 0));
      const gaps = [0, ...there].map((at, i, all) => (all[i + 1] ?? block) - at);
      // Between two of them is at most a quarter of what there is.
      if (block >= 256) expect(Math.max(...gaps)).toBeLessThanOrEqual(block / 4);
    }
    expect(there.length).toBeGreaterThan(11);
    expect([...needlessOf([3, 5, 8], 1)]).toEqual([3, 5]);
    expect([...needlessOf([3, 5, 8], 20)]).toEqual([]);
  });

  it('make 11 minutes of video cost no more than 20 MB beside the media, and can all be gone on from', async () => {
    const world = makeWorld({ times: { step: 1, recache: 1 } });
    world.engine.checkpointBytes = CHECKPOINT_BYTES;
    const input = { prompt: 'a fox', maxSeconds: 660, pace: 'FASTEST' as const, seed: 3n };
    const { id } = await world.clock.until(world.service.createSession(input));
    expectWhole(await readToEnd(world, id), 881);
    const files = [...world.store.objects].filter(([key]) => key.startsWith(`sessions/${id}/`) && !MEDIA.test(key));
    const bytes = files.reduce((sum, [, entry]) => sum + entry.bytes.length, 0);
    expect(bytes).toBeGreaterThan(10e6);
    expect(bytes).toBeLessThan(20e6);
    // Anywhere, a fork has to make at most 64 blocks again.
    for (const atChunk of [60, 500, 881]) {
      const fork = { atChunk, pace: 'FASTEST' as const, maxSeconds: 662 };
      const { id: forked } = await world.clock.until(world.service.forkSession(id, fork));
      await world.clock.until(
        read(world, forked, {}, (event) => event.type === 'FrameChunk' && event.chunk === atChunk),
      );
      const restored = world.engine.restoredAt.at(-1) ?? 0;
      expect(atChunk - restored).toBeLessThanOrEqual(64);
      await world.clock.until(world.service.stopSession(forked));
    }
  });
});
