import { describe, expect, it, vi } from 'vitest';
import { DomainError, type Session, StoreError } from '../../../src/sessions/index.js';
import { unsealText } from '../../../src/sessions/stored/checksum.js';
import { expectWhole, makeWorld, read, statesOf, stored, successorOf, type World } from '../../support/fake-service.js';

// Virtual time costs little, but a crowded machine may take its time over it.
vi.setConfig({ testTimeout: 60_000 });

const OUTAGE = new StoreError('UNREACHABLE', 'no route to host');
const DENIED = new StoreError('DENIED', 'wrong key');
const ENDLESS = { prompt: 'a fox', pace: 'REALTIME' as const };

async function create(world: World, input: object = {}): Promise<Session> {
  return world.clock.until(world.service.createSession({ ...ENDLESS, ...input }));
}

const running = (world: World) =>
  world.service.status().devices.reduce((sum, device) => sum + device.realtimeSessions + device.fastestSessions, 0);

const refusal = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    (error: unknown) => (error instanceof DomainError ? error.code : String(error)),
  );

/** Puts that a test holds up until it lets them go. */
function gate(world: World, matches: (key: string) => boolean): () => void {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => (open = resolve));
  const put = world.store.put.bind(world.store);
  world.store.put = async (key, ...rest) => {
    if (matches(key)) await opened;
    return put(key, ...rest);
  };
  return open;
}

describe('a session that is being opened', () => {
  it('is stopped by a command that comes meanwhile, and stays so', async () => {
    const world = makeWorld();
    const open = gate(world, (key) => key.endsWith('/log/000000.jsonl'));
    const creating = world.service.createSession({ ...ENDLESS, idempotencyKey: 'k' });
    await world.clock.advance(100);
    const { items } = await world.service.sessions();
    const stopping = world.service.stopSession((items[0] as Session).id);
    await world.clock.advance(100);
    open();
    const [created, stopped] = await world.clock.until(Promise.all([creating, stopping]));
    expect(stopped).toMatchObject({ id: created.id, state: 'STOPPED' });
    await world.clock.advance(30_000);
    expect(await world.service.session(created.id)).toMatchObject({
      state: 'STOPPED',
      finishedAt: expect.any(Date) as Date,
    });
    expect(running(world)).toBe(0);
    expect(world.engine.active).toBe(0);
  });

  it('is stopped by a command that comes while it is taken over, and stays so', async () => {
    const world = makeWorld();
    const { id } = await create(world);
    await world.clock.advance(2_000);
    await world.clock.until(world.service.shutdown());
    const next = makeWorld({ after: world });
    const open = gate(next, (key) => key.endsWith('/session.json'));
    const [resuming, stopping] = [next.service.resumeSession(id), next.service.stopSession(id)];
    await next.clock.advance(100);
    open();
    const [, stopped] = await next.clock.until(Promise.allSettled([resuming, stopping]));
    expect(stopped).toMatchObject({ value: { state: 'STOPPED' } });
    await next.clock.advance(30_000);
    expect(await next.service.session(id)).toMatchObject({ state: 'STOPPED' });
    expect(running(next)).toBe(0);
  });
});

describe('a stop', () => {
  it('of a session that is about to rest, for another reason, is carried out', async () => {
    const world = makeWorld({ policy: { idleSeconds: 5, checkpointBlocks: 1_000 } });
    const { id } = await create(world);
    let saving = false;
    const open = gate(world, (key) => (saving ||= key.includes('/checkpoints/')));
    // Nobody watches.
    while (!saving) await world.clock.advance(100);
    const stopping = world.service.stopSession(id);
    await world.clock.advance(100);
    open();
    expect(await world.clock.until(stopping)).toMatchObject({ state: 'STOPPED' });
    await world.clock.advance(10_000);
    expect(await world.service.session(id)).toMatchObject({ state: 'STOPPED', finishedAt: expect.any(Date) as Date });
  });
});

describe('a shutdown', () => {
  it('waits for what is being opened, and leaves that too where another server goes on with it', async () => {
    const world = makeWorld();
    const open = gate(world, (key) => key.includes('/log/'));
    const creating = world.service.createSession(ENDLESS);
    await world.clock.advance(100);
    const leaving = world.service.shutdown();
    await world.clock.advance(1_000);
    open();
    const [{ id }] = await world.clock.until(Promise.all([creating, leaving]));
    expect(world.service.status().sessions).toEqual({});
    expect(world.engine.active).toBe(0);
    const next = await successorOf(world);
    expect((await next.service.sessions()).items.map((session) => session.id)).toEqual([id]);
    expect(await refusal(next.clock.until(next.service.resumeSession(id)))).toBeUndefined();
  });
});

describe('a creation that fails half-way', () => {
  it.each(['by-date/', '/session.json', '/log/000000.jsonl', 'unfinished/'])(
    'at %s: the retry makes the session, and it runs',
    async (part) => {
      const world = makeWorld({ policy: { storeRetrySeconds: 1 } });
      world.store.fault = (operation, key) =>
        operation === 'put' && key.includes(part) ? { when: 'after', error: OUTAGE } : undefined;
      const input = { ...ENDLESS, idempotencyKey: 'once' };
      const first = await refusal(world.clock.until(world.service.createSession(input)));
      world.store.fault = () => undefined;
      const { id } = await world.clock.until(world.service.createSession(input));
      await world.clock.advance(3_000);
      expect(await world.service.session(id)).toMatchObject({ state: 'LIVE' });
      expect([undefined, 'STORAGE']).toContain(first);
      expect(running(world)).toBe(1);
    },
  );

  it('leaves nothing behind when its store works again at once', async () => {
    const world = makeWorld({ policy: { storeRetrySeconds: 1 } });
    world.store.fault = (operation, key) =>
      operation === 'put' && key.endsWith('.jsonl') ? { when: 'before', error: DENIED } : undefined;
    expect(await refusal(create(world))).toBe('STORAGE');
    expect([...world.store.objects.keys()].filter((key) => !/^(servers|deployment)\//.test(key))).toEqual([]);
    expect(running(world)).toBe(0);
  });
});

describe('a place', () => {
  it('is kept by the session that has it when a duplicate creation fails', async () => {
    const world = makeWorld({ policy: { maxSessions: 1 } });
    await create(world, { idempotencyKey: 'k' });
    expect(await refusal(create(world, { idempotencyKey: 'k', prompt: 'another' }))).toBe('CONFLICT');
    expect(await refusal(create(world))).toBe('AT_CAPACITY');
    expect(running(world)).toBe(1);
  });

  it('is kept by the winner of two creations at once with one key and different inputs', async () => {
    for (let round = 0; round < 10; round++) {
      const world = makeWorld({ policy: { maxSessions: 1 } });
      const inputs = ['one', 'two'].map((prompt) =>
        world.service.createSession({ ...ENDLESS, prompt, idempotencyKey: 'k' }),
      );
      const made = await world.clock.until(Promise.all(inputs.map((input) => refusal(input))));
      expect(made.sort()).toEqual(['CONFLICT', undefined]);
      expect(running(world)).toBe(1);
      expect(await refusal(create(world))).toBe('AT_CAPACITY');
    }
  });

  it('is given back by whom another server was faster than', async () => {
    const world = makeWorld();
    const other = makeWorld({ after: world });
    const input = { ...ENDLESS, idempotencyKey: 'k' };
    const made = await world.clock.until(
      Promise.all([world.service.createSession(input), other.service.createSession(input)]),
    );
    expect(made[0].id).toBe(made[1].id);
    expect(running(world) + running(other)).toBe(1);
    await world.clock.advance(5_000);
    expect(running(world) + running(other)).toBe(1);
    expect(world.engine.active + other.engine.active).toBe(1);
  });

  it('goes with the memory: paused sessions keep no more than pausedInMemory of it', async () => {
    const world = makeWorld({ times: { step: 5, recache: 5 }, policy: { pausedInMemory: 2, maxSessions: 16 } });
    for (let n = 0; n < 24; n++) {
      const { id } = await create(world);
      await world.clock.advance(1_000);
      await world.clock.until(world.service.pauseSession(id));
    }
    expect(running(world)).toBe(0);
    expect(world.engine.active).toBe(2);
    expect(world.media.openEncoders).toBe(2);
  });

  it('of a paused session goes to a newcomer that needs it, and the session goes on from its checkpoint', async () => {
    const world = makeWorld({ policy: { maxSessions: 1 } });
    const { id } = await create(world);
    await world.clock.advance(2_000);
    await world.clock.until(world.service.pauseSession(id));
    expect(world.engine.active).toBe(1);
    const other = await create(world);
    expect(world.engine.active).toBe(1);
    expect(await refusal(world.clock.until(world.service.resumeSession(id)))).toBe('AT_CAPACITY');
    await world.clock.until(world.service.stopSession(other.id));
    expect(await world.clock.until(world.service.resumeSession(id))).toMatchObject({ state: 'LIVE' });
    await world.clock.advance(1_000);
    expect(world.engine.opened.at(-1)).toBe('restore');
  });
});

describe('while the store fails', () => {
  it('a session that it pauses gives back device, encoder and place', async () => {
    const world = makeWorld({ policy: { storeRetrySeconds: 5 } });
    await create(world);
    await world.clock.advance(2_000);
    world.store.fault = (operation) => (operation === 'put' ? { when: 'before', error: OUTAGE } : undefined);
    await world.clock.advance(60_000);
    expect(world.engine.active).toBe(0);
    expect(world.media.openEncoders).toBe(0);
    expect(running(world)).toBe(0);
  });

  it.each([OUTAGE, DENIED])('a stop is carried out as soon as it can be (%s)', async (error) => {
    const world = makeWorld({ policy: { storeRetrySeconds: 5 } });
    const { id } = await create(world);
    await world.clock.advance(2_000);
    world.store.fault = (operation) => (operation === 'put' ? { when: 'before', error } : undefined);
    expect(await refusal(world.clock.until(world.service.stopSession(id)))).toBe('STORAGE');
    expect(await refusal(world.clock.until(world.service.resumeSession(id)))).toBe('ENDED');
    world.store.fault = () => undefined;
    await world.clock.advance(40_000);
    expect(await world.service.session(id)).toMatchObject({ state: 'STOPPED', finishedAt: expect.any(Date) as Date });
  });

  it('a session that it paused says so, in the log too, as soon as it can', async () => {
    const world = makeWorld({ policy: { storeRetrySeconds: 5, idleSeconds: 0 } });
    const { id } = await create(world);
    await world.clock.advance(2_000);
    world.store.fault = (operation) => (operation === 'put' ? { when: 'before', error: DENIED } : undefined);
    await world.clock.advance(20_000);
    expect(await world.service.session(id)).toMatchObject({ state: 'PAUSED', reason: 'STORAGE' });
    world.store.fault = () => undefined;
    await world.clock.advance(40_000);
    const elsewhere = makeWorld({ after: world });
    expect(await elsewhere.service.session(id)).toMatchObject({ state: 'PAUSED', reason: 'STORAGE' });
  });

  it.each([
    ['once', 1, false],
    ['ten times', 10, false],
    ['ten times, and the reading that follows fails too', 10, true],
  ])('a conflict that nobody caused on a write of the log, %s, ends no session', async (_how, times, reading) => {
    const world = makeWorld();
    const { id } = await create(world, { maxSeconds: 60 });
    const watching = read(world, id);
    await world.clock.advance(2_000);
    let left = times;
    world.store.fault = (operation, key) => {
      const hit = key.includes('/log/') && (operation === 'put' || (reading && operation === 'get'));
      if (!hit || left-- <= 0) return undefined;
      return { when: 'before', error: new StoreError('CONFLICT', 'ConditionalRequestConflict') };
    };
    const events = stored(await world.clock.until(watching));
    expectWhole(events, 81);
    expect(events.at(-1)).toMatchObject({ type: 'SessionEnded', state: 'COMPLETED' });
    expect(world.engine.active).toBe(0);
  });

  it('that is empty all at once, as an unmounted directory is, its sessions are paused and kept, and go on with it', async () => {
    const world = makeWorld({ policy: { idleSeconds: 0 } });
    await world.clock.until(world.service.start());
    const { id } = await create(world, { maxSeconds: 60 });
    const watching = read(world, id);
    await world.clock.advance(2_000);
    const kept = new Map(world.store.objects);
    world.store.objects.clear();
    await world.clock.advance(30_000);
    expect(await world.service.session(id)).toMatchObject({ state: 'PAUSED', reason: 'STORAGE' });
    expect(world.engine.active).toBe(0);
    world.store.objects.clear();
    for (const [key, object] of kept) world.store.objects.set(key, object);
    await world.clock.advance(60_000);
    const elsewhere = makeWorld({ after: world });
    expect(await elsewhere.service.session(id)).toMatchObject({ state: 'PAUSED', reason: 'STORAGE' });
    expect(await world.clock.until(world.service.resumeSession(id))).toMatchObject({ state: 'LIVE' });
    const events = stored(await world.clock.until(watching));
    expectWhole(events, 81);
    expect(events.at(-1)).toMatchObject({ type: 'SessionEnded', state: 'COMPLETED' });
  });

  it('for long just when it is to be seen whose a session is, the session is looked after all the same', async () => {
    const world = makeWorld({ policy: { idleSeconds: 0, storeRetrySeconds: 5 } });
    await world.clock.until(world.service.start());
    const { id } = await create(world);
    await world.clock.advance(2_000);
    // Somebody who is not alive has written: what a copy of the store from before the last start has.
    const key = `sessions/${id}/session.json`;
    const record = JSON.parse(unsealText(world.store.text(key), key)) as { owner: string };
    await world.store.put(key, Buffer.from(JSON.stringify({ ...record, owner: 'nobody' })));
    world.store.objects.delete([...world.store.objects.keys()].find((name) => name.startsWith('servers/')) as string);
    world.store.fault = (operation, name) =>
      operation === 'get' && name === key && world.engine.active === 0 ? { when: 'before', error: OUTAGE } : undefined;
    await world.clock.advance(60_000);
    expect(world.engine.active).toBe(0);
    world.store.fault = () => undefined;
    await world.clock.advance(30_000);
    expect(await world.service.session(id)).toMatchObject({ state: 'LIVE' });
    expect(world.engine.active).toBe(1);
  });

  it('a shutdown does not wait for it longer than storeFarewellSeconds', async () => {
    const world = makeWorld({ policy: { storeRetrySeconds: 60, storeFarewellSeconds: 5 } });
    for (let n = 0; n < 3; n++) await create(world, { pace: 'FASTEST' });
    await world.clock.advance(2_000);
    world.store.fault = () => ({ when: 'before', error: OUTAGE });
    await world.clock.advance(1_000);
    const began = world.clock.monotonic();
    await world.clock.until(world.service.shutdown());
    expect(world.clock.monotonic() - began).toBeLessThan(10_000);
    expect(world.engine.active).toBe(0);
  });
});

describe('a second server on the same store', () => {
  it('leaves alone what a living one generates, shows it truly, and says whose it is', async () => {
    const world = makeWorld();
    const { id } = await create(world, { maxSeconds: 60 });
    const watching = read(world, id);
    await world.clock.advance(3_000);
    const other = makeWorld({ after: world });
    await other.clock.until(other.service.start());
    const began = other.clock.monotonic();
    const late: number[] = [];
    const events = read(other, id, {}, (event) => {
      if (event.type === 'FrameChunk') late.push(other.clock.now() - event.at);
      return false;
    });
    await other.clock.advance(40_000);
    for (const command of ['pauseSession', 'resumeSession', 'stopSession'] as const) {
      const refused = other.clock.until(other.service[command](id));
      await expect(refused).rejects.toMatchObject({
        code: 'OWNED_ELSEWHERE',
        owner: { since: expect.any(Date) as Date },
      });
    }
    expect(await refusal(other.clock.until(other.service.switchPrompt(id, { prompt: 'x' })))).toBe('OWNED_ELSEWHERE');
    expect(await other.service.session(id)).toMatchObject({ state: 'LIVE' });
    const [here, there] = await world.clock.until(Promise.all([watching, events]));
    expect(statesOf(here).map(([state]) => state)).toEqual(['QUEUED', 'STARTING', 'LIVE', 'COMPLETED']);
    expect(there.filter(({ type }) => type !== 'Heartbeat')).toEqual(here.filter(({ type }) => type !== 'Heartbeat'));
    expect(began).toBeGreaterThan(0);
    expect(Math.max(...late.slice(10))).toBeLessThanOrEqual(2_500);
  });

  it('counts what is watched there, also while only chunks flow', async () => {
    const world = makeWorld({ policy: { idleSeconds: 10 } });
    const other = makeWorld({ after: world, policy: { idleSeconds: 10 } });
    await other.clock.until(other.service.start());
    const { id } = await create(world);
    const closed = new AbortController();
    const watching = read(other, id, { signal: closed.signal });
    await world.clock.advance(120_000);
    expect(await world.service.session(id)).toMatchObject({ state: 'LIVE' });
    closed.abort();
    await world.clock.until(watching);
    await world.clock.advance(30_000);
    expect(await world.service.session(id)).toMatchObject({ state: 'PAUSED', reason: 'IDLE' });
  });

  it('takes over when the lease of a dead one is over, not before', async () => {
    const world = makeWorld();
    const { id } = await create(world);
    void read(world, id);
    await world.clock.advance(5_000);
    const other = makeWorld({ after: world });
    await other.clock.until(other.service.start());
    await other.clock.advance(2_000);
    world.crash();
    await other.clock.advance(6_000);
    expect(await other.service.session(id)).toMatchObject({ state: 'LIVE' });
    expect(await refusal(other.clock.until(other.service.stopSession(id)))).toBe('OWNED_ELSEWHERE');
    await other.clock.advance(10_000);
    expect(statesOf(await other.clock.until(read(other, id, {}, (_, all) => statesOf(all).length === 5)))).toEqual([
      ['QUEUED', undefined],
      ['STARTING', undefined],
      ['LIVE', undefined],
      ['PAUSED', 'WORKER_LOST'],
      ['LIVE', undefined],
    ]);
    expect([...world.store.objects.keys()].filter((key) => key.startsWith('servers/'))).toHaveLength(1);
  });
});

describe('after a server was lost', () => {
  const goingOn = async (
    input: object,
    { idleSeconds = 60, watched = 0, unwatched = 0 }: { idleSeconds?: number; watched?: number; unwatched?: number },
    orderly = false,
  ) => {
    const world = makeWorld({ policy: { idleSeconds } });
    const { id } = await create(world, input);
    const closed = new AbortController();
    const watching = watched > 0 ? read(world, id, { signal: closed.signal }) : Promise.resolve();
    await world.clock.advance(watched || 100);
    closed.abort();
    await world.clock.until(Promise.all([watching, world.clock.sleep(unwatched)]));
    if (orderly) await world.clock.until(world.service.shutdown());
    const next = await successorOf(world, { policy: { idleSeconds } });
    const { state, reason } = await next.service.session(id);
    return { state, reason };
  };

  it.each([false, true])('what was watched goes on by itself (orderly: %s)', async (orderly) => {
    const session = await goingOn({}, { watched: 5_000, unwatched: 20_000 }, orderly);
    expect(session).toEqual({ state: 'LIVE', reason: undefined });
  });

  it.each([false, true])('what nobody watched rests (orderly: %s)', async (orderly) => {
    expect(await goingOn({}, { unwatched: 20_000 }, orderly)).toEqual({ state: 'PAUSED', reason: 'IDLE' });
  });

  it('all go on where nothing ever rests', async () => {
    expect((await goingOn({}, { idleSeconds: 0, unwatched: 20_000 })).state).toBe('LIVE');
  });

  it('FASTEST ones with an end go on, others rest', async () => {
    expect((await goingOn({ pace: 'FASTEST', maxSeconds: 600 }, { unwatched: 10_000 })).state).toBe('LIVE');
    expect(await goingOn({ pace: 'FASTEST' }, { unwatched: 10_000 })).toEqual({ state: 'PAUSED', reason: 'IDLE' });
  });

  it('what was paused on request stays paused, and what was stopped stays stopped', async () => {
    const world = makeWorld();
    const paused = await create(world);
    const stopped = await create(world);
    await world.clock.advance(2_000);
    await world.clock.until(world.service.pauseSession(paused.id));
    await world.clock.until(world.service.stopSession(stopped.id));
    const next = await successorOf(world);
    expect(await next.service.session(paused.id)).toMatchObject({ state: 'PAUSED', reason: 'REQUESTED' });
    expect(await next.service.session(stopped.id)).toMatchObject({ state: 'STOPPED' });
  });

  it('twelve sessions go on though only two may start at once', async () => {
    const world = makeWorld({ times: { step: 5, recache: 5 } });
    const ids: string[] = [];
    for (let n = 0; n < 12; n++) {
      const { id } = await create(world);
      ids.push(id);
      void read(world, id);
      await world.clock.advance(500);
    }
    const next = await successorOf(world, { times: { step: 5, recache: 5 } });
    await next.clock.advance(20_000);
    const states = await Promise.all(ids.map(async (id) => (await next.service.session(id)).state));
    expect(states).toEqual(ids.map(() => 'LIVE'));
  });
});

describe('FASTEST without an end', () => {
  it('rests when nobody watches, and with an end goes to it', async () => {
    const world = makeWorld({ policy: { idleSeconds: 10 } });
    const endless = await create(world, { pace: 'FASTEST' });
    const ending = await create(world, { pace: 'FASTEST', maxSeconds: 30 });
    await world.clock.advance(60_000);
    expect(await world.service.session(endless.id)).toMatchObject({ state: 'PAUSED', reason: 'IDLE' });
    expect(await world.service.session(ending.id)).toMatchObject({ state: 'COMPLETED' });
    expect(running(world)).toBe(0);
  });
});

describe('a page of sessions', () => {
  it('is listed from where the one before ended', async () => {
    const world = makeWorld({ policy: { maxSessions: 100 } });
    for (let n = 0; n < 30; n++) await create(world, { pace: 'FASTEST', maxSeconds: 1 });
    const all: string[] = [];
    let after: string | undefined;
    const before = world.store.listed;
    do {
      const page = await world.service.sessions({ first: 5, ...(after !== undefined && { after }) });
      all.push(...page.items.map(({ id }) => id));
      after = page.next;
    } while (after !== undefined);
    expect(new Set(all).size).toBe(30);
    expect(world.store.listed - before).toBeLessThanOrEqual(30 + 6);
  });
});

describe('many switches', () => {
  it('2,000 that give way to one another cost a pause few writes', async () => {
    const world = makeWorld({ policy: { maxPendingPrompts: 3_000 }, times: { step: 500, recache: 30 } });
    const { id } = await create(world, { maxSeconds: 600 });
    await world.clock.advance(100);
    const asked = Array.from({ length: 2_000 }, (_, n) => world.service.switchPrompt(id, { prompt: `prompt ${n}` }));
    await Promise.all(asked);
    const before = world.store.puts.length;
    await world.clock.until(
      read(world, id, {}, (event) => event.type === 'PromptApplied' && event.prompt === 'prompt 1999'),
    );
    await world.clock.until(world.service.pauseSession(id));
    expect(world.store.puts.length - before).toBeLessThan(60);
    const { receipts } = await world.service.session(id);
    expect(receipts.filter(({ status }) => status === 'PENDING')).toEqual([]);
  });
});
