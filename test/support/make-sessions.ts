/**
 * Makes the sessions of test/data: what this release writes, for later ones to read.
 *
 *   npx esbuild test/support/make-sessions.ts --bundle --packages=external --platform=node --format=esm \
 *     --outfile=dist/test/make-sessions.mjs && node dist/test/make-sessions.mjs test/data/sessions-N
 *
 * A finished one, a paused one with checkpoints and switches, forks, one that was killed, and one with a long log, of the
 * toy package on the native core. Run it before the format changes, and never again for the same N.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { type ComposedBackend, compose } from '../../src/cli/backend.js';
import { openEngine } from '../../src/engine/index.js';
import { createMediaFactory } from '../../src/media/index.js';
import { type SessionEvent, SILENT } from '../../src/sessions/index.js';
import { openStore } from '../../src/storage/index.js';
import { writeToyPackage } from './toy-package.js';

const THIS = fileURLToPath(import.meta.url);
const KILLED = 'killed';

const [folder = '', role] = process.argv.slice(2);
const packages = await mkdtemp(join(tmpdir(), 'longlive-toy-'));
writeToyPackage(packages);

async function open(): Promise<ComposedBackend> {
  const engine = await openEngine({ models: packages, threads: 1, device: 'cpu' });
  const store = openStore(pathToFileURL(resolve(folder)).href);
  return compose({
    ...{ engine, store, media: createMediaFactory({ threads: 1 }), logger: SILENT },
    policy: { checkpointBlocks: 2, idleSeconds: 0 },
  });
}

async function until(
  { sessions }: ComposedBackend,
  id: string,
  enough: (event: SessionEvent) => boolean = () => false,
): Promise<void> {
  for await (const event of sessions.subscribe(id)) if (enough(event)) return;
}

const isChunk = (n: number) => (event: SessionEvent) => event.type === 'FrameChunk' && event.chunk === n;

async function make(): Promise<Record<string, string>> {
  const backend = await open();
  const { sessions } = backend;
  const story = { seed: 7n, pace: 'FASTEST' as const };

  const { id: finished } = await sessions.createSession({
    ...{ ...story, maxSeconds: 3, idempotencyKey: 'finished' },
    timeline: [{ prompt: 'a fox' }, { prompt: 'a robot', block: 2 }],
  });
  await until(backend, finished);

  const { id: paused } = await sessions.createSession({ ...story, prompt: 'a fox', idempotencyKey: 'paused' });
  await sessions.switchPrompt(paused, { prompt: 'never seen', when: { block: 5 } });
  await sessions.switchPrompt(paused, { prompt: 'a ship', when: { block: 5 }, mode: 'KEEP_CACHE' });
  await until(backend, paused, isChunk(3));
  await sessions.pauseSession(paused);
  await sessions.switchPrompt(paused, { prompt: 'a robot', mode: 'CLEAR_CACHE', idempotencyKey: 'switch' });
  await sessions.resumeSession(paused);
  await until(backend, paused, isChunk(8));
  await sessions.pauseSession(paused);
  await sessions.switchPrompt(paused, { prompt: 'a bird' });

  const fork = { ...{ pace: 'FASTEST' as const, atChunk: 6 }, maxSeconds: 6 };
  const { id: forked } = await sessions.forkSession(paused, { ...fork, prompt: 'a bird', idempotencyKey: 'forked' });
  await until(backend, forked);
  const { id: again } = await sessions.forkSession(forked, { ...fork, atChunk: 7, idempotencyKey: 'forked again' });
  await until(backend, again, isChunk(7));
  await sessions.pauseSession(again).catch(() => undefined);

  const { id: long } = await sessions.createSession({ ...story, prompt: 'a fox', idempotencyKey: 'long' });
  await until(backend, long, isChunk(1));
  await sessions.pauseSession(long);
  for (let i = 0; i < 90; i++) await sessions.switchPrompt(long, { prompt: `prompt ${i}` });
  await sessions.resumeSession(long);
  await until(backend, long, isChunk(3));
  await sessions.pauseSession(long);

  await sessions.shutdown();
  await backend.close();
  return { finished, paused, forked, again, long };
}

/** Generates until it is killed. */
async function generate(): Promise<void> {
  const { sessions } = await open();
  const { id } = await sessions.createSession({ prompt: 'a fox', seed: 7n, pace: 'FASTEST', idempotencyKey: KILLED });
  process.stdout.write(`${id}\n`);
}

async function makeKilled(): Promise<Record<string, string>> {
  const child: ChildProcess = spawn(process.execPath, [THIS, folder, KILLED], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(child.stdout as NodeJS.ReadableStream, 'data')) as [Buffer];
  const id = line.toString().trim();
  const written = () => readdir(join(folder, `sessions/${id}/chunks`)).catch(() => []);
  while ((await written()).length < 6) await delay(5);
  child.kill('SIGKILL');
  await once(child, 'exit');
  return { killed: id };
}

try {
  if (role === KILLED) await generate();
  else {
    const made = { ...(await make()), ...(await makeKilled()) };
    for (const name of await readdir(folder)) {
      if (name.startsWith('.')) await rm(join(folder, name), { recursive: true });
    }
    process.stdout.write(`${JSON.stringify(made, null, 2)}\n`);
  }
} finally {
  if (role !== KILLED) await rm(packages, { recursive: true });
}
