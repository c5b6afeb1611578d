import { describe, expect, it, vi } from 'vitest';
import { makeWorld, read, stored, type World } from '../../support/fake-service.js';

// Virtual time costs little, but a crowded machine may take its time over it.
vi.setConfig({ testTimeout: 60_000 });

async function create(world: World, input: object = {}) {
  const session = world.service.createSession({ prompt: 'a fox', pace: 'FASTEST', ...input });
  return (await world.clock.until(session)).id;
}

describe('a model whose positions end', () => {
  it('ends its sessions well, and says why', async () => {
    const world = makeWorld();
    world.engine.endBlocks = 4;
    const id = await create(world);
    const events = stored(await world.clock.until(read(world, id)));
    expect(events.filter(({ type }) => type === 'FrameChunk')).toHaveLength(4);
    expect(events.at(-1)).toMatchObject({ type: 'SessionEnded', state: 'COMPLETED', reason: 'MODEL_END', chunks: 4 });
    const session = await world.service.session(id);
    expect(session).toMatchObject({ state: 'COMPLETED', reason: 'MODEL_END' });
    expect(session.failure).toBeUndefined();
    expect(session.artifacts.map(({ kind }) => kind)).toContain('MP4');
    expect(world.engine.active).toBe(0);
  });

  it('goes on where a prompt clears the cache there', async () => {
    const world = makeWorld();
    world.engine.endBlocks = 4;
    const timeline = [{ prompt: 'a fox' }, { prompt: 'a robot', block: 4, mode: 'CLEAR_CACHE' as const }];
    const id = await create(world, { prompt: undefined, timeline });
    const events = stored(await world.clock.until(read(world, id)));
    expect(events.at(-1)).toMatchObject({ state: 'COMPLETED', reason: 'MODEL_END', chunks: 8 });
  });

  it('is no matter of sessions that end before', async () => {
    const world = makeWorld();
    world.engine.endBlocks = 4;
    const id = await create(world, { maxSeconds: 1 });
    const events = stored(await world.clock.until(read(world, id)));
    expect(events.at(-1)).toMatchObject({ state: 'COMPLETED', reason: 'DURATION_REACHED', chunks: 2 });
  });
});
