import { spawnSync } from 'node:child_process';
import { appendFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { type Answer, control, create, sessionOf } from '../../support/control.js';
import { MAIN, ServiceProcess } from '../../support/service-process.js';
import { query, until } from '../../support/test-server.js';
import { Watcher } from '../../support/watcher.js';

/** The service as it is deployed, on a disk that becomes full: a file system in memory of one megabyte, which only root may mount. */

const PATIENT_MS = 60_000;
const LIMIT_MS = 240_000;
const DISK_BYTES = 1_048_576;
/** What is left to a session at first, in whole pages. */
const LEFT_BYTES = 262_144;

const root = mkdtempSync(join(tmpdir(), 'longlive-full-'));
const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_BYTES}`, 'tmpfs', root]).status === 0;
const ballast = join(root, 'ballast');
const store = join(root, 'store');

const running: ServiceProcess[] = [];
beforeAll(() => mkdirSync(store));
afterEach(async () => {
  for (const service of running.splice(0)) await service.stop();
});
afterAll(() => {
  if (mounted) spawnSync('umount', [root]);
  rmSync(root, { recursive: true, force: true });
});

/** What is too little for a chunk may do for a smaller file. */
function takeTheLastPages(): void {
  try {
    for (;;) appendFileSync(ballast, Buffer.alloc(4096));
  } catch (error) {
    expect(error).toMatchObject({ code: 'ENOSPC' });
  }
}

function fsck(): { status: number | null; said: string } {
  const words = ['fsck', '--all', '--store', store];
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...words], { encoding: 'utf8' });
  return { status, said: `${stdout}${stderr}` };
}

async function remove(url: string, id: string): Promise<Answer> {
  const document = `mutation ($id: ID!) { answer: deleteSession(sessionId: $id) { __typename ... on Error { code message } } }`;
  return (await query<{ answer: Answer }>(url, document, { id })).answer;
}

function filesOf(id: string): string[] {
  const name = id.replace('Session:', '');
  return readdirSync(join(store, 'sessions', name), { recursive: true }).map(String);
}

it.skipIf(!mounted)(
  'deletes what filled the disk, a finished session and one that could not go on, also where it was started on the full disk (skipped where no file system may be mounted: run it as root)',
  async () => {
    const settings = { STORE_RETRY_SECONDS: 2, REQUEST_SECONDS: 10 };
    const service = await ServiceProcess.start({ store, settings });
    running.push(service);
    const finished = await create(service.url, { prompt: 'a fox', pace: 'FASTEST', maxSeconds: 3 });
    const id = finished.id ?? '';
    await until(async () => (await sessionOf(service.url, id)).state === 'COMPLETED', 'it is complete', PATIENT_MS);
    writeFileSync(ballast, '');
    const live = (await create(service.url, { prompt: 'a fox', pace: 'FASTEST' })).id ?? '';
    await until(async () => (await sessionOf(service.url, live)).reason === 'STORAGE', 'it is paused', PATIENT_MS);
    takeTheLastPages();
    for (const gone of [live, id]) {
      expect(await remove(service.url, gone)).toEqual({ __typename: 'DeletedSession' });
      await until(async () => filesOf(gone).length === 1, 'its files are gone', PATIENT_MS);
      takeTheLastPages();
    }
    expect(fsck()).toMatchObject({ status: 0 });
    await service.stop();

    truncateSync(ballast, 0);
    const second = await ServiceProcess.start({ store, settings });
    running.push(second);
    const left = (await create(second.url, { prompt: 'a fox', pace: 'FASTEST' })).id ?? '';
    await until(async () => (await sessionOf(second.url, left)).reason === 'STORAGE', 'it is paused', PATIENT_MS);
    await second.stop();
    takeTheLastPages();
    const third = await ServiceProcess.start({ store, settings });
    running.push(third);
    expect(await remove(third.url, left)).toEqual({ __typename: 'DeletedSession' });
    await until(async () => filesOf(left).length === 1, 'its files are gone', PATIENT_MS);
    truncateSync(ballast, 0);
    expect(fsck()).toMatchObject({ status: 0 });
    await third.stop();
    rmSync(store, { recursive: true });
    mkdirSync(store);
  },
  LIMIT_MS,
);

it.skipIf(!mounted)(
  'pauses its session with STORAGE, shows nothing by halves, and goes on when there is room (skipped where no file system may be mounted: run it as root)',
  async () => {
    writeFileSync(ballast, Buffer.alloc(DISK_BYTES - LEFT_BYTES));
    const service = await ServiceProcess.start({ store, settings: { STORE_RETRY_SECONDS: 1, REQUEST_SECONDS: 5 } });
    running.push(service);
    const { id = '' } = await create(service.url, { prompt: 'a fox', pace: 'FASTEST' });
    const watcher = new Watcher(id);
    const watching = watcher.watch(service.url);
    await until(async () => (await sessionOf(service.url, id)).reason === 'STORAGE', 'it is paused', PATIENT_MS);
    expect((await sessionOf(service.url, id)).failure?.message).toContain('is full: free some space');
    takeTheLastPages();
    expect(await create(service.url, { prompt: 'another' })).toMatchObject({
      __typename: 'UnavailableError',
      code: 'STORAGE',
      message: expect.stringContaining('is full') as string,
    });
    expect(fsck()).toMatchObject({ status: 0 });

    truncateSync(ballast, 0);
    await until(async () => (await control(service.url, 'resume', id)).state === 'LIVE', 'it resumes', PATIENT_MS);
    const { chunks } = watcher.seen;
    await until(() => watcher.seen.chunks > chunks + 2, 'it goes on', PATIENT_MS);
    expect(await control(service.url, 'stop', id)).toMatchObject({ state: 'STOPPED' });
    await watching;
    expect(watcher.seen).toMatchObject({ ended: true, last: { __typename: 'SessionEnded', state: 'STOPPED' } });
    expect(fsck()).toMatchObject({ status: 0 });
  },
  LIMIT_MS,
);
