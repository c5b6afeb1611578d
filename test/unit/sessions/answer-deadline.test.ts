import { describe, expect, it } from 'vitest';
import { patienceOf } from '../../../src/server/patience.js';
import { type PromptApplied, type SessionEvent, StoreError } from '../../../src/sessions/index.js';
import { chunksOf, makeWorld, read, type World } from '../../support/fake-service.js';

const OUTAGE = new StoreError('UNREACHABLE', 'no network');

async function live(world: World): Promise<string> {
  const { id } = await world.clock.until(world.service.createSession({ prompt: 'a fox' }));
  await world.clock.until(read(world, id, {}, (_event, all) => chunksOf(all).length > 1));
  return id;
}

describe('patience', () => {
  it.each([
    [{ requestSeconds: 30, storeRetrySeconds: 60, shutdownSeconds: 25 }],
    [{ requestSeconds: 1, storeRetrySeconds: 600, shutdownSeconds: 1 }],
    [{ requestSeconds: 300, storeRetrySeconds: 1, shutdownSeconds: 300 }],
  ])('is longer the further away from the store one waits: %j', (config) => {
    const { attemptSeconds, answerSeconds, storeFarewellSeconds } = patienceOf(config);
    expect(attemptSeconds * 2).toBeLessThanOrEqual(answerSeconds);
    expect(answerSeconds).toBeLessThan(config.requestSeconds);
    expect(storeFarewellSeconds).toBeLessThan(config.shutdownSeconds);
  });

  it('of requests ends before that of sessions, and says what they wait for', async () => {
    const world = makeWorld({ policy: { answerSeconds: 5, idleSeconds: 0 } });
    const id = await live(world);
    world.store.fault = () => ({ when: 'before', error: OUTAGE });
    const asked = world.clock.monotonic();
    const refused = { code: 'STORAGE', message: expect.stringContaining('may still take effect') as string };
    const answers: Promise<unknown>[] = [
      world.service.switchPrompt(id, { prompt: 'a robot' }),
      world.service.createSession({ prompt: 'another' }),
      world.service.pauseSession(id),
    ];
    for (const answer of answers) answer.catch(() => undefined);
    for (const answer of answers) await expect(world.clock.until(answer)).rejects.toMatchObject(refused);
    expect(world.clock.monotonic() - asked).toBeLessThan(7_000);
    expect((await world.service.session(id)).reason).toBeUndefined();
  });

  it.each<[string, (service: World['service'], id: string) => Promise<unknown>]>([
    ['deleting', (service, id) => service.deleteSession(id)],
    ['exporting', (service, id) => service.exportSession(id)],
    ['asking for an export', (service, id) => service.export(id, '000000-000002')],
    ['cancelling an export', (service, id) => service.cancelExport(id, '000000-000002')],
    [
      'prompts',
      async (service, id) => service.timeline({ ...(await service.session(id)), timeline: [] }, { first: 9 }),
    ],
    [
      'receipts',
      async (service, id) => service.receipts({ ...(await service.session(id)), receipts: [] }, { first: 9 }),
    ],
    ['a playlist', (service, id) => service.playlist(id)],
  ])('of %s has an end where only the record can still be read', async (_what, ask) => {
    const world = makeWorld({ policy: { answerSeconds: 5, idleSeconds: 0 } });
    const id = await live(world);
    await world.clock.until(world.service.stopSession(id));
    await world.clock.until(world.service.exportSession(id, { fromChunk: 0, toChunk: 2 }));
    await world.clock.advance(10_000);
    await world.clock.until(world.service.shutdown());
    const { service, store, clock } = makeWorld({ after: world, policy: { answerSeconds: 5, idleSeconds: 0 } });
    const isRecord = (operation: string, key: string) => operation === 'get' && key.endsWith('session.json');
    store.fault = (operation, key) => (isRecord(operation, key) ? undefined : { when: 'before', error: OUTAGE });
    const asked = clock.monotonic();
    const answer = ask(service, id);
    answer.catch(() => undefined);
    await expect(clock.until(answer)).rejects.toMatchObject({ code: 'STORAGE' });
    expect(clock.monotonic() - asked).toBeLessThan(7_000);
  });

  it('that has ended leaves no session of which nobody knows', async () => {
    const world = makeWorld({ policy: { answerSeconds: 5, idleSeconds: 0 } });
    world.store.fault = () => ({ when: 'before', error: OUTAGE });
    const making = world.clock.until(world.service.createSession({ prompt: 'a fox' }));
    await expect(making).rejects.toMatchObject({ code: 'STORAGE' });
    world.store.fault = () => undefined;
    await world.clock.advance(60_000);
    const { items } = await world.clock.until(world.service.sessions());
    expect(items.filter(({ state }) => !['STOPPED', 'FAILED'].includes(state))).toEqual([]);
  });

  it('with a listing that breaks off goes on behind what it gave', async () => {
    const world = makeWorld({ policy: { idleSeconds: 0 } });
    const id = await live(world);
    let faults = 3;
    world.store.fault = (_operation, key) =>
      key === 'by-date/' && faults-- > 0 ? { when: 'before', error: OUTAGE } : undefined;
    expect((await world.clock.until(world.service.sessions())).items.map((session) => session.id)).toEqual([id]);
  });
});

describe('a wall clock that somebody sets', () => {
  it.each([-3_600_000, 3_600_000])('by %i ms changes nothing of how a session goes on', async (jump) => {
    const world = makeWorld({ policy: { idleSeconds: 30, heartbeatSeconds: 10 } });
    const id = await live(world);
    const { chunks } = await world.service.session(id);
    world.clock.jump(jump);
    await world.clock.until(
      read(world, id, {}, (_event, all) => chunksOf(all).length > chunks + 10),
      30_000,
    );
    expect((await world.service.session(id)).state).toBe('LIVE');
    await world.clock.advance(45_000); // nobody watches
    expect(await world.service.session(id)).toMatchObject({ state: 'PAUSED', reason: 'IDLE' });
    world.clock.jump(-2 * jump);
    const beats = read(world, id, {}, (event) => event.type === 'Heartbeat');
    expect((await world.clock.until(beats, 15_000)).at(-1)).toMatchObject({ type: 'Heartbeat', state: 'PAUSED' });
  });
});

it.each([-3_600_000, 3_600_000])('a switch waits as long as it does, when the clock is set by %i ms', async (jump) => {
  const world = makeWorld({ policy: { idleSeconds: 0 } });
  const id = await live(world);
  await world.service.switchPrompt(id, { prompt: 'a robot' });
  world.clock.jump(jump);
  const applied = (event: SessionEvent) => event.type === 'PromptApplied' && event.prompt === 'a robot';
  const event = (await world.clock.until(read(world, id, {}, applied))).at(-1);
  const { waitedMilliseconds } = event as PromptApplied;
  expect(waitedMilliseconds).toBeGreaterThan(0);
  expect(waitedMilliseconds).toBeLessThan(5_000);
});

describe('abandoned sessions', () => {
  const policy = { idleSeconds: 10, abandonedSeconds: 1_000 };

  it('are stopped and finished, and not unfinished any more', async () => {
    const world = makeWorld({ policy });
    await world.clock.until(world.service.start());
    const id = await live(world);
    await world.clock.advance(500_000);
    expect((await world.clock.until(world.service.session(id))).state).toBe('PAUSED');
    await world.clock.advance(1_000_000);
    expect(await world.clock.until(world.service.session(id))).toMatchObject({ state: 'STOPPED', reason: 'IDLE' });
    expect([...world.store.objects.keys()].filter((key) => key.startsWith('unfinished/'))).toEqual([]);
    expect((await world.clock.until(world.service.session(id))).artifacts).not.toEqual([]);
  });

  it('stay paused where that is asked for', async () => {
    const world = makeWorld({ policy: { ...policy, abandonedSeconds: 0 } });
    await world.clock.until(world.service.start());
    const id = await live(world);
    await world.clock.advance(3_000_000);
    expect((await world.clock.until(world.service.session(id))).state).toBe('PAUSED');
  });
});

describe('a session that cannot be read', () => {
  it.each([
    ['session.json', 'garbage'],
    ['session.json', ''],
    ['log/000000.jsonl', '{"type":"StateChan'],
  ])('harms no other: %s is %j', async (file, text) => {
    const world = makeWorld({ policy: { idleSeconds: 0 } });
    const damaged = await live(world);
    const well = await live(world);
    await world.clock.until(world.service.shutdown());
    const key = `sessions/${damaged}/${file}`;
    await world.store.put(key, Buffer.from(text));
    const next = makeWorld({ after: world, policy: { idleSeconds: 0 } });
    await next.clock.until(next.service.start());
    const { items } = await next.clock.until(next.service.sessions());
    expect(items.map(({ id }) => id).sort()).toEqual([damaged, well].sort());
    const shown = items.find(({ id }) => id === damaged);
    expect(shown).toMatchObject({
      state: 'FAILED',
      failure: { code: 'STORAGE', message: expect.stringContaining(key) as string },
    });
    await expect(next.clock.until(next.service.session(damaged))).rejects.toMatchObject({ code: 'STORAGE' });
  });

  it.each([
    ['in its beginning', 20],
    ['where a segment ended', 64],
  ])('because its log is gone is not begun anew: %s', async (_where, events) => {
    const world = makeWorld({ policy: { idleSeconds: 0 } });
    const { id } = await world.clock.until(world.service.createSession({ prompt: 'a fox', pace: 'FASTEST' }));
    await world.clock.until(
      read(world, id, {}, (event) => event.type !== 'Heartbeat' && event.sequence === events - 1),
    );
    await world.clock.until(world.service.pauseSession(id));
    const { lastSequence } = await world.service.session(id);
    await world.clock.until(world.service.shutdown());
    for (const key of world.store.objects.keys()) if (key.includes('/log/')) world.store.objects.delete(key);
    const next = makeWorld({ after: world, policy: { idleSeconds: 0 } });
    await next.clock.until(next.service.start());
    const lost = { code: 'STORAGE', message: expect.stringContaining('disappeared') as string };
    await expect(next.clock.until(next.service.resumeSession(id))).rejects.toMatchObject(lost);
    await expect(next.clock.until(next.service.session(id))).rejects.toMatchObject(lost);
    const { items } = await next.clock.until(next.service.sessions());
    expect(items).toMatchObject([{ id, state: 'FAILED', failure: lost }]);
    expect(lastSequence).toBeGreaterThanOrEqual(events);
    expect([...next.store.objects.keys()].filter((key) => key.includes('/log/'))).toEqual([]);
  });

  it('any more while it is generated is paused, and stays with its server', async () => {
    const world = makeWorld({ policy: { idleSeconds: 0 } });
    const id = await live(world);
    for (const key of world.store.objects.keys()) if (key.includes('/log/')) world.store.objects.delete(key);
    await world.clock.advance(300_000);
    expect(await world.service.session(id)).toMatchObject({
      ...{ state: 'PAUSED', reason: 'STORAGE' },
      failure: { message: expect.stringContaining('disappeared') as string },
    });
    expect([...world.store.objects.keys()].filter((key) => key.includes('/log/'))).toEqual([]);
  });
});
