/**
 * The video encoders side by side: frames per second, kB per chunk at equal PSNR, and cores, of Pocket's pictures and of a clip
 * that is hard to encode, at Pocket's size and at 832x480. `npm run bench:encoders`; --json FILE keeps the figures.
 *
 * One thread each. Other processes on the machine take their share of the clock, hardly any of the CPU time: where it is busy,
 * believe frames per core and second.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname } from 'node:path';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import type * as EngineModule from '../src/engine/index.js';
import type * as Media from '../src/media/minih264.js';
import type { PictureEncoder } from '../src/sessions/index.js';
import { decode, nalUnits, psnr } from '../test/unit/media/pictures.js';

/** The compiled service, as it is deployed. */
const compiled = async <Module>(path: string): Promise<Module> =>
  (await import(new URL(`../dist/${path}`, import.meta.url).href)) as Module;
const { loadAddon, openEngine, openOpenH264 } = await compiled<typeof EngineModule>('engine/index.js');
const { MiniH264 } = await compiled<typeof Media>('media/minih264.js');

const FPS = 16;
const FRAMES = 12;
const CHUNKS = 5;
const QUANTIZERS = [20, 24, 28, 32, 36];
/** What sessions are encoded with: at its PSNR by minih264 the encoders are compared. */
const USUAL = 24;

interface Clip {
  name: string;
  width: number;
  height: number;
  /** Each of FRAMES pictures, planar I420. */
  chunks: Uint8Array[];
}

interface Point {
  quantizer: number;
  kilobytes: number;
  psnr: number;
}

interface Row {
  clip: string;
  size: string;
  encoder: string;
  framesPerSecond: number;
  framesPerCoreSecond: number;
  /** For one stream at its pace. */
  cores: number;
  /** Of the JavaScript thread, for a chunk. */
  mainThreadMilliseconds: number;
  kilobytes: number;
  psnr: number;
  kilobytesAtEqualPsnr: number;
  points: Point[];
}

/** Drifting detail of several scales under a little noise, the same every time. */
function hardClip(width: number, height: number): Clip {
  const bytes = (width * height * 3) / 2;
  let state = 1;
  const random = () => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) / 2 ** 32 - 0.5;
  const chunks = Array.from({ length: CHUNKS }, () => new Uint8Array(bytes * FRAMES));
  for (let n = 0; n < CHUNKS * FRAMES; n++) {
    const picture = chunks[Math.floor(n / FRAMES)]!.subarray((n % FRAMES) * bytes, ((n % FRAMES) + 1) * bytes);
    const zoom = 1 + n * 0.004;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const [u, v] = [(x - width / 2) / zoom / 40 + n * 0.02, (y - height / 2) / zoom / 40];
        const waves =
          Math.sin(u) * Math.cos(v) +
          Math.sin(2.7 * u + v) / 2 +
          Math.sin(7.3 * v - 3 * u) / 4 +
          Math.sin(19 * u + 11 * v) / 8;
        picture[y * width + x] = 126 + waves * 45 + random() * 8;
      }
    }
    for (let i = width * height; i < bytes; i++) picture[i] = 128 + 30 * Math.sin(i / 900 + n * 0.05);
  }
  return { name: 'hard', width, height, chunks };
}

/** The blocks behind the first, of which all have FRAMES pictures. */
async function pocketClip(): Promise<Clip> {
  const engine = await openEngine({ models: new URL('../models', import.meta.url).pathname, model: 'pocket' });
  const [{ width, height } = { width: 0, height: 0 }] = engine.models();
  const generation = await engine.open('pocket', { seed: 7n, width, height });
  await generation.setPrompt({ prompt: 'a red fox runs on the grass by day' }, 'RECACHE');
  const chunks: Uint8Array[] = [];
  while (chunks.length < CHUNKS) {
    const step = await generation.step();
    if (step.kind === 'frames' && step.block > 0) chunks.push(new Uint8Array(step.frames.i420));
  }
  generation.dispose();
  await engine.close();
  return { name: 'Pocket', width, height, chunks };
}

async function measure(clip: Clip, encoder: PictureEncoder): Promise<Omit<Row, 'kilobytesAtEqualPsnr'>> {
  const { width, height } = clip;
  const encode = (frames: Uint8Array, quantizer: number) =>
    encoder.encode({ width, height, fps: FPS, frames, quantizer });
  await encode(clip.chunks[0]!, USUAL);
  const [began, cpu, loop] = [performance.now(), process.cpuUsage(), performance.eventLoopUtilization()];
  const rounds = Math.ceil(2e7 / (width * height) / CHUNKS / FRAMES) + 1;
  for (let round = 0; round < rounds; round++) for (const frames of clip.chunks) await encode(frames, USUAL);
  const [wall, spent] = [(performance.now() - began) / 1000, process.cpuUsage(cpu)];
  const busy = performance.eventLoopUtilization(loop).active;
  const frames = rounds * CHUNKS * FRAMES;
  const framesPerCoreSecond = frames / ((spent.user + spent.system) / 1e6);
  const points: Point[] = [];
  for (const quantizer of QUANTIZERS)
    points.push({ quantizer, ...(await quality(clip, (of) => encode(of, quantizer))) });
  const usual = points.find(({ quantizer }) => quantizer === USUAL)!;
  return {
    ...{ clip: clip.name, size: `${width}x${height}`, encoder: encoder.name },
    ...{ framesPerSecond: frames / wall, framesPerCoreSecond, cores: FPS / framesPerCoreSecond },
    mainThreadMilliseconds: busy / (rounds * CHUNKS),
    ...{ kilobytes: usual.kilobytes, psnr: usual.psnr, points },
  };
}

async function quality(
  { chunks }: Clip,
  encode: (frames: Uint8Array) => ReturnType<PictureEncoder['encode']>,
): Promise<{ kilobytes: number; psnr: number }> {
  let [bytes, decibels] = [0, 0];
  for (const frames of chunks) {
    const { parameterSets, samples } = await encode(frames);
    const nals = samples.flatMap((sample) => nalUnits(sample.bytes));
    const pictures = await decode([parameterSets.sps, parameterSets.pps, ...nals]);
    bytes += samples.reduce((sum, sample) => sum + sample.bytes.length, 0);
    decibels += psnr(Buffer.concat(pictures), frames);
  }
  return { kilobytes: bytes / chunks.length / 1000, psnr: decibels / chunks.length };
}

/** On the line between the points around it, in the logarithm of the bytes. */
function kilobytesAt(decibels: number, points: readonly Point[]): number {
  const at = points.findIndex((point) => point.psnr <= decibels);
  const [finer, coarser] = [points[Math.max(0, at - 1)]!, points[at === -1 ? points.length - 1 : Math.max(1, at)]!];
  const share = (decibels - finer.psnr) / (coarser.psnr - finer.psnr || 1);
  return finer.kilobytes * (coarser.kilobytes / finer.kilobytes) ** share;
}

const round = (value: number, digits: number): string => value.toFixed(digits);

const { values } = parseArgs({ options: { json: { type: 'string' } } });
const encoders: PictureEncoder[] = [new MiniH264(1, 10)];
try {
  encoders.push(openOpenH264(loadAddon(), 1));
} catch (error) {
  console.error(String(error));
}
const rows: Row[] = [];
console.log(
  '| clip | size | encoder | frames/s | frames/s of a core | cores for a stream | JavaScript ms per chunk | kB per chunk, PSNR at QP 24 | kB at equal PSNR |',
);
console.log('|---|---|---|---|---|---|---|---|---|');
for (const clip of [await pocketClip(), hardClip(256, 144), hardClip(832, 480)]) {
  let target: number | undefined;
  for (const encoder of encoders) {
    const measured = await measure(clip, encoder);
    target ??= measured.psnr;
    const row = { ...measured, kilobytesAtEqualPsnr: kilobytesAt(target, measured.points) };
    rows.push(row);
    console.log(
      `| ${row.clip} | ${row.size} | ${row.encoder} | ${round(row.framesPerSecond, 0)} | ${round(row.framesPerCoreSecond, 0)} | ` +
        `${round(row.cores, 3)} | ${round(row.mainThreadMilliseconds, 2)} | ${round(row.kilobytes, 1)}, ${round(row.psnr, 1)} dB | ${round(row.kilobytesAtEqualPsnr, 1)} |`,
    );
  }
}
await Promise.all(encoders.map((encoder) => encoder.close()));
if (values.json) {
  mkdirSync(dirname(values.json), { recursive: true });
  const machine = { cpu: cpus()[0]?.model ?? '', cores: cpus().length };
  writeFileSync(values.json, `${JSON.stringify({ date: new Date().toISOString(), machine, rows }, null, 2)}\n`);
}
