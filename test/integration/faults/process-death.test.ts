import { mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { control, create, sessionOf } from '../../support/control.js';
import { ServiceProcess } from '../../support/service-process.js';
import { until } from '../../support/test-server.js';
import { Watcher } from '../../support/watcher.js';

/** The service as it is deployed, on a directory, when it or its directory goes away. */

const PATIENT_MS = 60_000;
const LIMIT_MS = 240_000;

let root: string;
const running: ServiceProcess[] = [];
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'longlive-faults-'));
});
afterEach(async () => {
  for (const service of running.splice(0)) await service.stop();
  for (const folder of [root, `${root}-away`]) await rm(folder, { recursive: true, force: true });
});

async function start(): Promise<ServiceProcess> {
  const service = await ServiceProcess.start({ store: root, settings: { LEASE_SECONDS: 3, STORE_RETRY_SECONDS: 2 } });
  running.push(service);
  return service;
}

it(
  'killed in the middle of a block, again and again, it goes on without gap or repeat and clears what it left',
  async () => {
    let service = await start();
    const { id = '' } = await create(service.url, { prompt: 'a fox' });
    const watcher = new Watcher(id);
    for (let death = 1; death <= 3; death++) {
      const { chunks } = watcher.seen;
      await watcher.watch(service.url, (seen) => seen.chunks > chunks + 1 + death);
      service.kill('SIGKILL');
      await service.exited;
      service = await start();
      const { url } = service;
      await until(async () => (await control(url, 'resume', id)).state === 'LIVE', 'it goes on', PATIENT_MS);
    }
    const { chunks } = watcher.seen;
    await watcher.watch(service.url, (seen) => seen.chunks > chunks + 2);
    expect(await control(service.url, 'stop', id)).toMatchObject({ state: 'STOPPED' });
    await watcher.watch(service.url);
    expect(watcher.seen).toMatchObject({ ended: true, last: { state: 'STOPPED' } });
    const scratch = () => readdir(join(root, '.scratch'));
    await until(async () => (await scratch()).length === 0, 'nothing is left in the scratch', PATIENT_MS);
  },
  LIMIT_MS,
);

it(
  'says what it is when its directory is gone, not that somebody else wrote',
  async () => {
    const service = await start();
    const { id = '' } = await create(service.url, { prompt: 'a fox' });
    await new Watcher(id).watch(service.url, ({ chunks }) => chunks > 1);
    await rename(root, `${root}-away`);
    await until(async () => (await sessionOf(service.url, id)).reason === 'STORAGE', 'it is paused', PATIENT_MS);
    // The log comes another way than the answers.
    await until(() => service.logged('directory is gone'), 'the log says why', PATIENT_MS);
    expect(service.logged('another server')).toBe(false);
    await rename(`${root}-away`, root);
    await until(async () => (await control(service.url, 'resume', id)).state === 'LIVE', 'it resumes', PATIENT_MS);
  },
  LIMIT_MS,
);
