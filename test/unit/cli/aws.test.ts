import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { embedded } from '../../../src/cli/embedded-metrics.js';
import { protectTask } from '../../../src/cli/task-protection.js';
import { until } from '../../support/test-server.js';

describe('the demand in the log', () => {
  it('is what CloudWatch takes metrics from', () => {
    const line = embedded({ wanted: 2, workers: 0, waiting: 3, live: 0 }, 'Videos', 1_700_000_000_000);
    expect(line).toMatchObject({ WantedWorkers: 2, Workers: 0, WaitingSessions: 3, LiveSessions: 0 });
    const { _aws } = line as { _aws: { Timestamp: number; CloudWatchMetrics: Record<string, unknown>[] } };
    expect(_aws.Timestamp).toBe(1_700_000_000_000);
    expect(_aws.CloudWatchMetrics).toEqual([
      {
        Namespace: 'Videos',
        Dimensions: [[]],
        Metrics: ['WantedWorkers', 'Workers', 'WaitingSessions', 'LiveSessions'].map((Name) => ({
          Name,
          Unit: 'Count',
          StorageResolution: 1,
        })),
      },
    ]);
  });
});

describe('the protection of a task', () => {
  const said: { url: string | undefined; body: unknown }[] = [];
  let agent: Server;
  let status = 200;
  beforeEach(async () => {
    said.length = 0;
    agent = createServer((request, response) => {
      let text = '';
      request.on('data', (part) => (text += part));
      request.on('end', () => {
        said.push({ url: `${request.method} ${request.url}`, body: JSON.parse(text) });
        response.writeHead(status).end('{}');
      });
    });
    await new Promise<void>((resolve) => agent.listen(0, '127.0.0.1', resolve));
  });
  afterEach(() => agent.close());

  it('is asked for while sessions run, and the log hears once that it failed', async () => {
    let running = 0;
    const warnings: string[] = [];
    const stopping = new AbortController();
    const devices = () => [{ device: 'gpu', realtimeSessions: running, fastestSessions: 0, load: 0 }];
    const done = protectTask({
      sessions: {
        status: () => ({ accepting: true, devices: devices(), refusedRecordings: 0, sessions: {}, queued: 0 }),
      },
      agent: `http://127.0.0.1:${(agent.address() as AddressInfo).port}/api/x`,
      log: { warn: (_: unknown, text?: string) => void warnings.push(String(text)) },
      signal: stopping.signal,
      lookSeconds: 0.01,
    });
    running = 1;
    await until(() => said.length === 1, 'it is said');
    running = 0;
    await until(() => said.length === 2, 'it is taken back');
    status = 500;
    running = 2;
    await until(() => said.length > 4, 'it is tried again');
    stopping.abort();
    await done;
    expect(said.slice(0, 3)).toEqual([
      { url: 'PUT /api/x/task-protection/v1/state', body: { ProtectionEnabled: true, ExpiresInMinutes: 30 } },
      { url: 'PUT /api/x/task-protection/v1/state', body: { ProtectionEnabled: false } },
      { url: 'PUT /api/x/task-protection/v1/state', body: { ProtectionEnabled: true, ExpiresInMinutes: 30 } },
    ]);
    expect(warnings).toHaveLength(1);
  });
});
