/**
 * The Pocket table: how fast the default package runs on this machine, against the same package in PyTorch on the same
 * cores in the same run, and what the service itself adds to a chunk.
 *
 *   npm run bench -- [--seconds 20] [--threads 2] [--python PATH] [--against PACKAGE] [--limit 300] [--out bench/results/FILE.json]
 *
 * `--against` names the folder of an older Pocket to run in between: `../shared/pocket-0.9.3`.
 * `--python` (or LONGLIVE_PYTHON) names an interpreter with training/requirements.txt installed; without one, PyTorch is left out.
 * Each part says what it is and how long it took; one that takes longer than `--limit` seconds is stopped and left out.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import type { Report } from '../src/cli/report.js';
import { Parts } from './parts.js';
import { measureService, type ServiceRow } from './service.js';

const run = promisify(execFile);
const MODEL = 'pocket';
const root = resolve(import.meta.dirname, '..');
const PROMPT = 'a red fox runs across the meadow by day, in clear weather';
const NEXT_PROMPT = 'a blue robot walks along a street at night, in the rain';

interface TorchReport {
  engine: string;
  dtype: string;
  fps: number;
  firstChunkMs: number;
  medianLatentsMs: number;
  medianDecodeMs: number;
  switchMs: number[];
}

interface Row {
  engine: string;
  precision: string;
  fps: number;
  realTimeFactor: number;
  blockMilliseconds: number;
  firstChunkMilliseconds: number;
  recacheMilliseconds: number | undefined;
  switchMilliseconds: number | undefined;
  peakMemoryMegabytes: number | undefined;
}

const FPS = 16;

async function native(
  precision: string,
  seconds: number,
  threads: number,
  signal: AbortSignal,
  folder = join(root, 'models/pocket'),
): Promise<Row> {
  const scratch = await mkdtemp(join(tmpdir(), 'longlive-bench-'));
  try {
    const { stdout } = await run(
      process.execPath,
      [
        join(root, 'dist/cli/main.js'),
        ...['generate', '--prompt', PROMPT, '--switch', `${seconds / 2}:${NEXT_PROMPT}`, '--seconds', String(seconds)],
        ...['--seed', '1', '--device', 'cpu', '--precision', precision, '--threads', String(threads), '--json'],
        ...['--models', dirname(folder), '--model', MODEL, '--out', join(scratch, 'video.mp4')],
      ],
      { maxBuffer: 1 << 24, signal },
    );
    const result = JSON.parse(stdout) as Report;
    return {
      engine: `native core, ${result.package.name} ${result.package.version}`,
      precision,
      fps: result.generationFps,
      realTimeFactor: result.generationFps / FPS,
      blockMilliseconds: result.blockMilliseconds.p50,
      firstChunkMilliseconds: result.firstChunkMilliseconds,
      recacheMilliseconds: result.recacheMilliseconds[0],
      switchMilliseconds: result.switchMilliseconds[0],
      peakMemoryMegabytes: Math.round(result.peakMemoryBytes / 2 ** 20),
    };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function torch(
  python: string,
  dtype: string,
  seconds: number,
  threads: number,
  signal: AbortSignal,
): Promise<Row> {
  const { stdout } = await run(
    python,
    [
      ...['-m', 'longlive_training.inference', '--package', join(root, 'models/pocket'), '--prompt', PROMPT],
      ...['--switch', String(seconds / 2), NEXT_PROMPT, '--seconds', String(seconds), '--seed', '1'],
      ...['--dtype', dtype, '--threads', String(threads), '--json'],
    ],
    { cwd: join(root, 'training'), maxBuffer: 1 << 24, signal },
  );
  const result = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as TorchReport;
  return {
    engine: result.engine,
    precision: dtype === 'float32' ? 'fp32' : 'bf16',
    fps: result.fps,
    realTimeFactor: result.fps / FPS,
    blockMilliseconds: result.medianLatentsMs + result.medianDecodeMs,
    firstChunkMilliseconds: result.firstChunkMs,
    recacheMilliseconds: undefined,
    switchMilliseconds: result.switchMs[0],
    peakMemoryMegabytes: undefined,
  };
}

const cell = (value: number | undefined, digits = 0): string => (value === undefined ? '' : value.toFixed(digits));

function engineTable(rows: Row[]): string {
  return [
    '| engine | precision | frames/s | x real time | block p50 ms | first chunk ms | recache ms | switch ms | peak MB |',
    '|---|---|---|---|---|---|---|---|---|',
    ...rows.map(
      (row) =>
        `| ${row.engine} | ${row.precision} | ${cell(row.fps, 1)} | ${cell(row.realTimeFactor, 2)} | ${cell(row.blockMilliseconds)} ` +
        `| ${cell(row.firstChunkMilliseconds)} | ${cell(row.recacheMilliseconds)} | ${cell(row.switchMilliseconds)} | ${cell(row.peakMemoryMegabytes)} |`,
    ),
  ].join('\n');
}

function serviceTable(rows: ServiceRow[]): string {
  return [
    '| media | subscribers | chunks received | p50 ms | p99 ms |',
    '|---|---|---|---|---|',
    ...rows.map((r) => `| ${r.media} | ${r.subscribers} | ${r.received} | ${cell(r.p50, 1)} | ${cell(r.p99, 1)} |`),
  ].join('\n');
}

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '20' },
    threads: { type: 'string', default: '2' },
    python: { type: 'string', default: process.env.LONGLIVE_PYTHON ?? 'python3' },
    against: { type: 'string' },
    limit: { type: 'string', default: '300' },
    out: { type: 'string' },
  },
});
const [seconds, threads] = [Number(values.seconds), Number(values.threads)];
const parts = new Parts(Number(values.limit));
const cpu = cpus()[0]?.model.trim() ?? 'unknown CPU';

console.log(`${cpu}, ${threads} threads, ${seconds} s of video with one prompt switch\n`);
const rows: Row[] = [];
const older: Row[] = [];
const { against } = values;
for (const precision of ['fp32', 'bf16', 'int8']) {
  rows.push(...(await parts.run(`native core, ${precision}`, (signal) => native(precision, seconds, threads, signal))));
  if (against === undefined) continue;
  const folder = resolve(against);
  const named = `native core, ${precision}, ${against}`;
  older.push(...(await parts.run(named, (signal) => native(precision, seconds, threads, signal, folder))));
}
for (const dtype of ['float32', 'bfloat16']) {
  const { python } = values;
  rows.push(...(await parts.run(`PyTorch, ${dtype}`, (signal) => torch(python, dtype, seconds, threads, signal))));
}
console.log(engineTable([...rows, ...older]));

const best = (of: Row[]) => (of.length > 0 ? Math.max(...of.map((row) => row.fps)) : undefined);
const isNative = (row: Row) => row.engine.startsWith('native core');
const [ours, torchs] = [best(rows.filter(isNative)), best(rows.filter((row) => !isNative(row)))];
const ratio = ours === undefined || torchs === undefined ? null : ours / torchs;
if (ratio !== null)
  console.log(`\nnative core, best precision, against PyTorch, best precision: ${ratio.toFixed(2)} x\n`);
const overOlder = older.flatMap(({ precision, fps }) => {
  const newer = rows.find((row) => isNative(row) && row.precision === precision);
  return newer ? [{ precision, ratio: newer.fps / fps }] : [];
});
for (const each of overOlder) console.log(`against ${against}, ${each.precision}: ${each.ratio.toFixed(2)} x`);

const [service = []] = await parts.run('the service', (signal) => measureService({ seconds: 12, threads, signal }));
console.log('From the frames leaving the engine to the chunk in the hands of a client (REALTIME, one session):\n');
console.log(serviceTable(service));
for (const { part, why } of parts.left) console.log(`Left out: ${part}: ${why}`);

const date = new Date().toISOString().slice(0, 10);
const out = resolve(values.out ?? join(root, 'bench/results', `pocket-cpu-${date}.json`));
await mkdir(dirname(out), { recursive: true });
const result = {
  date,
  cpu,
  threads,
  seconds,
  node: process.version,
  rows,
  older,
  nativeOverTorch: ratio,
  overOlder,
  service,
  left: parts.left,
};
await writeFile(out, `${JSON.stringify(result, null, 2)}\n`);
console.log(`\n${out}`);
