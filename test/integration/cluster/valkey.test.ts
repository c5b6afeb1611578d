import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ValkeyCluster, type ValkeyOptions } from '../../../src/cluster/index.js';
import { describeCluster, joined, met, type Server } from '../../support/cluster-contract.js';
import { RedisServer } from '../../support/redis-server.js';
import { until } from '../../support/test-server.js';

const TIMING = { leaseMs: 1_500, renewMs: 300, lookMs: 150, commandMs: 500, resendMs: 400, answerMs: 6_000 };
const SOON = 10_000;

let redis: RedisServer;
beforeAll(async () => {
  redis = await RedisServer.start();
});
afterAll(() => redis.end());

const open = (more: Partial<ValkeyOptions> = {}) => new ValkeyCluster({ url: redis.url, timing: TIMING, ...more });

describe('ValkeyCluster', () => {
  describeCluster({ begin: async () => void (await redis.client.flushall()), open });
});

describe('when Redis', () => {
  let a: Server & { cluster: ValkeyCluster };
  let b: Server & { cluster: ValkeyCluster };
  let done: string[];
  let lost: AbortSignal | undefined;

  beforeEach(async () => {
    await redis.client.flushall();
    done = [];
    a = joined(open(), 'a') as typeof a;
    b = joined(open(), 'b') as typeof b;
    await met(a, b);
    const carryOut = async (message: string) => {
      done.push(message);
      return `done ${message}`;
    };
    lost = (await a.cluster.claim('s', 1, carryOut))?.lost;
  });
  afterEach(async () => {
    redis.resume();
    await Promise.all([a.cluster.close(), b.cluster.close()]);
  });

  async function expectAllWell(): Promise<void> {
    const answers = async () => (await b.cluster.send('s', 'again')) === 'done again';
    await until(answers, 'commands reach the owner again', SOON);
    await met(a, b);
    expect(lost?.aborted).toBe(false);
    expect([a.ended, b.ended]).toEqual([[], []]);
    const heard: number[] = [];
    b.cluster.onAnnounce('s', (sequence) => heard.push(sequence));
    await until(() => (a.cluster.announce('s', 7), heard.includes(7)), 'announcements arrive again', SOON);
  }

  it('is emptied, everything is there again soon and nobody is taken for dead', async () => {
    await redis.client.flushall();
    await sleep(2 * TIMING.leaseMs);
    await expectAllWell();
  });

  it('hangs for longer than a lease, that is said, nobody is taken for dead, and it goes on', async () => {
    redis.pause();
    await until(() => a.cluster.trouble !== undefined, 'it is noticed', SOON);
    expect(a.cluster.peers().map(({ serverId }) => serverId)).toEqual([a.cluster.serverId]);
    await sleep(2 * TIMING.leaseMs);
    redis.resume();
    await until(() => a.cluster.trouble === undefined, 'it is noticed', SOON);
    await expectAllWell();
  });

  it('is gone, a claim stands and a command has no answer in bounded time; when it is back, all goes on', async () => {
    await redis.stop();
    const began = performance.now();
    expect(await b.cluster.send('s', 'lost')).toBeUndefined();
    expect(performance.now() - began).toBeLessThan(TIMING.answerMs);
    expect(await a.cluster.claim('t', 1, async () => 'mine')).toBeDefined();
    await redis.begin();
    await expectAllWell();
    await until(async () => (await b.cluster.send('t', 'whose?')) === 'mine', 'the new claim is known', SOON);
  });

  it('loses an answer, it is asked for again and nothing is done twice', async () => {
    const inbox = `longlive:mail:${b.cluster.serverId}`;
    const carryOut = async (message: string) => {
      done.push(message);
      // Nothing can be written there, as if its connection had broken.
      if (done.length === 1) await redis.client.multi().del(inbox).set(inbox, 'in the way').exec();
      return `done ${message}`;
    };
    await a.cluster.claim('u', 1, carryOut);
    const answer = b.cluster.send('u', 'once');
    await until(() => done.length > 0, 'it is done', SOON);
    await sleep(TIMING.resendMs / 2);
    await redis.client.del(inbox);
    expect(await answer).toBe('done once');
    expect(done).toEqual(['once']);
  });

  it('hears nothing of a server any more, that one is taken for dead within its lease', async () => {
    const silent = joined(open({ timing: { ...TIMING, renewMs: 3_600_000 } }), 'silent');
    await met(b, silent);
    const began = performance.now();
    await until(() => b.ended.includes(silent.cluster.serverId), 'it is noticed', SOON);
    expect(performance.now() - began).toBeLessThan(TIMING.leaseMs + 4 * TIMING.lookMs + 500);
    expect(b.ended).toHaveLength(1);
    await silent.cluster.close();
  });
});
