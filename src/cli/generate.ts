import { randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { access, constants, mkdtemp, rename, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { pathToFileURL } from 'node:url';
import cliProgress from 'cli-progress';
import { Command, InvalidArgumentError, Option } from 'commander';
import { printable } from '../files/printable.js';
import { loadConfig, type ServerConfig } from '../server/config.js';
import {
  type CreateSessionInput,
  LIMITS,
  type RecacheMode,
  type Session,
  SILENT,
  type StoredEvent,
  type TimelineInput,
} from '../sessions/index.js';
import { openStore } from '../storage/index.js';
import { type ComposedBackend, compose, openParts } from './backend.js';
import { EXIT, Failure } from './failure.js';
import { numberWithin, SECONDS, wholeNumber } from './numbers.js';
import { endNotice, type Report, report, summary } from './report.js';
import { addSettings } from './settings.js';
import { complain, print } from './terminal.js';

interface Switch {
  atSeconds: number;
  prompt: string;
}

interface Flags extends Record<string, unknown> {
  prompt: string;
  switch: Switch[];
  switchMode: RecacheMode;
  switchChunks: number;
  seconds: number;
  out: string;
  seed?: bigint;
  size?: { width: number; height: number };
  json?: boolean;
}

/** `longlive generate`: one video into a file, as fast as the device allows. */
export function generateCommand(): Command {
  const command = new Command('generate')
    .description('generate a video into a file, as fast as this machine can')
    .requiredOption('--prompt <text>', 'the first prompt')
    .option('--switch <seconds:text>', 'switch to another prompt at this time; may be repeated', collectSwitch, [])
    .addOption(modeOption())
    .option(
      '--switch-chunks <number>',
      'let each switch come over so many chunks',
      wholeNumber(1, LIMITS.transitionChunks),
      1,
    )
    .option('--seconds <number>', 'length of the video', numberWithin({ least: 0.001, most: LIMITS.seconds }), 10)
    .requiredOption('--out <file>', 'the MP4 file to write')
    .option('--seed <number>', 'the same seed gives the same video (default: random)', seedNumber)
    .option('--size <WxH>', "for example 192x112 (default: the model's native size)", sizeOf)
    .option('--json', 'print only one JSON object with the measurements to standard output');
  return addSettings(command, [
    'models',
    'model',
    'device',
    'deviceIndex',
    'precision',
    'attention',
    'decoder',
    'rope',
    'threads',
  ]).action(generate);
}

async function generate(flags: Flags): Promise<void> {
  const out = resolve(flags.out);
  await mustBeWritable(out);
  const config = loadConfig(process.env, flags);
  const directory = await mkdtemp(join(tmpdir(), 'longlive-'));
  try {
    const backend = await openPrivateBackend(config, directory);
    try {
      const result = await run(backend, flags, out, config.threads);
      print(flags.json ? `${JSON.stringify(result, null, 2)}\n` : `${summary(result)}\n`);
    } finally {
      await backend.sessions.shutdown();
      await backend.close();
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function openPrivateBackend(config: ServerConfig, directory: string): Promise<ComposedBackend> {
  const parts = await openParts(config, { warn: (message) => STDERR.warn({}, message) });
  const store = openStore(pathToFileURL(directory).href);
  const policy = { idleSeconds: 0, checkpointBlocks: Number.MAX_SAFE_INTEGER };
  return compose({ ...parts, store, policy, logger: STDERR });
}

async function run(backend: ComposedBackend, flags: Flags, out: string, threads: number): Promise<Report> {
  const requestedAt = Date.now();
  tellEnd(backend, flags);
  const made = await backend.sessions.createSession(inputOf(flags));
  tellUnknownWords(made);
  const { id } = made;
  const interruption = stopOnSignal(backend, id);
  const events = await follow(backend, id, flags.seconds);
  interruption.end();
  const session = await backend.sessions.session(id);
  if (session.chunks > 0) await copyVideo(backend, session, out);
  if (interruption.happened) throw new Failure(EXIT.interrupted, `Interrupted; ${kept(session, out)}`);
  if (session.state === 'FAILED')
    throw new Failure(EXIT.generation, `${session.failure?.message ?? 'It failed'} ${kept(session, out)}`);
  const model = await backend.sessions.modelOf(session);
  const startedAt = performance.timeOrigin;
  return report({ session, events, model, startedAt, requestedAt, out, threads: threads || availableParallelism() });
}

/** Beforehand, that the video will be shorter than asked for. */
function tellEnd(backend: ComposedBackend, { seconds }: Flags): void {
  const model = backend.sessions.models()[0];
  if (model?.longestSeconds != null && model.longestSeconds < seconds) complain(`${endNotice(model)}\n`);
}

function tellUnknownWords({ receipts, model }: Session): void {
  const words = [...new Set(receipts.flatMap(({ unknownWords = [] }) => unknownWords))];
  if (words.length === 0) return;
  complain(`${printable(model)} was never taught: ${words.map(printable).join(', ')}. Describe it in other words.\n`);
}

function inputOf(flags: Flags): CreateSessionInput {
  if (flags.prompt.trim() === '') throw new Failure(EXIT.usage, '--prompt is empty; say what the picture shows.');
  const { switchMode: mode, switchChunks: chunks } = flags;
  const later: TimelineInput[] = flags.switch.map((entry) => ({ ...entry, mode, transition: { chunks } }));
  return {
    timeline: [{ prompt: flags.prompt }, ...later],
    pace: 'FASTEST',
    maxSeconds: flags.seconds,
    ...flags.size,
    ...(flags.seed !== undefined && { seed: flags.seed }),
  };
}

async function follow(backend: ComposedBackend, id: string, seconds: number): Promise<StoredEvent[]> {
  const bar = new cliProgress.SingleBar(
    { format: '{bar} {value}/{total} s of video | {fps} frames/s', stream: process.stderr, hideCursor: true },
    cliProgress.Presets.shades_classic,
  );
  const events: StoredEvent[] = [];
  const began = performance.now();
  bar.start(seconds, 0, { fps: '-' });
  for await (const event of backend.sessions.subscribe(id)) {
    if (event.type === 'Heartbeat') continue;
    events.push(event);
    if (event.type !== 'FrameChunk') continue;
    const frames = event.firstFrame + event.frameCount;
    const shown = Math.min(seconds, Math.round((event.startSeconds + event.durationSeconds) * 10) / 10);
    bar.update(shown, { fps: ((frames * 1_000) / Math.max(1, performance.now() - began)).toFixed(1) });
  }
  bar.stop();
  return events;
}

/** The first Ctrl-C ends the video where it is; what was made is kept. */
function stopOnSignal(backend: ComposedBackend, id: string): { happened: boolean; end(): void } {
  const state = { happened: false, end: () => process.removeListener('SIGINT', stop) };
  const stop = () => {
    state.happened = true;
    void backend.sessions.stopSession(id).catch(() => undefined);
  };
  process.once('SIGINT', stop);
  return state;
}

/** Under a temporary name first, so that a half-written file never looks finished. */
async function copyVideo({ store }: ComposedBackend, session: Session, out: string): Promise<void> {
  const video = session.artifacts.find(({ kind }) => kind === 'MP4');
  if (!video) throw new Failure(EXIT.storage, 'The video could not be assembled.');
  const temporary = `${out}.${randomUUID()}.part`;
  try {
    const { body } = await store.get(video.key);
    await pipeline(body, createWriteStream(temporary));
    await rename(temporary, out);
  } catch (error) {
    await rm(temporary, { force: true });
    throw new Failure(
      EXIT.storage,
      `${out} cannot be written: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

async function mustBeWritable(out: string): Promise<void> {
  await access(dirname(out), constants.W_OK).catch(() => {
    throw new Failure(
      EXIT.storage,
      `${out} cannot be written: ${dirname(out)} is not a directory that you may write to.`,
    );
  });
}

function kept(session: Session, out: string): string {
  return session.chunks === 0
    ? 'nothing was generated.'
    : `the ${session.seconds.toFixed(1)} seconds made so far are in ${out}.`;
}

const switchTime = numberWithin(SECONDS);

function collectSwitch(text: string, before: Switch[]): Switch[] {
  const [, seconds, prompt] = /^([^:]+):(.+)$/s.exec(text) ?? [];
  if (!seconds || !prompt) throw new InvalidArgumentError('Expected seconds:text, for example 5:"a blue robot".');
  return [...before, { atSeconds: switchTime(seconds), prompt }].sort((a, b) => a.atSeconds - b.atSeconds);
}

function modeOption(): Option {
  return new Option('--switch-mode <mode>', 'what a switch does with the KV cache, which remembers the old prompt')
    .choices(['recache', 'keep', 'clear'])
    .default('RECACHE', 'recache')
    .argParser((text) => {
      const mode = { recache: 'RECACHE', keep: 'KEEP_CACHE', clear: 'CLEAR_CACHE' }[text];
      if (!mode) throw new InvalidArgumentError('Expected recache, keep or clear.');
      return mode;
    });
}

function seedNumber(text: string): bigint {
  const seed = /^\d{1,20}$/.test(text) ? BigInt(text) : undefined;
  if (seed === undefined || seed >= 2n ** 64n)
    throw new InvalidArgumentError('Expected a whole number from 0 to 2^64-1.');
  return seed;
}

function sizeOf(text: string): { width: number; height: number } {
  const match = /^(\d{1,5})x(\d{1,5})$/.exec(text);
  if (!match) throw new InvalidArgumentError('Expected WIDTHxHEIGHT, for example 192x112.');
  return { width: Number(match[1]), height: Number(match[2]) };
}

const line = (details: object, message: string) => {
  const error = 'error' in details && details.error instanceof Error ? `: ${details.error.message}` : '';
  complain(`${message}${error}\n`);
};

/** People at a terminal need no notice of what goes well. */
const STDERR = { ...SILENT, warn: line, error: line };
