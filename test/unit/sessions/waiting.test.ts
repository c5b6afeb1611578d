import { beforeEach, describe, expect, it, vi } from 'vitest';
import { LocalWire } from '../../../src/cluster/index.js';
import {
  type CreateSessionInput,
  type DomainError,
  type Heartbeat,
  type Session,
  type SessionEvent,
  StoreError,
} from '../../../src/sessions/index.js';
import { waitSecondsAt } from '../../../src/sessions/live/waiting-time.js';
import { FAKE_MODEL } from '../../support/fake-engine.js';
import { makeWorld, read, readToEnd, statesOf, successorOf, type World } from '../../support/fake-service.js';

// Virtual time costs little, but a crowded machine may take its time over it.
vi.setConfig({ testTimeout: 60_000 });

const FILM = { prompt: 'a fox', pace: 'FASTEST', maxSeconds: 600 } as const;
const WAITING = { ...FILM, maxWaitSeconds: 1_000 } as const;

const ONE = { policy: { maxSessions: 1 } };

async function begun(options: Parameters<typeof makeWorld>[0] = ONE): Promise<World> {
  const world = makeWorld(options);
  await world.clock.until(world.service.start());
  return world;
}

const create = ({ clock, service }: World, input: CreateSessionInput = WAITING) =>
  clock.until(service.createSession(input));
const look = ({ clock, service }: World, { id }: Session) => clock.until(service.session(id));
const stop = ({ clock, service }: World, { id }: Session) => clock.until(service.stopSession(id));

const refusal = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    (error: DomainError) => error,
  );

const markers = ({ store }: World) => [...store.objects.keys()].filter((key) => key.startsWith('waiting/'));

let world: World;
let running: Session;

beforeEach(async () => {
  world = await begun();
  running = await create(world, FILM);
});

describe('a session for which there is no room', () => {
  it('waits if it may, knows its place, and begins when its turn has come', async () => {
    const second = await create(world);
    const third = await create(world);
    expect(second).toMatchObject({ state: 'QUEUED', queue: { place: 1 }, chunks: 0 });
    expect(third).toMatchObject({ state: 'QUEUED', queue: { place: 2 } });
    expect(world.service.status().queued).toBe(2);

    await stop(world, running);
    await world.clock.advance(2_000);
    expect(await look(world, second)).toMatchObject({ state: 'LIVE' });
    expect((await look(world, second)).queue).toBeUndefined();
    expect(await look(world, third)).toMatchObject({ state: 'QUEUED', queue: { place: 1 } });
    await stop(world, second);
    await world.clock.advance(2_000);
    expect(await look(world, third)).toMatchObject({ state: 'LIVE' });
    expect(markers(world)).toEqual([]);
    await stop(world, third);
    expect(statesOf(await readToEnd(world, third.id)).map(([state]) => state)).toEqual([
      'QUEUED',
      'STARTING',
      'LIVE',
      'STOPPED',
    ]);
  });

  it('is refused if it may not, and does not get past those that wait', async () => {
    expect(await refusal(create(world, FILM))).toMatchObject({ code: 'AT_CAPACITY' });
    const second = await create(world);
    await stop(world, running);
    // Nobody has looked at the line yet: there is room, and somebody before them.
    expect(await refusal(create(world, FILM))).toMatchObject({ code: 'AT_CAPACITY' });
    await world.clock.advance(2_000);
    expect(await look(world, second)).toMatchObject({ state: 'LIVE' });
  });

  it('is refused where too many wait', async () => {
    world = await begun({ policy: { maxSessions: 1, maxQueued: 1 } });
    await create(world, FILM);
    await create(world);
    expect(await refusal(create(world))).toMatchObject({
      code: 'AT_CAPACITY',
      message: expect.stringContaining('wait') as string,
    });
  });

  it('says how long it may wait in seconds that make sense', async () => {
    for (const maxWaitSeconds of [-1, Number.NaN, 1e9]) {
      expect(await refusal(create(world, { ...FILM, maxWaitSeconds }))).toMatchObject({
        code: 'INVALID_INPUT',
        field: 'maxWaitSeconds',
      });
    }
  });

  it('is made once, however often it is asked for', async () => {
    const keyed = { ...WAITING, idempotencyKey: 'k' };
    const first = await create(world, keyed);
    expect(await create(world, keyed)).toMatchObject({ id: first.id, state: 'QUEUED', queue: { place: 1 } });
    expect(await create(world, { ...keyed, maxWaitSeconds: 5 })).toMatchObject({ id: first.id });
    expect(await refusal(create(world, { ...keyed, prompt: 'another' }))).toMatchObject({ code: 'CONFLICT' });
    expect(markers(world)).toHaveLength(1);
  });

  it('leaves the line when it is stopped, paused or deleted', async () => {
    const [a, b, c, d] = [await create(world), await create(world), await create(world), await create(world)];
    expect(await stop(world, a)).toMatchObject({ state: 'STOPPED' });
    expect(await world.clock.until(world.service.pauseSession(b.id))).toMatchObject({
      state: 'PAUSED',
      reason: 'REQUESTED',
    });
    await world.clock.until(world.service.deleteSession(c.id));
    expect(await look(world, d)).toMatchObject({ queue: { place: 1 } });
    expect(markers(world)).toHaveLength(1);
    await stop(world, running);
    await world.clock.advance(5_000);
    expect(await look(world, d)).toMatchObject({ state: 'LIVE' });
    expect(await look(world, b)).toMatchObject({ state: 'PAUSED' });
  });

  it('keeps its place, and its prompts, while it is spoken to', async () => {
    const [second, third] = [await create(world), await create(world)];
    const receipt = await world.clock.until(world.service.switchPrompt(second.id, { prompt: 'a bear' }));
    expect(await world.clock.until(world.service.resumeSession(second.id))).toMatchObject({ state: 'QUEUED' });
    expect(await look(world, third)).toMatchObject({ queue: { place: 2 } });
    await stop(world, running);
    await world.clock.advance(4_000);
    expect((await look(world, second)).receipts).toContainEqual(
      expect.objectContaining({ id: receipt.id, status: 'APPLIED' }),
    );
  });

  it('leaves when it has waited for as long as it may', async () => {
    const second = await create(world, { ...WAITING, maxWaitSeconds: 20 });
    await world.clock.advance(15_000);
    expect(await look(world, second)).toMatchObject({ state: 'QUEUED' });
    await world.clock.advance(10_000);
    expect(await look(world, second)).toMatchObject({ state: 'STOPPED', reason: 'CAPACITY' });
    expect(markers(world)).toEqual([]);
  });

  it('leaves when nobody watches for it, unless it goes to its end by itself', async () => {
    const unwatched = await create(world, { prompt: 'a fox', maxWaitSeconds: 1_000 });
    const watched = await create(world, { prompt: 'a fox', maxWaitSeconds: 1_000 });
    const film = await create(world);
    const closed = new AbortController();
    void read(world, watched.id, { signal: closed.signal });
    await world.clock.advance(80_000);
    expect(await look(world, unwatched)).toMatchObject({ state: 'STOPPED', reason: 'IDLE' });
    expect(await look(world, watched)).toMatchObject({ queue: { place: 1 } });
    expect(await look(world, film)).toMatchObject({ queue: { place: 2 } });
    closed.abort();
  });

  it('tells those who watch where it stands, whenever that changes', async () => {
    const second = await create(world);
    const third = await create(world);
    const told = world.clock.until(
      read(world, third.id, {}, (event) => event.type === 'StateChanged' && event.state === 'STARTING'),
    );
    await world.clock.advance(3_000);
    await stop(world, second);
    await world.clock.advance(3_000);
    await stop(world, running);
    const places = (await told)
      .filter((event: SessionEvent): event is Heartbeat => event.type === 'Heartbeat')
      .map(({ state, queue }) => [state, queue?.place]);
    expect(places.slice(0, 2)).toEqual([
      ['QUEUED', 2],
      ['QUEUED', 1],
    ]);
  });

  it('waits for a fork and for what is taken up again, too', async () => {
    await world.clock.advance(3_000);
    const fork = await world.clock.until(
      world.service.forkSession(running.id, { atChunk: 1, maxSeconds: 30, maxWaitSeconds: 500, pace: 'FASTEST' }),
    );
    expect(fork).toMatchObject({ state: 'QUEUED', queue: { place: 1 }, chunks: 1 });
    await world.clock.until(world.service.pauseSession(running.id));
    await world.clock.advance(3_000);
    expect(await look(world, fork)).toMatchObject({ state: 'LIVE' });
    const resume = (input = {}) => world.clock.until(world.service.resumeSession(running.id, input));
    expect(await refusal(resume())).toMatchObject({ code: 'AT_CAPACITY' });
    const { chunks } = await look(world, running);
    expect(await resume({ maxWaitSeconds: 500 })).toMatchObject({ state: 'QUEUED', queue: { place: 1 }, chunks });
    await world.clock.until(world.service.stopSession(fork.id));
    await world.clock.advance(3_000);
    expect(await look(world, running)).toMatchObject({ state: 'LIVE' });
    expect((await look(world, running)).chunks).toBeGreaterThan(chunks);
    await stop(world, running);
    expect(statesOf(await readToEnd(world, running.id))).toEqual([
      ['QUEUED', undefined],
      ['STARTING', undefined],
      ['LIVE', undefined],
      ['PAUSED', 'REQUESTED'],
      ['QUEUED', undefined],
      ['STARTING', undefined],
      ['LIVE', undefined],
      ['STOPPED', 'REQUESTED'],
    ]);
  });

  it('that has video is paused and not stopped when its time is over', async () => {
    await world.clock.advance(3_000);
    await world.clock.until(world.service.pauseSession(running.id));
    const other = await create(world, FILM);
    const resumed = await world.clock.until(world.service.resumeSession(running.id, { maxWaitSeconds: 5 }));
    expect(resumed).toMatchObject({ state: 'QUEUED' });
    await world.clock.advance(12_000);
    expect(await look(world, running)).toMatchObject({ state: 'PAUSED', reason: 'CAPACITY' });
    await stop(world, other);
    await world.clock.advance(12_000);
    expect(await look(world, running)).toMatchObject({ state: 'PAUSED', reason: 'CAPACITY' });
  });
});

describe('the line', () => {
  it('is as it was after the server has ended, or died', async () => {
    const [second, third, fourth] = [await create(world), await create(world), await create(world)];
    await world.clock.until(world.service.shutdown());
    let next = await begun({ ...ONE, after: world });
    for (const [index, session] of [second, third, fourth].entries()) {
      expect(await look(next, session)).toMatchObject({ state: 'QUEUED', queue: { place: index + 1 } });
    }
    next = await successorOf(next, ONE);
    await next.clock.advance(3_000);
    // What ran goes on first, then who waited, in the order in which they came.
    for (const [index, session] of [second, third, fourth].entries()) {
      expect(await look(next, session)).toMatchObject({ state: 'QUEUED', queue: { place: index + 1 } });
    }
    await stop(next, running);
    for (const session of [second, third, fourth]) {
      await next.clock.advance(3_000);
      expect(await look(next, session)).toMatchObject({ state: 'LIVE' });
      await stop(next, session);
    }
  });

  it('is made anew of the sessions when its own objects are lost', async () => {
    const second = await create(world);
    for (const key of markers(world)) world.store.objects.delete(key);
    const next = await successorOf(world, ONE);
    expect(await look(next, second)).toMatchObject({ state: 'QUEUED', queue: { place: 1 } });
  });

  it('outlasts a store that fails', async () => {
    const second = await create(world);
    world.store.fault = () => ({ when: 'before', error: new StoreError('UNREACHABLE', 'no route to host') });
    await world.clock.advance(20_000);
    world.store.fault = () => undefined;
    await refusal(stop(world, running));
    await world.clock.advance(90_000);
    expect(await look(world, second)).toMatchObject({ state: 'LIVE' });
  });

  it('is not held up by a session that cannot be read any more', async () => {
    const [second, third] = [await create(world), await create(world)];
    await world.store.put(`sessions/${second.id}/session.json`, new TextEncoder().encode('{'));
    const next = await successorOf(world, ONE);
    await stop(next, running);
    await next.clock.advance(5_000);
    expect(await look(next, third)).toMatchObject({ state: 'LIVE' });
  });
});

describe('with several servers', () => {
  it('whoever has room begins the first; a new server takes from the line as much as it can', async () => {
    const wire = new LocalWire();
    const api = await begun({ wire, hosts: false });
    const worker = () => begun({ wire, after: api, policy: { maxSessions: 1 } });
    const a = await worker();
    const [first, second, third, fourth] = [
      await create(api, FILM),
      await create(api),
      await create(api),
      await create(api),
    ];
    expect(fourth).toMatchObject({ state: 'QUEUED', queue: { place: 3 } });
    expect(api.service.status()).toMatchObject({ queued: 3, demand: { waiting: 3, live: 1 } });
    const b = await worker();
    await api.clock.advance(4_000);
    expect(await look(api, second)).toMatchObject({ state: 'LIVE' });
    expect(await look(api, third)).toMatchObject({ queue: { place: 1 } });
    await stop(api, first);
    await api.clock.advance(4_000);
    expect(await look(api, third)).toMatchObject({ state: 'LIVE' });
    expect(await stop(api, fourth)).toMatchObject({ state: 'STOPPED' });
    for (const { service } of [a, b]) expect(service.status().sessions).toEqual({ LIVE: 1 });
    expect(api.service.status().queued).toBe(0);
  });

  it('goes to one that has the model in memory rather than to another with room', async () => {
    const wire = new LocalWire();
    const api = await begun({ wire, hosts: false });
    const cold = { ...FAKE_MODEL, state: 'AVAILABLE' as const };
    const full = await begun({ wire, after: api, policy: { maxSessions: 1 } });
    await create(api, FILM);
    const second = await create(api);
    const [unloaded, loaded] = await Promise.all([
      begun({ wire, after: api, models: [cold] }),
      begun({ wire, after: api }),
    ]);
    await api.clock.advance(5_000);
    expect(await look(api, second)).toMatchObject({ state: 'LIVE' });
    expect(loaded.service.status().sessions).toEqual({ LIVE: 1 });
    expect(unloaded.service.status().sessions).toEqual({});
    expect(full.service.status().sessions).toEqual({ LIVE: 1 });
  });
});

describe('how long it takes', () => {
  it('is what is known of ends, or what others took, or nothing', () => {
    expect(waitSecondsAt(1, [])).toBeUndefined();
    expect(waitSecondsAt(1, [{ ends: [], running: 2 }])).toBeUndefined();
    expect(waitSecondsAt(1, [{ ends: [40, 90], running: 2 }])).toBe(40);
    expect(
      waitSecondsAt(2, [
        { ends: [40], running: 1 },
        { ends: [15], running: 1 },
      ]),
    ).toBe(40);
    // Two places whose sessions run for a minute: one comes free every half a minute.
    expect(waitSecondsAt(3, [{ ends: [], running: 2, meanSeconds: 60 }])).toBe(90);
    expect(waitSecondsAt(1, [{ ends: [300], running: 2, meanSeconds: 60 }])).toBe(30);
  });

  it('is measured', async () => {
    const world = await begun();
    for (let n = 0; n < 3; n++) {
      const session = await create(world, { prompt: 'a fox' });
      await world.clock.advance(30_000);
      await stop(world, session);
    }
    await create(world, { prompt: 'a fox' });
    expect((await create(world, { prompt: 'a fox', maxWaitSeconds: 500 })).queue).toEqual({
      place: 1,
      waitSeconds: 30,
    });
    expect((await create(world, { prompt: 'a fox', maxWaitSeconds: 500 })).queue).toEqual({
      place: 2,
      waitSeconds: 60,
    });
  });

  it('follows from the end of what runs in real time', async () => {
    const world = await begun();
    await create(world, { prompt: 'a fox', maxSeconds: 100 });
    const { queue } = await create(world, { prompt: 'a fox', maxWaitSeconds: 500 });
    expect(queue).toEqual({ place: 1, waitSeconds: 100 });
  });
});
