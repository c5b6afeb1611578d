import { expect, it } from 'vitest';
import { Metrics } from '../../../src/server/metrics.js';

it('counts what a GPU driver refuses to record', async () => {
  const metrics = new Metrics();
  const status = { accepting: true, devices: [], sessions: {}, refusedRecordings: 0 };
  metrics.observe({ status: () => status }, () => 0);
  const counted = async () => /^longlive_refused_recordings_total (\d+)$/m.exec(await metrics.registry.metrics())?.[1];
  expect(await counted()).toBe('0');
  status.refusedRecordings = 7;
  expect(await counted()).toBe('7');
  expect(await counted()).toBe('7');
});
