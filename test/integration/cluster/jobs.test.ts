import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { BullJobs } from '../../../src/cluster/index.js';
import { describeJobs, film, Hands, SOON } from '../../support/jobs-contract.js';
import { RedisServer } from '../../support/redis-server.js';
import { until } from '../../support/test-server.js';

vi.setConfig({ testTimeout: 60_000 });

const TIMING = { lookMs: 100, commandMs: 500 };
const LOCK_MS = 1_500;

let redis: RedisServer;
beforeAll(async () => {
  redis = await RedisServer.start();
});
afterAll(() => redis.end());
const empty = async () => void (await redis.client.flushall());
const open = () => new BullJobs({ url: redis.url, timing: TIMING, lockMs: LOCK_MS });

describe('BullJobs', () => {
  describeJobs(open, empty);
});

describe('jobs of two servers', () => {
  let a: Hands;
  let b: Hands;
  beforeEach(async () => {
    await empty();
    [a, b] = [new Hands(open()), new Hands(open())];
  });
  afterEach(async () => {
    redis.resume();
    for (const each of [a, b]) each.endAll();
    await Promise.all([a.jobs.close(), b.jobs.close()]);
  });
  const begun = () => [...a.begun, ...b.begun];
  const running = () => [...a.now, ...b.now];
  /** Who has it, and the other one. */
  const holding = (key: string): [Hands, Hands] => (a.now.has(key) ? [a, b] : [b, a]);

  it('are one where both start it, and both know how far it is', async () => {
    for (const { jobs } of [a, b]) jobs.start(film('f'));
    await until(() => running().length === 1, 'one begins', SOON);
    await until(() => [a, b].every(({ jobs }) => jobs.find(film('f'))?.progress === 0.5), 'both know', SOON);
    expect(begun()).toEqual(['f']);
  });

  it('are shared: while one works, the other takes the next', async () => {
    for (const key of ['f', 'g']) a.jobs.start(film(key));
    await until(() => a.now.size === 1 && b.now.size === 1, 'each has one', SOON);
  });

  it('are cancelled from the other side', async () => {
    a.jobs.start(film('f'));
    await until(() => running().length === 1, 'it begins', SOON);
    const [here, there] = holding('f');
    await there.jobs.cancel(film('f'));
    expect(here.cancelled).toEqual(['f']);
    expect(there.jobs.find(film('f'))).toBeUndefined();
  });

  it('of a server that leaves are gone on with at once', async () => {
    a.jobs.start(film('f'));
    await until(() => running().length === 1, 'it begins', SOON);
    const [here, there] = holding('f');
    await here.jobs.close();
    await until(() => there.now.has('f'), 'the other goes on', SOON);
  });

  it('that were waiting when Redis was emptied are done all the same, and the listeners told', async () => {
    let told = 0;
    a.jobs.onLost(() => told++);
    for (const key of ['f', 'g', 'h']) a.jobs.start(film(key));
    await until(() => running().length === 2 && a.jobs.find(film('h')) !== undefined, 'two begin', SOON);
    await sleep(3 * TIMING.lookMs);
    await empty();
    await until(() => told > 0, 'it is noticed', SOON);
    // What runs may be begun once more, for the other side knows nothing of it.
    const thirdBegins = () => {
      for (const each of [a, b]) if (!each.now.has('h')) each.endAll();
      return running().includes('h');
    };
    await until(thirdBegins, 'the third begins', SOON);
  });

  it('started while Redis is gone or hangs are done when it is back', async () => {
    await until(() => (a.jobs.start(film('first')), running().length === 1), 'all is well', SOON);
    for (const each of [a, b]) each.endAll();
    await redis.stop();
    a.jobs.start(film('f'));
    expect(a.jobs.find(film('f'))).toEqual({});
    await sleep(5 * TIMING.lookMs);
    await redis.begin();
    await until(() => running().includes('f'), 'it begins', SOON);
    redis.pause();
    b.jobs.start(film('g'));
    await sleep(3 * LOCK_MS);
    redis.resume();
    // What ran meanwhile may have been begun by the other one as well, for its lock ran out.
    const otherBegins = () => {
      for (const each of [a, b]) each.end('f');
      return running().includes('g');
    };
    await until(otherBegins, 'the other begins', SOON);
  });
});

it('jobs of a server that died are gone on with by another', async () => {
  await empty();
  const [dying, heir] = [new Hands(open()), new Hands(open())];
  dying.jobs.start(film('f'));
  await until(() => dying.now.size + heir.now.size === 1, 'it begins', SOON);
  const [here, there] = dying.now.has('f') ? [dying, heir] : [heir, dying];
  // As a process that is gone: it renews nothing any more.
  const lock = `longlive:jobs:export:f:lock`;
  await redis.client.set(lock, 'nobody', 'PX', 1);
  await until(() => there.now.has('f'), 'the other goes on', SOON);
  for (const each of [here, there]) each.endAll();
  await Promise.all([here.jobs.close(), there.jobs.close()]);
});
