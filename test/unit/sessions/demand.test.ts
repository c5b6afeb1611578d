import { beforeEach, describe, expect, it, vi } from 'vitest';
import { LocalWire } from '../../../src/cluster/index.js';
import { makeWorld, read, type World } from '../../support/fake-service.js';

vi.setConfig({ testTimeout: 60_000 });

const ENDLESS = { prompt: 'a fox', seed: 7n, pace: 'REALTIME' as const };

let wire: LocalWire;
let api: World;

const server = async (hosts = true): Promise<World> => {
  const world = makeWorld({ wire, hosts, ...(api && { after: api }) });
  await world.clock.until(world.service.start());
  return world;
};
const demand = ({ service }: World) => service.status().demand;
const refused = (at: World, idempotencyKey?: string) =>
  expect(
    at.clock.until(at.service.createSession({ ...ENDLESS, ...(idempotencyKey && { idempotencyKey }) })),
  ).rejects.toMatchObject({ code: 'AT_CAPACITY' });

beforeEach(async () => {
  wire = new LocalWire();
  api = undefined as unknown as World;
  api = await server(false);
});

describe('the demand for workers', () => {
  it('is none while nobody asks, and unknown at one who generates', async () => {
    expect(demand(api)).toEqual({ waiting: 0, live: 0, workers: 0, wanted: 0 });
    expect(demand(await server())).toBeUndefined();
  });

  it('counts who was refused, once however often they ask, and stands for a quarter of an hour', async () => {
    await refused(api, 'one');
    await refused(api, 'one');
    await refused(api);
    expect(demand(api)).toEqual({ waiting: 2, live: 0, workers: 0, wanted: 2 });
    await api.clock.advance(11_000);
    expect(demand(api)).toMatchObject({ waiting: 0, wanted: 2 });
    await api.clock.advance(15 * 60_000);
    expect(demand(api)).toMatchObject({ waiting: 0, wanted: 0 });
  });

  it('is the same at all who serve clients', async () => {
    const other = await server(false);
    await refused(api, 'one');
    await refused(other, 'two');
    expect(demand(api)).toMatchObject({ waiting: 2, wanted: 2 });
    expect(demand(other)).toMatchObject({ waiting: 2, wanted: 2 });
  });

  it('counts what runs, by what a worker takes, and no more who was served', async () => {
    await refused(api, 'one');
    await server();
    expect(demand(api)).toMatchObject({ waiting: 1, workers: 1 });
    const { id } = await api.clock.until(api.service.createSession({ ...ENDLESS, idempotencyKey: 'one' }));
    expect(demand(api)).toMatchObject({ waiting: 0, live: 1, workers: 1, wanted: 1 });
    await api.clock.until(read(api, id, {}, (_, all) => all.length > 6));
    const { capacity = 0 } = api.service.status().devices[0] ?? {};
    expect(capacity).toBeGreaterThan(1);
    const others = Array.from({ length: capacity - 1 }, () =>
      api.clock.until(api.service.createSession({ ...ENDLESS, pace: 'FASTEST', maxSeconds: 600 })),
    );
    await Promise.all(others);
    expect(demand(api)).toMatchObject({ live: capacity, wanted: 1 });
  });

  it('counts a session that nobody can go on with', async () => {
    const worker = await server();
    const { id } = await api.clock.until(api.service.createSession(ENDLESS));
    await api.clock.until(worker.service.shutdown());
    await expect(api.clock.until(api.service.resumeSession(id))).rejects.toMatchObject({ code: 'AT_CAPACITY' });
    expect(demand(api)).toMatchObject({ waiting: 1, live: 0, workers: 0 });
  });
});
