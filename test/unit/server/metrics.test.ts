import { expect, it } from 'vitest';
import { Metrics } from '../../../src/server/metrics.js';

it('counts what a GPU driver refuses to record', async () => {
  const metrics = new Metrics();
  const status = { accepting: true, devices: [], sessions: {}, queued: 0, refusedRecordings: 0 };
  metrics.observe({ status: () => status }, () => 0);
  const counted = async () => /^longlive_refused_recordings_total (\d+)$/m.exec(await metrics.registry.metrics())?.[1];
  expect(await counted()).toBe('0');
  status.refusedRecordings = 7;
  expect(await counted()).toBe('7');
  expect(await counted()).toBe('7');
});

it('reports the wanted workers where they are known, and nothing elsewhere', async () => {
  const figures = async (demand?: { waiting: number; live: number; workers: number; wanted: number }) => {
    const metrics = new Metrics();
    const status = {
      accepting: true,
      devices: [],
      sessions: {},
      queued: 0,
      refusedRecordings: 0,
      ...(demand && { demand }),
    };
    metrics.observe({ status: () => status }, () => 0);
    const text = await metrics.registry.metrics();
    return ['wanted_workers', 'workers', 'waiting_sessions'].map(
      (name) => new RegExp(`^longlive_${name} (.*)$`, 'm').exec(text)?.[1],
    );
  };
  expect(await figures({ waiting: 3, live: 1, workers: 0, wanted: 4 })).toEqual(['4', '0', '3']);
  expect(await figures()).toEqual([undefined, undefined, undefined]);
});

it('asks for the state of the service once a scrape', async () => {
  const metrics = new Metrics();
  let asked = 0;
  const status = () => ({ accepting: true, devices: [], sessions: {}, queued: 0, refusedRecordings: asked++ });
  metrics.observe({ status }, () => 0);
  await metrics.registry.metrics();
  expect(asked).toBe(1);
  await metrics.registry.metrics();
  expect(asked).toBe(2);
});
