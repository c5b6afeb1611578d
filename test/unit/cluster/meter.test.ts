import { createServer, type Server } from 'node:net';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { LocalMeter, ValkeyMeter } from '../../../src/cluster/index.js';
import type { Meter } from '../../../src/sessions/ports.js';

const RULE = { name: 'tenant:creations', most: 2, seconds: 60 };
const takes = async (meter: Meter, times: number, whose = 'acme', rule = RULE) => {
  const waits: (number | undefined)[] = [];
  for (let i = 0; i < times; i++) waits.push(await meter.take(rule, whose, 1));
  return waits;
};
const granted = (waits: (number | undefined)[]) => waits.map((wait) => wait === undefined);

describe('a meter of one server', () => {
  test('counts by name and by whose it is, and says when there is more', async () => {
    const meter = new LocalMeter();
    const waits = await takes(meter, 3);
    expect(granted(waits)).toEqual([true, true, false]);
    expect(waits[2]).toBeGreaterThan(0);
    expect(waits[2]).toBeLessThanOrEqual(60);
    expect(granted(await takes(meter, 3, 'zenith'))).toEqual([true, true, false]);
    expect(granted(await takes(meter, 3, 'acme', { ...RULE, name: 'other' }))).toEqual([true, true, false]);
  });

  test('counts amounts', async () => {
    const meter = new LocalMeter();
    const rule = { name: 'cost', most: 100, seconds: 60 };
    expect(await meter.take(rule, 'acme', 60)).toBeUndefined();
    expect(await meter.take(rule, 'acme', 41)).toBeDefined();
  });
});

describe('a meter of several servers', () => {
  const open: (() => void)[] = [];
  afterEach(() => open.splice(0).forEach((close) => close()));

  async function silent(): Promise<Server> {
    const sockets = new Set<{ destroy(): void }>();
    const server = createServer((socket) => void sockets.add(socket.on('error', () => undefined)));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    open.push(() => (sockets.forEach((socket) => socket.destroy()), server.close()));
    return server;
  }

  test.each(['refuses', 'says nothing'])('counts for itself where Valkey %s, and says so once', async (how) => {
    const server = await silent();
    const { port } = server.address() as AddressInfo;
    if (how === 'refuses') open.splice(0).forEach((close) => close());
    const told: boolean[] = [];
    const meter = new ValkeyMeter({
      url: `redis://127.0.0.1:${port}`,
      onTrouble: (error) => told.push(error !== undefined),
    });
    open.push(() => meter.close());
    expect(granted(await takes(meter, 3))).toEqual([true, true, false]);
    expect(granted(await takes(meter, 3, 'zenith'))).toEqual([true, true, false]);
    expect(told).toEqual([true]);
  });
});
