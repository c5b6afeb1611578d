import { beforeEach, describe, expect, it, vi } from 'vitest';
import { LocalWire } from '../../../src/cluster/index.js';
import type { DomainError } from '../../../src/sessions/index.js';
import { FAKE_MODEL } from '../../support/fake-engine.js';
import {
  makeWorld,
  read,
  readToEnd,
  statesOf,
  stored,
  type World,
  type WorldOptions,
} from '../../support/fake-service.js';

// Virtual time costs little, but a crowded machine may take its time over it.
vi.setConfig({ testTimeout: 60_000 });

const ENDLESS = { prompt: 'a fox', pace: 'REALTIME' as const };
const OTHER_MODEL = { ...FAKE_MODEL, name: 'other', digest: 'd-other' };

let wire: LocalWire;
let api: World;

/** One more server on the wire and the store that all have. */
async function server(options: WorldOptions = {}): Promise<World> {
  const world = makeWorld({ wire, after: api, ...options });
  await world.clock.until(world.service.start());
  return world;
}

const running = ({ service }: World) =>
  service.status().devices.reduce((sum, device) => sum + device.realtimeSessions + device.fastestSessions, 0);

const refusal = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    (error: DomainError) => error,
  );

beforeEach(async () => {
  wire = new LocalWire();
  api = makeWorld({ wire, hosts: false });
  await api.clock.until(api.service.start());
});

describe('a server that generates nothing', () => {
  it('says so while no other is there, and knows the models of those that come', async () => {
    expect(api.service.status()).toMatchObject({
      accepting: false,
      warning: expect.stringContaining('No server') as string,
    });
    expect(await refusal(api.clock.until(api.service.createSession(ENDLESS)))).toMatchObject({
      code: 'AT_CAPACITY',
      retryAfterSeconds: 5,
    });
    const worker = await server();
    expect(api.service.status()).toMatchObject({ accepting: true, devices: worker.service.status().devices });
    expect(api.service.models()).toEqual(worker.service.models());
  });

  it('has sessions made, watched and commanded elsewhere', async () => {
    const worker = await server();
    const { id } = await api.clock.until(api.service.createSession(ENDLESS));
    const seen = read(api, id, {}, (_, all) => all.length > 12);
    expect(stored(await api.clock.until(seen)).map(({ sequence }) => sequence)).toEqual(
      Array.from({ length: 13 }, (_, index) => index + 1),
    );
    expect(running(worker)).toBe(1);
    expect((await api.service.session(id)).speed).toBeGreaterThan(0);
    const receipt = await api.clock.until(api.service.switchPrompt(id, { prompt: 'a robot', idempotencyKey: 'k' }));
    expect(
      await api.clock.until(api.service.switchPrompt(id, { prompt: 'a robot', idempotencyKey: 'k' })),
    ).toMatchObject({
      id: receipt.id,
    });
    const fork = await api.clock.until(api.service.forkSession(id, { prompt: 'a cat' }));
    expect(fork.parent).toMatchObject({ sessionId: id });
    expect(running(worker)).toBe(2);
    expect(await api.clock.until(api.service.stopSession(id))).toMatchObject({ state: 'STOPPED' });
    expect(await refusal(api.clock.until(api.service.createSession({ prompt: '' })))).toMatchObject({
      code: 'INVALID_INPUT',
      field: 'prompt',
    });
  });

  it('finds somebody for a session that rests nowhere, and answers for one that is over', async () => {
    const first = await server();
    const { id } = await api.clock.until(api.service.createSession({ ...ENDLESS, maxSeconds: 30 }));
    await api.clock.until(api.service.pauseSession(id));
    await api.clock.until(first.service.shutdown());
    const second = await server();
    expect(await api.clock.until(api.service.resumeSession(id))).toMatchObject({ state: 'LIVE' });
    expect(running(second)).toBe(1);
    await readToEnd(api, id);
    await api.clock.until(second.service.shutdown());
    expect(await api.clock.until(api.service.stopSession(id))).toMatchObject({ state: 'COMPLETED' });
    expect(await refusal(api.clock.until(api.service.resumeSession(id)))).toMatchObject({ code: 'ENDED' });
  });

  it('makes a session once though the answer got lost', async () => {
    const workers = [await server(), await server()];
    const send = wire.servers.values();
    for (const { value: cluster } of [send.next(), send.next(), send.next()]) {
      const real = cluster!.send.bind(cluster);
      let lost = 0;
      cluster!.send = async (...letter) => {
        const answer = await real(...letter);
        return letter[1].includes('"create"') && lost++ === 0 ? undefined : answer;
      };
    }
    const { id } = await api.clock.until(api.service.createSession(ENDLESS));
    const { items } = await api.service.sessions();
    expect(items.map((session) => session.id)).toEqual([id]);
    expect(workers.reduce((sum, worker) => sum + running(worker), 0)).toBe(1);
  });
});

describe('a session is made', () => {
  it('where its model is, and where there is room', async () => {
    const policy = { maxSessions: 1 };
    const [plain, other] = [await server({ policy }), await server({ policy, models: [OTHER_MODEL] })];
    await api.clock.until(api.service.createSession({ ...ENDLESS, model: 'other' }));
    expect([running(plain), running(other)]).toEqual([0, 1]);
    await api.clock.until(api.service.createSession({ ...ENDLESS, model: FAKE_MODEL.name }));
    expect([running(plain), running(other)]).toEqual([1, 1]);
    const full = await refusal(api.clock.until(api.service.createSession({ ...ENDLESS, model: 'other' })));
    expect(full).toMatchObject({ code: 'AT_CAPACITY', message: expect.stringContaining('in use') as string });
    const third = await server({ policy, models: [OTHER_MODEL] });
    await api.clock.until(api.service.createSession({ ...ENDLESS, model: 'other' }));
    expect(running(third)).toBe(1);
  });

  it('by a server with a device at itself, and at another when it is full', async () => {
    const policy = { maxSessions: 1 };
    const [here, there] = [await server({ policy }), await server({ policy })];
    await api.clock.until(here.service.createSession(ENDLESS));
    expect([running(here), running(there)]).toEqual([1, 0]);
    await api.clock.until(here.service.createSession(ENDLESS));
    expect([running(here), running(there)]).toEqual([1, 1]);
  });

  it('not at servers of another store that use the same wire', async () => {
    const stranger = makeWorld({ wire });
    await stranger.clock.until(stranger.service.start());
    expect(await refusal(api.clock.until(api.service.createSession(ENDLESS)))).toMatchObject({ code: 'AT_CAPACITY' });
    expect(api.service.models()).toEqual([]);
  });
});

describe('when a server leaves', () => {
  it('what it generated goes on at another at once, without gap', async () => {
    const [first, second] = [await server(), await server()];
    const made = await Promise.all(
      [0, 1].map(() => api.clock.until(first.service.createSession({ ...ENDLESS, maxSeconds: 60 }))),
    );
    const watching = made.map(({ id }) => read(api, id));
    await api.clock.advance(5_000);
    const before = running(first);
    await api.clock.until(first.service.shutdown());
    await api.clock.advance(1_000);
    expect([before, running(second)]).toEqual([2, 2]);
    for (const events of await api.clock.until(Promise.all(watching))) {
      expect(stored(events).map(({ sequence }) => sequence)).toEqual(stored(events).map((_, index) => index + 1));
      expect(statesOf(events)).toContainEqual(['PAUSED', 'WORKER_LOST']);
      expect(events.at(-1)).toMatchObject({ type: 'SessionEnded' });
    }
  });
});
