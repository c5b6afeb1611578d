import { execFile } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { control, create, sessionOf, switchPrompt } from '../../support/control.js';
import { type Asked, type Fault, FaultyProxy } from '../../support/faulty-proxy.js';
import { S3_SERVER_TIMEOUT_MS, startS3Server, type S3Server } from '../../support/s3-server.js';
import { MAIN, type ServiceOptions, ServiceProcess } from '../../support/service-process.js';
import { until } from '../../support/test-server.js';
import { framesOf, Watcher } from '../../support/watcher.js';

/** The service as it is deployed, on a real S3-compatible server behind a proxy that fails. LONGLIVE_FAULT_SECONDS makes outages longer. */

const OUTAGE_MS = Number(process.env['LONGLIVE_FAULT_SECONDS'] ?? 2) * 1000;
const PATIENT_MS = 60_000;
const LIMIT_MS = 240_000;

let s3: S3Server;
let proxy: FaultyProxy;
let bucket: string;
const running: ServiceProcess[] = [];

beforeAll(async () => {
  s3 = await startS3Server();
  proxy = await FaultyProxy.start(s3.endpoint);
}, S3_SERVER_TIMEOUT_MS);
afterAll(async () => {
  await proxy?.stop();
  await s3?.stop();
});
beforeEach(async () => {
  bucket = await s3.createBucket();
});
afterEach(async () => {
  proxy.heal();
  for (const service of running.splice(0)) await service.stop();
});

function placed({ settings, ...rest }: Partial<ServiceOptions> = {}): ServiceOptions {
  const { accessKeyId, secretAccessKey } = s3.credentials;
  return {
    store: `s3://${bucket}/films`,
    settings: { S3_ENDPOINT: proxy.endpoint, S3_REGION: s3.region, ...settings },
    environment: { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey },
    ...rest,
  };
}

async function start(options?: Partial<ServiceOptions>): Promise<ServiceProcess> {
  const service = await ServiceProcess.start(placed(options));
  running.push(service);
  return service;
}

const everything = (fault: Fault) => () => fault;
const readiness = async ({ url }: ServiceProcess) => (await fetch(`${url}/readyz`)).status;

const OUTAGES: [string, (asked: Asked, n: number) => Fault | undefined][] = [
  ['500', everything({ status: 500 })],
  ['503', everything({ status: 503 })],
  ['409 on every write', ({ method }) => (method === 'PUT' ? { status: 409 } : undefined)],
  ['409 on everything', everything({ status: 409 })],
  ['refused connections', everything({ reset: true })],
  ['hanging', everything({ hang: true })],
  ['slow', everything({ delayMs: 700 })],
  ['answers lost', everything({ loseAnswer: true })],
  ['answers cut', everything({ cutAnswerAt: 10 })],
  ['uploads cut', ({ method }) => (method === 'PUT' ? { cutRequestAt: 100 } : undefined)],
  ['every other request lost', (_asked, n) => (n % 2 ? { loseAnswer: true } : undefined)],
];

describe('a session through outages', () => {
  it(
    'has neither gap nor repeat, whatever kind they are',
    async () => {
      const service = await start({ settings: { REQUEST_SECONDS: 10 } });
      const { id = '' } = await create(service.url, { prompt: 'a fox' });
      const watcher = new Watcher(id);
      const watching = watcher.watch(service.url);
      const more = async (what: string) => {
        const { chunks } = watcher.seen;
        await until(() => watcher.seen.chunks > chunks + 1 || watcher.seen.ended, `it goes on: ${what}`, PATIENT_MS);
      };
      await more('at first');
      for (const [kind, fault] of OUTAGES) {
        let n = 0;
        proxy.fault = (asked) => fault(asked, n++);
        await sleep(OUTAGE_MS);
        proxy.heal();
        await more(kind);
      }
      expect(watcher.seen.states).toEqual(['QUEUED', 'STARTING', 'LIVE']);
      expect(await control(service.url, 'stop', id)).toMatchObject({ state: 'STOPPED' });
      await watching;
      expect(watcher.seen).toMatchObject({ ended: true, last: { __typename: 'SessionEnded', state: 'STOPPED' } });
    },
    LIMIT_MS + 4 * OUTAGES.length * OUTAGE_MS,
  );

  it(
    'is paused when the store refuses it, says so, and goes on when resumed',
    async () => {
      const service = await start();
      const { id = '' } = await create(service.url, { prompt: 'a fox' });
      const watcher = new Watcher(id);
      void watcher.watch(service.url);
      await until(() => watcher.seen.chunks > 1, 'it is live', PATIENT_MS);
      proxy.fault = ({ method }) => (method === 'PUT' ? { status: 403 } : undefined);
      const state = async () => (await sessionOf(service.url, id)).reason;
      await until(async () => (await state()) === 'STORAGE', 'it is paused', PATIENT_MS);
      proxy.heal();
      await until(async () => (await control(service.url, 'resume', id)).state === 'LIVE', 'it resumes', PATIENT_MS);
      const { chunks } = watcher.seen;
      await until(() => watcher.seen.chunks > chunks + 1, 'it goes on', PATIENT_MS);
      expect(watcher.seen.states).toEqual(['QUEUED', 'STARTING', 'LIVE', 'PAUSED', 'LIVE']);
    },
    LIMIT_MS,
  );
});

describe('requests while the store', () => {
  it.each([
    ['hangs', { hang: true }],
    ['fails', { status: 503 }],
    ['refuses', { status: 403 }],
    ['answers 409 to everything', { status: 409 }],
  ] as [string, Fault][])(
    '%s are answered with UnavailableError STORAGE as data, and a stop is carried out later',
    async (_name, fault) => {
      const service = await start({ settings: { REQUEST_SECONDS: 5 } });
      const { id = '' } = await create(service.url, { prompt: 'a fox' });
      await until(async () => (await sessionOf(service.url, id)).state === 'LIVE', 'it is live', PATIENT_MS);
      proxy.fault = everything(fault);
      const unavailable = { __typename: 'UnavailableError', code: 'STORAGE' };
      expect(await switchPrompt(service.url, id, 'a robot')).toMatchObject(unavailable);
      expect(await create(service.url, { prompt: 'another' })).toMatchObject(unavailable);
      expect(await control(service.url, 'stop', id)).toMatchObject(unavailable);
      proxy.heal();
      await until(async () => (await sessionOf(service.url, id)).state === 'STOPPED', 'it is stopped', PATIENT_MS);
    },
    LIMIT_MS,
  );
});

describe('the process', () => {
  it(
    'ends in the promised time when the store hangs, and leaves nothing that cannot go on',
    async () => {
      const service = await start({ settings: { SHUTDOWN_SECONDS: 8 } });
      const { id = '' } = await create(service.url, { prompt: 'a fox' });
      const watcher = new Watcher(id);
      await watcher.watch(service.url, ({ chunks }) => chunks > 2);
      proxy.fault = everything({ hang: true });
      await sleep(1000);
      const asked = performance.now();
      service.kill('SIGTERM');
      expect(await service.exited).toBe(0);
      expect(performance.now() - asked).toBeLessThan(8000 + 2000);
      proxy.heal();
      const next = await start({ settings: { LEASE_SECONDS: 3 } });
      await until(async () => (await control(next.url, 'resume', id)).state === 'LIVE', 'it resumes', PATIENT_MS);
      const { chunks } = watcher.seen;
      await watcher.watch(next.url, (seen) => seen.chunks > chunks + 2);
      expect(watcher.seen.chunks).toBeGreaterThan(chunks + 2);
    },
    LIMIT_MS,
  );

  it(
    'starts in an outage: listens, is not ready, and takes up its work when the store is well',
    async () => {
      const first = await start();
      const { id = '' } = await create(first.url, { prompt: 'a fox' });
      await new Watcher(id).watch(first.url, ({ chunks }) => chunks > 1);
      await first.stop();
      proxy.fault = everything({ status: 503 });
      const second = await start({ settings: { REQUEST_SECONDS: 3, READY_SECONDS: 0, LEASE_SECONDS: 3 } });
      expect(await readiness(second)).toBe(503);
      await until(() => second.logged('trying again'), 'it has failed once and says so', PATIENT_MS);
      proxy.heal();
      await until(async () => (await readiness(second)) === 200, 'it is ready', PATIENT_MS);
      await until(
        async () => ['LIVE', 'PAUSED'].includes((await sessionOf(second.url, id)).state ?? ''),
        'it is known',
        PATIENT_MS,
      );
    },
    LIMIT_MS,
  );
});

describe('a store without conditional writes', () => {
  const conditional = ({ conditional }: Asked) => (conditional ? { status: 501 } : undefined);

  it(
    'is named by the start, by a request at once, and by doctor',
    async () => {
      proxy.fault = conditional;
      const service = await start({ settings: { READY_SECONDS: 0 } });
      await until(async () => (await readiness(service)) === 503, 'it is not ready', PATIENT_MS);
      await until(() => service.logged('does not support conditional writes'), 'the log says why', PATIENT_MS);
      const refused = await create(service.url, { prompt: 'a fox' });
      expect(refused).toMatchObject({
        code: 'STORAGE',
        message: expect.stringContaining('conditional writes') as string,
      });
      const said = await doctor();
      expect(said).toMatch(/missing\s+Store.*conditional writes/);
    },
    LIMIT_MS,
  );

  function doctor(): Promise<string> {
    const { settings = {}, environment, store } = placed();
    const given = Object.entries({ ...settings, STORE: store }).map(([name, value]) => [
      `LONGLIVE_${name}`,
      String(value),
    ]);
    const env = { ...process.env, ...environment, ...(Object.fromEntries(given) as NodeJS.ProcessEnv) };
    return new Promise((resolve) => {
      execFile(process.execPath, [MAIN, 'doctor'], { env }, (_error, stdout) => resolve(stdout));
    });
  }
});

it(
  'the finished video answers HEAD and GET',
  async () => {
    const service = await start();
    const { id = '' } = await create(service.url, { prompt: 'a fox', pace: 'FASTEST', maxSeconds: 2 });
    const watcher = new Watcher(id);
    await watcher.watch(service.url);
    const { artifacts } = watcher.seen.last as unknown as { artifacts: { kind: string; url: string }[] };
    const url = new URL(artifacts.find(({ kind }) => kind === 'MP4')?.url ?? '', service.url);
    const body = new Uint8Array(await (await fetch(url)).arrayBuffer());
    const head = await fetch(url, { method: 'HEAD', redirect: 'manual' });
    expect([head.status, head.headers.get('content-type')]).toEqual([200, 'video/mp4']);
    expect(head.headers.get('content-length')).toBe(String(body.length));
    expect(framesOf(body)).toBe(12 * watcher.seen.chunks - 3);
  },
  LIMIT_MS,
);
