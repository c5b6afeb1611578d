import { describe, expect, it, vi } from 'vitest';
import { LocalCluster, LocalWire } from '../../../src/cluster/index.js';
import { SessionService } from '../../../src/sessions/index.js';
import { makeWorld, read, readToEnd, type World } from '../../support/fake-service.js';
import { MemoryStore } from '../../support/memory-store.js';

// Virtual time costs little, but a crowded machine may take its time over it.
vi.setConfig({ testTimeout: 60_000 });

const SECRET = 'deployment/secret';
const STORY = { prompt: 'a fox', maxSeconds: 12, pace: 'FASTEST' as const };

/** What happens when a bucket is another one from one moment to the next, or a directory lies where a volume was mounted. */
function swap({ store }: World, objects: MemoryStore['objects'] = new Map()): MemoryStore['objects'] {
  const before = new Map(store.objects);
  store.objects.clear();
  for (const [key, entry] of objects) store.objects.set(key, entry);
  return before;
}

async function started(): Promise<World> {
  const world = makeWorld();
  await world.clock.until(world.service.start());
  return world;
}

describe('a store that is suddenly an empty one', () => {
  it('takes no session, deletes none, and is said to be lost until it is back', async () => {
    const world = await started();
    const { id } = await world.clock.until(world.service.createSession(STORY));
    await readToEnd(world, id);
    const before = swap(world);
    const refused = { code: 'STORAGE', message: expect.stringContaining('lost deployment/secret') as string };
    await expect(world.clock.until(world.service.createSession(STORY))).rejects.toMatchObject(refused);
    await expect(world.clock.until(world.service.session(id))).rejects.toMatchObject(refused);
    await expect(world.clock.until(world.service.deleteSession(id))).rejects.toMatchObject(refused);
    expect(world.service.status()).toMatchObject({ accepting: false, detail: refused.message });
    expect([...world.store.objects.keys()].filter((key) => !key.startsWith('servers/'))).toEqual([]);
    swap(world, before);
    await world.clock.advance(20_000);
    expect(world.service.status().accepting).toBe(true);
    await world.clock.until(world.service.createSession(STORY));
  });

  it('is noticed though nobody asks for anything', async () => {
    const world = await started();
    swap(world);
    await world.clock.advance(20_000);
    expect(world.service.status().accepting).toBe(false);
  });

  it('is noticed when it is another deployment', async () => {
    const [world, other] = [await started(), await started()];
    swap(world, other.store.objects);
    await expect(world.clock.until(world.service.createSession(STORY))).rejects.toMatchObject({
      message: expect.stringContaining('is another one') as string,
    });
  });

  it('gets no new segment of a log, and the session goes on when the store is back', async () => {
    for (let events = 60; events < 68; events++) {
      const world = await started();
      const { id } = await world.clock.until(world.service.createSession({ ...STORY, maxSeconds: 120 }));
      await world.clock.until(read(world, id, {}, (event) => event.type !== 'Heartbeat' && event.sequence >= events));
      const before = swap(world);
      await world.clock.advance(5_000);
      expect([...world.store.objects.keys()].filter((key) => key.includes('/log/'))).toEqual([]);
      swap(world, before);
      await world.clock.advance(60_000);
      await world.clock.until(world.service.resumeSession(id));
      const all = await readToEnd(world, id);
      expect(all.map(({ sequence }) => sequence)).toEqual(all.map((_, i) => i + 1));
    }
  });
});

describe('a start', () => {
  const at = (world: World, deployment: string) =>
    new SessionService({
      ...{ media: world.media, store: world.store, engine: world.engine, clock: world.clock },
      cluster: new LocalCluster(new LocalWire(), ''),
      deployment,
    });

  it('is refused where the store is not of the deployment that the operator named, until it is', async () => {
    const world = await started();
    const warned: string[] = [];
    const logger = {
      debug: () => {},
      info: () => {},
      error: () => {},
      warn: (details: object, message: string) => void warned.push(message, JSON.stringify(details)),
    };
    const first = new SessionService({
      ...{ media: world.media, store: new MemoryStore(), engine: world.engine, clock: world.clock, logger },
      cluster: new LocalCluster(new LocalWire(), ''),
    });
    await world.clock.until(first.start());
    expect(warned.join()).toMatch(/the store was empty and begins as a new one.*"deployment":"[\w-]{16}"/);

    const before = swap(world);
    const [, deployment = ''] = /"deployment":"([\w-]{16})"/.exec(await announced(before)) ?? [];
    const service = at(world, deployment);
    await expect(world.clock.until(service.start())).rejects.toMatchObject({
      code: 'STORAGE',
      message: expect.stringContaining(`should have the deployment "${deployment}"`) as string,
    });
    await expect(world.clock.until(service.createSession(STORY))).rejects.toMatchObject({ code: 'STORAGE' });
    expect(service.status().accepting).toBe(false);
    expect(world.store.objects.has(SECRET)).toBe(false);
    swap(world, before);
    await world.clock.until(service.start());
    expect(service.status().accepting).toBe(true);
  });
});

/** What a start with the same secret would log. */
async function announced(objects: MemoryStore['objects']): Promise<string> {
  const { DeploymentSecret } = await import('../../../src/sessions/stored/secret.js');
  const { Vault } = await import('../../../src/sessions/stored/vault.js');
  const { VirtualClock } = await import('../../support/virtual-clock.js');
  const store = new MemoryStore();
  for (const [key, entry] of objects) store.objects.set(key, entry);
  const secret = new DeploymentSecret(new Vault(store, new VirtualClock(), 1));
  return JSON.stringify({ deployment: await secret.fingerprint() });
}
