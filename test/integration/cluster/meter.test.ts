import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { ValkeyMeter } from '../../../src/cluster/index.js';
import { RedisServer } from '../../support/redis-server.js';
import { until } from '../../support/test-server.js';

const RULE = { name: 'tenant:creations', most: 4, seconds: 60 };

let redis: RedisServer;
let now = 0;
const told: boolean[] = [];
const meters: ValkeyMeter[] = [];
beforeAll(async () => {
  redis = await RedisServer.start();
});
afterEach(() => meters.splice(0).forEach((meter) => meter.close()));
afterAll(() => redis.end());

function open(): ValkeyMeter {
  const onTrouble = (error: unknown) => told.push(error !== undefined);
  const meter = new ValkeyMeter({ url: redis.url, onTrouble, now: () => now });
  meters.push(meter);
  return meter;
}
const isGranted = async (meter: ValkeyMeter, rule = RULE) => (await meter.take(rule, 'acme', 1)) === undefined;

it('counts for all servers together; while Valkey is away each counts for itself, and then together again', async () => {
  const [a, b] = [open(), open()];
  const probe = { ...RULE, name: 'probe', most: 1e6 };
  const counted = async () => {
    now += 5_000;
    await Promise.all([a, b].map((meter) => isGranted(meter, probe)));
    return Number(await redis.client.get('longlive:meter:probe:acme').catch(() => 0));
  };
  await until(async () => (await counted()) >= 2, 'both are connected');
  const answers = [];
  for (const meter of [a, b, a, b, a, b]) answers.push(await isGranted(meter));
  expect(answers).toEqual([true, true, true, true, false, false]);
  told.length = 0;
  await redis.stop();
  expect(await isGranted(a)).toBe(true);
  expect(await isGranted(b)).toBe(true);
  expect(told).toEqual([true, true]);
  await redis.begin();
  const before = await counted();
  await until(async () => (await counted()) >= before + 2, 'both count there again');
  await until(async () => (await counted(), told.length >= 4), 'both have said so');
  expect(told.slice(-2)).toEqual([false, false]);
});
