/**
 * What has to stay small as sessions grow old and many, with Pocket, the compiled service and a store in a directory:
 * the pause after 2,000 prompt switches, the start of a server that finds 1,000 sessions which nobody finished, and what lies
 * beside the media of a long film.
 *
 *   npm run bench:sessions -- [--switches 2000] [--abandoned 1000] [--film 60] [--threads 2] [--out FILE.json]
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { cpus, loadavg, tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import type * as Backend from '../src/cli/backend.js';
import type * as EngineModule from '../src/engine/index.js';
import type * as Media from '../src/media/index.js';
import { type SessionEvent, type SessionPolicy, type SessionService, SILENT } from '../src/sessions/index.js';
import type * as Ids from '../src/sessions/stored/ids.js';
import type * as Log from '../src/sessions/stored/log.js';
import type * as Record from '../src/sessions/stored/record.js';
import type * as Storage from '../src/storage/index.js';

/** The compiled service, as it is deployed. */
const compiled = async <Module>(path: string): Promise<Module> =>
  (await import(new URL(`../dist/${path}`, import.meta.url).href)) as Module;
const { compose } = await compiled<typeof Backend>('cli/backend.js');
const { openEngine } = await compiled<typeof EngineModule>('engine/index.js');
const { createMediaFactory } = await compiled<typeof Media>('media/index.js');
const { openStore } = await compiled<typeof Storage>('storage/index.js');
const { randomSessionId } = await compiled<typeof Ids>('sessions/stored/ids.js');
const { formatSegment, parseSegment } = await compiled<typeof Log>('sessions/stored/log.js');
const { decodeRecord, encodeRecord } = await compiled<typeof Record>('sessions/stored/record.js');

const root = resolve(import.meta.dirname, '..');
const { values } = parseArgs({
  options: {
    switches: { type: 'string', default: '2000' },
    abandoned: { type: 'string', default: '1000' },
    film: { type: 'string', default: '60' },
    threads: { type: 'string', default: '2' },
    out: { type: 'string' },
  },
});
const [switches, abandoned, film, threads] = [values.switches, values.abandoned, values.film, values.threads].map(
  Number,
) as [number, number, number, number];

const STORY = { prompt: 'a red fox runs across the meadow', seed: 1n };
/** Of the film that the goal speaks of. */
const ELEVEN_MINUTES = 660;
/** How often pauses and starts are measured: a machine has other things to do, too. */
const ROUNDS = 3;

const scratch = await mkdtemp(join(tmpdir(), 'longlive-bench-'));
const engine = await openEngine({ models: join(root, 'models'), device: 'cpu', threads });

/** A service over a directory, until the work is done. */
async function withService<T>(
  directory: string,
  policy: Partial<SessionPolicy>,
  work: (sessions: SessionService) => Promise<T>,
): Promise<T> {
  const media = createMediaFactory({ threads: 1 });
  const store = openStore(pathToFileURL(directory).href);
  const { sessions } = compose({ engine, store, media, policy: { idleSeconds: 0, ...policy }, logger: SILENT });
  try {
    return await work(sessions);
  } finally {
    await sessions.shutdown();
    await media.close();
  }
}

async function until(sessions: SessionService, id: string, enough: (event: SessionEvent) => boolean): Promise<void> {
  for await (const event of sessions.subscribe(id)) if (enough(event)) return;
}

const isChunk = (n: number) => (event: SessionEvent) => event.type === 'FrameChunk' && event.chunk >= n;

async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

const inOrder = (all: number[]): number[] => all.sort((a, b) => a - b);

// ---- 2,000 switches, then a pause -----------------------------------------------------------------------------------

/** Milliseconds of pauses while nothing else was asked for, and of those right after the switches. */
function pauses(): Promise<{ plain: number[]; afterSwitches: number[] }> {
  const directory = join(scratch, 'switches');
  return withService(directory, { maxPendingPrompts: switches + 1 }, async (sessions) => {
    const { id } = await sessions.createSession(STORY);
    const afterChunks = async (more: number) => {
      const { chunks } = await sessions.session(id);
      await until(sessions, id, isChunk(chunks + more - 1));
    };
    const [plain, afterSwitches]: [number[], number[]] = [[], []];
    for (let round = 0; round < ROUNDS; round++) {
      await afterChunks(3);
      plain.push(await timed(() => sessions.pauseSession(id)));
      await sessions.resumeSession(id);
      await afterChunks(3);
      const all = Array.from({ length: switches }, (_, i) => ({ prompt: `a fox, number ${round}.${i}` }));
      await Promise.all(all.map((input) => sessions.switchPrompt(id, input)));
      afterSwitches.push(await timed(() => sessions.pauseSession(id)));
      await sessions.resumeSession(id);
    }
    await sessions.stopSession(id);
    return { plain: inOrder(plain), afterSwitches: inOrder(afterSwitches) };
  });
}

// ---- a start with 1,000 abandoned sessions --------------------------------------------------------------------------

/** Milliseconds until `longlive serve` listens, of some starts, in order. */
async function starts(directory: string): Promise<number[]> {
  const all: number[] = [];
  for (let i = 0; i < ROUNDS; i++) all.push(await start(directory));
  return inOrder(all);
}

async function start(directory: string): Promise<number> {
  const began = performance.now();
  const settings = { STORE: directory, MODELS: join(root, 'models'), PORT: '0', DEVICE: 'cpu', LOG_LEVEL: 'silent' };
  const child = spawn(process.execPath, [join(root, 'dist/cli/main.js'), 'serve'], {
    env: {
      ...process.env,
      ...Object.fromEntries(Object.entries(settings).map(([name, value]) => [`LONGLIVE_${name}`, value])),
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise((done) => child.once('exit', done));
  const listening = new Promise<number>((done, fail) => {
    let told = '';
    child.stdout.on('data', (bytes: Buffer) => {
      told += bytes.toString();
      if (told.includes('ready at')) done(performance.now() - began);
    });
    child.once('exit', (code) => fail(new Error(`The service ended with code ${code}.`)));
  });
  try {
    return await listening;
  } finally {
    child.kill('SIGKILL');
    await ended;
  }
}

/** As many sessions as a server leaves that is killed: each a copy of a real one, under an id of its own. */
async function leaveAbandoned(directory: string): Promise<void> {
  const id = await withService(directory, {}, async (sessions) => {
    const made = await sessions.createSession(STORY);
    await until(sessions, made.id, isChunk(2));
    await sessions.pauseSession(made.id);
    return made.id;
  });
  const [date] = (await readdir(join(directory, 'by-date'))).map((name) => name.slice(0, -id.length));
  const recordOf = await readFile(join(directory, 'sessions', id, 'session.json'));
  const logOf = await readFile(join(directory, 'sessions', id, 'log/000000.jsonl'));
  const events = parseSegment(logOf, 'log', 0);
  for (let n = 0; n < abandoned; n++) {
    const copy = randomSessionId();
    const renamed = <T>(value: T): T => JSON.parse(JSON.stringify(value).replaceAll(id, copy)) as T;
    const record = decodeRecord(recordOf, 'session.json');
    const snapshot = { ...record.snapshot, id: copy, state: 'LIVE' as const, reason: undefined };
    const prefix = join(directory, 'sessions', copy);
    await mkdir(join(prefix, 'log'), { recursive: true });
    await writeFile(join(prefix, 'session.json'), encodeRecord({ ...record, id: copy, owner: LOST, snapshot }));
    await writeFile(join(prefix, 'log/000000.jsonl'), formatSegment(events.map(renamed)));
    await writeFile(join(directory, 'unfinished', copy), '');
    await writeFile(join(directory, 'by-date', `${date}${copy}`), '');
  }
}

const LOST = `lost-${randomBytes(4).toString('hex')}`;

async function restarts(): Promise<{ empty: number[]; abandoned: number[] }> {
  const [none, many] = [join(scratch, 'none'), join(scratch, 'many')];
  await mkdir(none, { recursive: true });
  await leaveAbandoned(many);
  return { empty: await starts(none), abandoned: await starts(many) };
}

// ---- what lies beside the media -------------------------------------------------------------------------------------

async function sizes(directory: string): Promise<{ path: string; bytes: number }[]> {
  const files = await readdir(directory, { recursive: true, withFileTypes: true });
  return Promise.all(
    files
      .filter((file) => file.isFile())
      .map(async ({ parentPath, name }) => {
        const path = join(parentPath, name);
        return { path, bytes: (await stat(path)).size };
      }),
  );
}

/** Makes a film, and says what one of eleven minutes leaves: as many checkpoints as are kept, and the log as it grows. */
function beside(): Promise<object> {
  const directory = join(scratch, 'film');
  return withService(directory, {}, async (sessions) => {
    const { id } = await sessions.createSession({ ...STORY, pace: 'FASTEST', maxSeconds: film });
    await until(sessions, id, () => false);
    const { chunks } = await sessions.session(id);
    const all = await sizes(join(directory, 'sessions', id));
    const of = (part: RegExp) => all.filter(({ path }) => part.test(path)).map(({ bytes }) => bytes);
    const sum = (bytes: number[]) => bytes.reduce((total, each) => total + each, 0);
    const checkpoint = Math.max(...of(/checkpoints/));
    const media = sum(of(/chunks|\.mp4$|\.webp$/));
    const grows = sum(of(/\/log\/|session\.json$|index\.m3u8$|timeline\.jsonl$/));
    const { DEFAULT_POLICY } = await compiled<{ DEFAULT_POLICY: SessionPolicy }>('sessions/index.js');
    const scaled = DEFAULT_POLICY.keptCheckpoints * checkpoint + (grows * ELEVEN_MINUTES) / film;
    return {
      seconds: film,
      chunks,
      checkpointBytes: checkpoint,
      bytesBesideMedia: sum(of(/checkpoints/)) + grows,
      mediaBytes: media,
      besideMediaOfElevenMinutes: Math.round(scaled),
    };
  });
}

// ---------------------------------------------------------------------------------------------------------------------

try {
  const cpu = cpus()[0]?.model.trim() ?? 'unknown CPU';
  const [load = 0] = loadavg();
  const list = (all: number[]) => all.map((ms) => `${ms.toFixed(0)} ms`).join(', ');
  console.log(`${cpu}, ${threads} threads; load of the machine before: ${load.toFixed(1)}`);
  const pause = switches > 0 ? await pauses() : undefined;
  if (pause)
    console.log(`a pause: ${list(pause.plain)}; right after ${switches} switches: ${list(pause.afterSwitches)}`);
  const start = abandoned > 0 ? await restarts() : undefined;
  if (start) {
    console.log(
      `listening after: ${list(start.empty)}; with ${abandoned} abandoned sessions: ${list(start.abandoned)}`,
    );
  }
  const kept = film > 0 ? await beside() : undefined;
  if (kept) console.log('beside the media:', kept);
  if (values.out) {
    const date = new Date().toISOString().slice(0, 10);
    const result = { date, cpu, threads, load, node: process.version, switches, pause, abandoned, start, kept };
    await mkdir(dirname(resolve(values.out)), { recursive: true });
    await writeFile(values.out, `${JSON.stringify(result, null, 2)}\n`);
  }
} finally {
  await engine.close();
  await rm(scratch, { recursive: true, force: true });
}
