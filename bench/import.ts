/**
 * The dress rehearsal: checkpoints of LongLive-1.3B's names, shapes and types with random numbers are imported, verified,
 * loaded, and make one block on the CPU, all by the built `longlive`. Needs 36 GB of disk for a while, and 20 GB of memory for
 * the block. Everything it makes is removed.
 *
 *   npm run bench:import -- [--work FOLDER] [--size 416x240] [--decoder full|tiny] [--layers N] [--no-video]
 *                           [--precisions bf16/bf16,int8/int8] [--threads 0] [--out bench/results/FILE.json]
 *   npx tsx bench/import.ts [--table bench/results/FILE.json] [--fuzz bench/results/FILE.json ...]    (into docs/models.md)
 *
 * `--layers` is for a trial with smaller networks; `--precisions` are pairs of --precision and --text-encoder.
 */

import { spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { cpus, loadavg, tmpdir, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type Checkpoint, writeSynthetic } from '../scripts/synthetic-checkpoints.js';
import type { Report } from '../src/cli/report.js';
import { writeTables } from './import-table.js';

export interface Rehearsal {
  date: string;
  cpu: string;
  threads: number;
  memoryBytes: number;
  node: string;
  /** Processes that wanted the processor when it began; on a quiet machine below 1. */
  load: number;
  layers: number | undefined;
  checkpoints: Checkpoint[];
  /** Reading the checkpoints, and writing as much as the first package has, without doing anything with it. */
  disk: { readSeconds: number; writeSeconds: number; writtenBytes: number };
  runs: Run[];
}

export interface Run {
  precision: string;
  textEncoder: string;
  importSeconds: number;
  importPeakBytes: number;
  packageBytes: number;
  verifySeconds: number;
  video?: {
    size: string;
    decoder: string;
    frames: number;
    /** From the start of the process to the end of the file. */
    seconds: number;
    /** From the request, with the model loaded. */
    firstChunkSeconds: number;
    peakBytes: number;
  };
}

const root = resolve(import.meta.dirname, '..');
const NAME = 'rehearsal';

interface Ended {
  stdout: string;
  seconds: number;
  peakBytes: number;
}

/** Runs the built CLI; its peak memory is what the kernel says last. */
async function longlive(...words: string[]): Promise<Ended> {
  const began = performance.now();
  const child = spawn(process.execPath, [join(root, 'dist/cli/main.js'), ...words], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let [stdout, peakBytes] = ['', 0];
  child.stdout.on('data', (part: Buffer) => (stdout += part.toString()));
  const poll = setInterval(
    () => void peakOf(child.pid as number).then((now) => (peakBytes = Math.max(peakBytes, now))),
    50,
  );
  const code = await new Promise((ended) => child.on('close', ended));
  clearInterval(poll);
  if (code !== 0) throw new Error(`longlive ${words[0]} ended with ${String(code)}`);
  return { stdout, peakBytes, seconds: (performance.now() - began) / 1_000 };
}

async function peakOf(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1_024;
}

async function timed(work: () => Promise<void>): Promise<number> {
  const began = performance.now();
  await work();
  return (performance.now() - began) / 1_000;
}

async function readThrough(path: string): Promise<void> {
  for await (const part of createReadStream(path, { highWaterMark: 1 << 24 })) void part;
}

async function writeThrough(path: string, bytes: number): Promise<void> {
  const block = Buffer.alloc(1 << 24, 0x5a);
  const file = await open(path, 'w');
  try {
    for (let left = bytes; left > 0; left -= block.length) await file.write(block, 0, Math.min(left, block.length));
    await file.sync();
  } finally {
    await file.close();
    await rm(path, { force: true });
  }
}

async function importOnce(
  work: string,
  precision: string,
  textEncoder: string,
  video: string[] | undefined,
): Promise<Run> {
  const source = (file: string) => join(work, 'checkpoints', file);
  const out = join(work, 'models', NAME);
  const settings = ['--precision', precision, '--text-encoder', textEncoder, '--license', 'random numbers', '--quiet'];
  const files = ['models_t5_umt5-xxl-enc-bf16.pth', 'Wan2.1_VAE.pth', 'taew2_1.pth'].map(source);
  const made = await longlive(
    ...['import', source('longlive_base.pt'), ...files, '--lora', source('lora.pt')],
    ...['--tokenizer', source('tokenizer.json'), '--out', out, ...settings],
  );
  const manifest = JSON.parse(await readFile(join(out, 'manifest.json'), 'utf8')) as {
    files: Record<string, { bytes: number }>;
  };
  const verified = await longlive('models', 'verify', '--models', join(work, 'models'));
  const run: Run = {
    ...{ precision, textEncoder, importSeconds: made.seconds, importPeakBytes: made.peakBytes },
    packageBytes: Object.values(manifest.files).reduce((sum, { bytes }) => sum + bytes, 0),
    verifySeconds: verified.seconds,
  };
  if (!video) return run;
  const ended = await longlive(
    ...['generate', '--models', join(work, 'models'), '--prompt', 'a red fox runs through deep snow', '--seed', '1'],
    ...['--device', 'cpu', '--precision', precision === 'int8' ? 'int8' : 'bf16', '--seconds', '0.5', '--json'],
    ...['--out', join(work, 'video.mp4'), ...video],
  );
  const report = JSON.parse(ended.stdout) as Report;
  return {
    ...run,
    video: {
      size: `${report.width}x${report.height}`,
      decoder: video[video.indexOf('--decoder') + 1] as string,
      frames: report.frames,
      seconds: ended.seconds,
      firstChunkSeconds: report.firstChunkMilliseconds / 1_000,
      peakBytes: Math.max(report.peakMemoryBytes, ended.peakBytes),
    },
  };
}

async function rehearse(work: string): Promise<Rehearsal> {
  const load = loadavg()[0] as number;
  const layers = values.layers === undefined ? undefined : Number(values.layers);
  const checkpoints = await writeSynthetic(join(work, 'checkpoints'), layers);
  for (const { file, bytes } of checkpoints) console.log(`${(bytes / 1e9).toFixed(2)} GB  ${file}`);
  const video = ['--size', values.size, '--decoder', values.decoder, '--threads', values.threads];
  const runs: Run[] = [];
  for (const pair of values.precisions.split(',')) {
    const [precision = '', textEncoder = ''] = pair.split('/');
    const run = await importOnce(work, precision, textEncoder, values['no-video'] ? undefined : video);
    console.log(JSON.stringify(run));
    runs.push(run);
    await rm(join(work, 'models'), { recursive: true });
  }
  const writtenBytes = runs[0]?.packageBytes ?? 0;
  const readSeconds = await timed(async () => {
    for (const { file } of checkpoints) await readThrough(join(work, 'checkpoints', file));
  });
  await rm(join(work, 'checkpoints'), { recursive: true });
  const writeSeconds = await timed(() => writeThrough(join(work, 'raw'), writtenBytes));
  return {
    date: new Date().toISOString().slice(0, 10),
    cpu: cpus()[0]?.model.trim() ?? 'unknown CPU',
    threads: Number(values.threads) || cpus().length,
    memoryBytes: totalmem(),
    node: process.version,
    ...{ load, layers, checkpoints, runs },
    disk: { readSeconds, writeSeconds, writtenBytes },
  };
}

const { values } = parseArgs({
  options: {
    work: { type: 'string', default: tmpdir() },
    size: { type: 'string', default: '416x240' },
    decoder: { type: 'string', default: 'full' },
    layers: { type: 'string' },
    precisions: { type: 'string', default: 'bf16/bf16,int8/int8' },
    'no-video': { type: 'boolean', default: false },
    threads: { type: 'string', default: '0' },
    out: { type: 'string' },
    table: { type: 'string' },
    fuzz: { type: 'string', multiple: true, default: [] },
  },
});

if (values.table || values.fuzz.length > 0) {
  await writeTables(values.table, values.fuzz);
} else {
  const work = await mkdtemp(join(values.work, 'longlive-rehearsal-'));
  const clean = () => rm(work, { recursive: true, force: true });
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => void clean().then(() => process.exit(130)));
  try {
    const result = await rehearse(work);
    const out = resolve(values.out ?? join(root, 'bench/results', `import-cpu-${result.date}.json`));
    await writeFile(out, `${JSON.stringify(result, null, 2)}\n`);
    console.log(out);
  } finally {
    await clean();
  }
}
