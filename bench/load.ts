/**
 * The cold start: how fast a large model package comes into memory beside what the disk gives in the same run, and how long
 * the default package takes from the start of the process to the first chunk.
 *
 *   npm run bench:load -- [--layers 30] [--runs 3] [--threads 0] [--work FOLDER] [--out bench/results/FILE.json]
 *
 * The large package has the shapes of LongLive-1.3B's video network, random numbers, and a short text encoder. Every
 * measurement is a process of its own; the best of the runs counts. The packages are removed.
 */

import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, loadavg, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs, promisify } from 'node:util';
import type { Report } from '../src/cli/report.js';
import { ditShapes, quantizePackage, type Tensor, writeSafeTensors, type WrittenFile } from '../src/import/index.js';
import { textEncoderShapes } from '../src/import/shapes.js';

const run = promisify(execFile);
const root = resolve(import.meta.dirname, '..');
const pocket = join(root, 'models/pocket');

/** What native/bench/bench_load.cpp prints. */
interface Measured {
  what: 'read' | 'keep' | 'load';
  cold: boolean;
  bytes: number;
  seconds: number;
  gigabytesPerSecond: number;
  peakMemoryBytes: number;
  weightBytes: number;
}

interface LoadRow {
  package: string;
  cold: boolean;
  bytes: number;
  /** GB/s: into one small buffer, into memory that stays, as a model. */
  read: number;
  keep: number;
  load: number;
  loadOverRead: number;
  loadOverKeep: number;
  loadSeconds: number;
  peakMemoryBytes: number;
  weightBytes: number;
}

// -- packages

const DIT = { dim: 1536, ffnDim: 8960, freqDim: 256, inDim: 16, outDim: 16, textDim: 4096, patchSize: [1, 2, 2] };
const TEXT = { vocabSize: 8192, dim: 4096, dimAttn: 4096, dimFfn: 10240, numHeads: 64, numLayers: 1 };
const BUCKETS = { numBuckets: 32, maxDistance: 128, eps: 1e-6 };

/** bf16 between -1 and 1, the same for every tensor: nothing here depends on what the numbers are. */
const NOISE = (() => {
  const values = new Uint16Array(2 ** 21);
  let state = 1;
  for (let i = 0; i < values.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = ((state >>> 16) & 0x807f) | (0x3d80 + ((state >>> 8) & 0x80));
  }
  return new Uint8Array(values.buffer);
})();

function noise(name: string, shape: readonly number[]): Tensor {
  const read = async (from: number, to: number) => {
    const bytes = new Uint8Array(2 * (to - from));
    for (let at = 0; at < bytes.length; at += NOISE.length) bytes.set(NOISE.subarray(0, bytes.length - at), at);
    return bytes;
  };
  return { name, dtype: 'BF16', shape, read };
}

async function largePackage(directory: string, numLayers: number): Promise<void> {
  await mkdir(directory);
  const files: Record<string, WrittenFile> = {};
  const networks = { dit: ditShapes({ ...DIT, numLayers }), text_encoder: textEncoderShapes({ ...TEXT, ...BUCKETS }) };
  for (const [file, shapes] of Object.entries(networks)) {
    const tensors = new Map([...shapes].map(([name, shape]) => [name, noise(name, shape)]));
    const path = join(directory, `${file}.safetensors`);
    files[`${file}.safetensors`] = await writeSafeTensors(
      path,
      tensors,
      () => 'BF16',
      () => undefined,
    );
  }
  const config = JSON.parse(await readFile(join(pocket, 'config.json'), 'utf8')) as Record<string, object>;
  config['dit'] = { ...config['dit'], ...DIT, numLayers, numHeads: 12, textLen: 512 };
  config['textEncoder'] = { ...TEXT, ...BUCKETS };
  await writeFile(join(directory, 'config.json'), JSON.stringify(config));
  for (const file of ['vae.safetensors', 'tokenizer.json']) await copyFile(join(pocket, file), join(directory, file));
  for (const file of ['config.json', 'vae.safetensors', 'tokenizer.json'])
    files[file] = await written(join(directory, file));
  const manifest = { ...(await manifestOf(pocket)), name: 'large', title: 'Large', files };
  await writeFile(join(directory, 'manifest.json'), JSON.stringify(manifest));
}

async function written(path: string): Promise<WrittenFile> {
  const bytes = await readFile(path);
  return { bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
}

interface Manifest extends Record<string, unknown> {
  title: string;
  files: Record<string, WrittenFile>;
}

async function manifestOf(directory: string): Promise<Manifest> {
  return JSON.parse(await readFile(join(directory, 'manifest.json'), 'utf8')) as Manifest;
}

// -- loading

async function measure(what: string, directory: string, cold: boolean, precision: string): Promise<Measured> {
  const flags = ['--threads', String(threads), '--precision', precision, ...(cold ? ['--cold'] : [])];
  const { stdout } = await run(join(root, 'native/build/bench_load'), [what, directory, ...flags]);
  return JSON.parse(stdout) as Measured;
}

async function best(what: string, directory: string, cold: boolean, precision: string): Promise<Measured> {
  const all: Measured[] = [];
  for (let i = 0; i < runs; i++) all.push(await measure(what, directory, cold, precision));
  return all.reduce((a, b) => (a.seconds <= b.seconds ? a : b));
}

async function loadRow(name: string, directory: string, cold: boolean, precision: string): Promise<LoadRow> {
  const read = await best('read', directory, cold, precision);
  const keep = await best('keep', directory, cold, precision);
  const load = await best('load', directory, cold, precision);
  return {
    ...{ package: name, cold, bytes: load.bytes },
    ...{ read: read.gigabytesPerSecond, keep: keep.gigabytesPerSecond, load: load.gigabytesPerSecond },
    loadOverRead: load.gigabytesPerSecond / read.gigabytesPerSecond,
    loadOverKeep: load.gigabytesPerSecond / keep.gigabytesPerSecond,
    ...{ loadSeconds: load.seconds, peakMemoryBytes: load.peakMemoryBytes, weightBytes: load.weightBytes },
  };
}

// -- from the start of the process to the first chunk

const PROMPT = 'a red fox runs across the meadow by day, in clear weather';
const CLI = join(root, 'dist/cli/main.js');
const SETTINGS = ['--models', pocket, '--device', 'cpu'];

async function generateStart(scratch: string): Promise<number> {
  const words = ['--prompt', PROMPT, '--seconds', '0.5', '--seed', '1', '--json', '--out', join(scratch, 'video.mp4')];
  const { stdout } = await run(process.execPath, [
    CLI,
    'generate',
    ...words,
    ...SETTINGS,
    '--threads',
    String(threads),
  ]);
  return (JSON.parse(stdout) as Report).coldStartMilliseconds;
}

/** From the start of the server to its first line, and to the first chunk of a session that was asked for at once. */
async function serveStart(scratch: string): Promise<{ ready: number; firstChunk: number }> {
  const store = join(scratch, `store-${performance.now()}`);
  const flags = [
    '--port',
    '0',
    '--host',
    '127.0.0.1',
    '--store',
    store,
    '--log-level',
    'silent',
    '--threads',
    String(threads),
  ];
  const began = performance.now();
  const server = spawn(process.execPath, [CLI, 'serve', ...flags, ...SETTINGS], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const [line] = (await once(createInterface(server.stdout), 'line')) as [string];
    const ready = performance.now() - began;
    const url = /http:\/\/\S+/.exec(line)?.[0];
    if (!url) throw new Error(`The server says: ${line}`);
    await firstChunk(`${url}/graphql`);
    return { ready, firstChunk: performance.now() - began };
  } finally {
    server.kill('SIGTERM');
    await once(server, 'exit');
  }
}

async function post(url: string, body: object, accept = 'application/json'): Promise<Response> {
  const headers = { 'content-type': 'application/json', accept };
  return fetch(url, { method: 'POST', headers, body: JSON.stringify(body) });
}

async function firstChunk(url: string): Promise<void> {
  const create = `mutation ($input: CreateSessionInput!) { createSession(input: $input) { ... on Session { id } ... on Error { message } } }`;
  const input = { prompt: PROMPT, pace: 'FASTEST', maxSeconds: 1, seed: '1' };
  const answer = (await (await post(url, { query: create, variables: { input } })).json()) as {
    data: { createSession: { id?: string } };
  };
  const { id } = answer.data.createSession;
  if (!id) throw new Error(`No session: ${JSON.stringify(answer)}`);
  const query = `subscription ($id: ID!) { sessionStream(sessionId: $id, media: INLINE) { __typename ... on FrameChunk { data } } }`;
  const stream = await post(url, { query, variables: { id } }, 'text/event-stream');
  const text = new TextDecoder();
  let seen = '';
  if (!stream.body) throw new Error('The stream has no body.');
  for await (const part of stream.body as unknown as AsyncIterable<Uint8Array>) {
    seen += text.decode(part, { stream: true });
    if (seen.includes('"FrameChunk"')) return;
  }
  throw new Error(`The stream ended without a chunk: ${seen.slice(0, 500)}`);
}

async function starts(scratch: string): Promise<{ generate: number[]; serveReady: number[]; serve: number[] }> {
  const result = { generate: [] as number[], serveReady: [] as number[], serve: [] as number[] };
  for (let i = 0; i < runs; i++) {
    result.generate.push(await generateStart(scratch));
    const { ready, firstChunk } = await serveStart(scratch);
    result.serveReady.push(Math.round(ready));
    result.serve.push(Math.round(firstChunk));
  }
  return result;
}

// -- tables

const percent = (ratio: number): string => `${(100 * ratio).toFixed(0)} %`;
const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);

function loadTable(rows: LoadRow[]): string {
  return [
    '| package | page cache | MB | read GB/s | kept GB/s | load GB/s | of read | of kept | load s | peak MB | weights MB |',
    '|---|---|---|---|---|---|---|---|---|---|---|',
    ...rows.map((r) => {
      const speeds = [r.read, r.keep, r.load].map((speed) => speed.toFixed(2)).join(' | ');
      const sizes = `${megabytes(r.peakMemoryBytes)} | ${megabytes(r.weightBytes)}`;
      return `| ${r.package} | ${r.cold ? 'cold' : 'warm'} | ${megabytes(r.bytes)} | ${speeds} | ${percent(r.loadOverRead)} | ${percent(r.loadOverKeep)} | ${r.loadSeconds.toFixed(2)} | ${sizes} |`;
    }),
  ].join('\n');
}

function startTable(measured: Awaited<ReturnType<typeof starts>>): string {
  return [
    '| from the start of the process | best ms | all |',
    '|---|---|---|',
    ...Object.entries(measured).map(([name, all]) => `| ${name} | ${Math.min(...all)} | ${all.join(', ')} |`),
  ].join('\n');
}

// -- the run

const { values } = parseArgs({
  options: {
    layers: { type: 'string', default: '30' },
    runs: { type: 'string', default: '3' },
    threads: { type: 'string', default: '0' },
    work: { type: 'string', default: tmpdir() },
    out: { type: 'string' },
  },
});
const layers = Number(values.layers);
const runs = Number(values.runs);
const threads = Number(values.threads) || availableParallelism();
const cpu = cpus()[0]?.model.trim() ?? 'unknown CPU';
const load = loadavg()[0] ?? 0;
const work = await mkdtemp(join(values.work, 'longlive-load-'));
try {
  console.log(`${cpu}, ${threads} threads, load ${load.toFixed(1)}; ${layers} layers\n`);
  const [bf16, int8] = [join(work, 'bf16'), join(work, 'int8')];
  await largePackage(bf16, layers);
  const source = { directory: bf16, manifest: await manifestOf(bf16) };
  await quantizePackage({ source, out: int8, precision: 'int8', textEncoder: 'int8' });
  const rows: LoadRow[] = [];
  for (const cold of [true, false]) {
    rows.push(await loadRow('bf16', bf16, cold, 'bf16'), await loadRow('int8', int8, cold, 'int8'));
  }
  console.log(`${loadTable(rows)}\n`);
  const measured = await starts(work);
  console.log(`${startTable(measured)}\n`);
  const date = new Date().toISOString().slice(0, 10);
  const slug = cpu.toLowerCase().replace(/[^a-z0-9]+/g, '-');
  const out = resolve(values.out ?? join(root, 'bench/results', `load-${slug}-${date}.json`));
  const result = { date, cpu, threads, load, node: process.version, layers, runs, rows, starts: measured };
  await writeFile(out, `${JSON.stringify(result, null, 2)}\n`);
  console.log(out);
} finally {
  await rm(work, { recursive: true, force: true });
}
