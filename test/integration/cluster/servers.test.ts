import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { createMediaFactory } from '../../../src/media/index.js';
import { Checker } from '../../../src/sessions/index.js';
import { openStore } from '../../../src/storage/index.js';
import { control, create, sessionOf, switchPrompt } from '../../support/control.js';
import { RedisServer } from '../../support/redis-server.js';
import { ServiceProcess } from '../../support/service-process.js';
import { until } from '../../support/test-server.js';
import { Watcher } from '../../support/watcher.js';

/** Servers as they are deployed, two for clients and two that generate, on one directory and a real Redis. */

const LIMIT_MS = 180_000;
const PATIENT_MS = 60_000;
/** From a worker's end to the next chunk: a lease, looks, and a checkpoint that is read. */
const TAKE_OVER_MS = 15_000;

let redis: RedisServer;
let root: string;
let api: [ServiceProcess, ServiceProcess];
let workers: ServiceProcess[];

beforeAll(async () => {
  redis = await RedisServer.start();
});
afterAll(() => redis.end());
beforeEach(async () => {
  await redis.client.flushall();
  root = await mkdtemp(join(tmpdir(), 'longlive-cluster-'));
  const all = await Promise.all([start('api'), start('api'), start('worker'), start('worker')]);
  api = [all[0], all[1]] as typeof api;
  workers = all.slice(2);
  await until(() => knowsWorkers(api[0], 2), 'the workers are known', PATIENT_MS);
  await until(() => knowsWorkers(api[1], 2), 'the workers are known', PATIENT_MS);
});
afterEach(async () => {
  redis.resume();
  for (const server of [...api, ...workers]) await server.stop();
  await rm(root, { recursive: true, force: true });
});

function start(role: 'api' | 'worker'): Promise<ServiceProcess> {
  return ServiceProcess.start({ store: root, settings: { ROLE: role, REDIS: redis.url } });
}

/** Toy workers have one device each, of which the API tells together; the places tell how many there are. */
async function knowsWorkers({ url }: ServiceProcess, count: number): Promise<boolean> {
  const notices = Object.values(await redis.client.hgetall('longlive:servers'));
  const hosting = notices.filter((notice) => notice.includes('"hosts":true') && notice.includes('"accepting":true'));
  const ready = (await (await fetch(`${url}/readyz`)).json()) as { warnings?: string[] };
  return hosting.length === count && ready.warnings === undefined;
}

/** A session that a viewer at the first API server watches, and the worker that has it. */
async function watchedSession(): Promise<{
  id: string;
  watcher: Watcher;
  owner: ServiceProcess;
  other: ServiceProcess;
}> {
  const { id = '', message } = await create(api[0].url, { prompt: 'a fox' });
  expect(message).toBeUndefined();
  const watcher = new Watcher(id);
  await watcher.watch(api[0].url, ({ chunks }) => chunks > 2);
  const hosting = await Promise.all(workers.map((worker) => hosts(worker)));
  const [owner, other] = hosting[0] ? workers : [...workers].reverse();
  return { id, watcher, owner: owner as ServiceProcess, other: other as ServiceProcess };
}

async function hosts({ url }: ServiceProcess): Promise<boolean> {
  return /^longlive_sessions\{state="LIVE"\} 1$/m.test(await (await fetch(`${url}/metrics`)).text());
}

/** How long until a viewer has seen so many chunks more. */
async function moreChunks(watcher: Watcher, { url }: ServiceProcess, count: number): Promise<number> {
  const began = performance.now();
  const { chunks } = watcher.seen;
  while (watcher.seen.chunks < chunks + count) {
    await watcher.watch(url, (seen) => seen.chunks >= chunks + count);
    if (performance.now() - began > PATIENT_MS) throw new Error(`no more chunks than ${watcher.seen.chunks}`);
  }
  return performance.now() - began;
}

async function expectWhole(id: string, watcher: Watcher): Promise<void> {
  expect(await control(api[1].url, 'stop', id)).toMatchObject({ state: 'STOPPED' });
  await watcher.watch(api[1].url);
  expect(watcher.seen.ended).toBe(true);
  const media = createMediaFactory();
  const checker = new Checker({ store: openStore(pathToFileURL(root).href), media }, { repair: false });
  const found = async () => (await checker.session(id.replace(/^Session:/, ''))).findings;
  // The mark of an unfinished session goes after its end was told.
  await until(async () => (await found()).length === 0, 'nothing is found', 5_000).catch(() => undefined);
  expect(await found()).toEqual([]);
  await media.close();
}

it(
  'serves every session at every API server: streams go on there without gap or repeat, commands reach the owner',
  async () => {
    const { id, watcher } = await watchedSession();
    await moreChunks(watcher, api[1], 3);
    expect(await switchPrompt(api[1].url, id, 'a robot')).toMatchObject({ __typename: 'SwitchReceipt' });
    await moreChunks(watcher, api[0], 3);
    expect(await control(api[0].url, 'pause', id)).toMatchObject({ state: 'PAUSED' });
    expect(await control(api[1].url, 'resume', id)).toMatchObject({ state: 'LIVE' });
    await moreChunks(watcher, api[1], 2);
    const input = { prompt: 'the same', pace: 'FASTEST', maxSeconds: 1, idempotencyKey: 'once' };
    const made = await Promise.all([...api, ...api].map(({ url }) => create(url, input)));
    expect(new Set(made.map((answer) => answer.id)).size).toBe(1);
    // What rests somewhere and what is over nowhere is still answered everywhere.
    await expectWhole(id, watcher);
    expect(await control(api[0].url, 'stop', id)).toMatchObject({ state: 'STOPPED' });
    expect(await control(api[0].url, 'resume', id)).toMatchObject({ code: 'ENDED' });
  },
  LIMIT_MS,
);

it(
  'goes on by itself when a worker is killed',
  async () => {
    const { id, watcher, owner } = await watchedSession();
    owner.kill('SIGKILL');
    const milliseconds = await moreChunks(watcher, api[0], 3);
    console.log(`killed: three more chunks after ${Math.round(milliseconds)} ms`);
    expect(milliseconds).toBeLessThan(TAKE_OVER_MS);
    await expectWhole(id, watcher);
  },
  LIMIT_MS,
);

it(
  'goes on by itself when a worker hangs, which overwrites nothing when it wakes',
  async () => {
    const { id, watcher, owner, other } = await watchedSession();
    owner.kill('SIGSTOP');
    const milliseconds = await moreChunks(watcher, api[1], 3);
    console.log(`stopped: three more chunks after ${Math.round(milliseconds)} ms`);
    expect(milliseconds).toBeLessThan(TAKE_OVER_MS);
    owner.kill('SIGCONT');
    await moreChunks(watcher, api[0], 5);
    await until(async () => !(await hosts(owner)), 'the late owner lets go', PATIENT_MS);
    expect(await hosts(other)).toBe(true);
    await expectWhole(id, watcher);
  },
  LIMIT_MS,
);

it(
  'hands its sessions over when a worker is asked to end, or to be replaced by a new one',
  async () => {
    const { id, watcher, owner, other } = await watchedSession();
    owner.kill('SIGTERM');
    const milliseconds = await moreChunks(watcher, api[0], 3);
    console.log(`drained: three more chunks after ${Math.round(milliseconds)} ms`);
    expect(await owner.exited).toBe(0);
    expect(await hosts(other)).toBe(true);
    // The last one: nobody is there to hand over to, and a command waits for nobody for ever.
    other.kill('SIGTERM');
    expect(await other.exited).toBe(0);
    expect(await control(api[0].url, 'resume', id)).toMatchObject({
      __typename: expect.stringMatching(/Error/) as string,
    });
    expect(await create(api[0].url, { prompt: 'nobody' })).toMatchObject({ code: 'AT_CAPACITY' });
    workers.push(await start('worker'));
    await moreChunks(watcher, api[1], 2);
    await expectWhole(id, watcher);
  },
  LIMIT_MS,
);

it(
  'loses nothing and keeps playing while Redis is emptied, hangs, and starts anew',
  async () => {
    const { id, watcher } = await watchedSession();
    await redis.client.flushall();
    await moreChunks(watcher, api[1], 2);
    expect(await switchPrompt(api[1].url, id, 'a robot')).toMatchObject({ __typename: 'SwitchReceipt' });
    redis.pause();
    await until(async () => (await warnings(api[0])).length > 0, 'readiness says it', PATIENT_MS);
    await moreChunks(watcher, api[0], 12);
    redis.resume();
    await until(async () => (await warnings(api[0])).length === 0, 'readiness says it', PATIENT_MS);
    await redis.stop();
    await moreChunks(watcher, api[1], 4);
    expect((await sessionOf(api[0].url, id)).state).toBe('LIVE');
    expect((await create(api[0].url, { prompt: 'not now' })).code).toBe('AT_CAPACITY');
    await redis.begin();
    await until(async () => (await warnings(api[0])).length === 0, 'readiness says it', PATIENT_MS);
    const again = async () => (await switchPrompt(api[0].url, id, 'a cat')).__typename === 'SwitchReceipt';
    await until(again, 'commands arrive again', PATIENT_MS);
    await moreChunks(watcher, api[0], 2);
    expect(watcher.seen.states.filter((state) => state !== 'STARTING')).not.toContain('PAUSED');
    await expectWhole(id, watcher);
  },
  LIMIT_MS,
);

async function warnings({ url }: ServiceProcess): Promise<string[]> {
  return ((await (await fetch(`${url}/readyz`)).json()) as { warnings?: string[] }).warnings ?? [];
}
