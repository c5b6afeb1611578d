/**
 * Films for the benchmarks: reads one job per line (JSON) from standard input, generates it with the native core and answers on
 * standard output: for each block, where the job wants frames, a line {"bytes": n} and as many bytes of raw RGB, at the end one
 * line. Where it wants checkpoints, too, the line is {"bytes": n, "checkpoint": m}, and the checkpoint after the block follows its RGB.
 * Frames that nobody reads hold up the generation. The Python sides are film.py and training/longlive_training/films.py.
 *
 * The model stays loaded as long as jobs ask for the same package in the same way.
 */
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { LoadOptions, NativeModel, RecacheMode, SessionOptions } from '../src/engine/addon.js';
import { loadAddon, Tokenizer } from '../src/engine/index.js';

interface Job {
  package: string;
  load: Pick<LoadOptions, 'precision' | 'threads' | 'kv'>;
  rope: SessionOptions['rope'];
  mode: RecacheMode;
  seed: number;
  blocks: number;
  timeline: { block: number; prompt: string }[];
  frames: boolean;
  checkpoints?: boolean;
}

interface Reply {
  frames: number;
  /** Everything but handing over the frames. */
  seconds: number;
  blockMilliseconds: number[];
  recacheMilliseconds: number[];
  /** Of the session: KV cache, workspace, decoder. */
  sessionBytes: number;
  weightBytes: number;
}

interface Config {
  dit: { textLen: number };
  video: { width: number; height: number };
}

interface Loaded {
  key: string;
  model: NativeModel;
  tokenizer: Tokenizer;
}

let loaded: Loaded | undefined;

async function load(job: Job): Promise<Loaded> {
  const key = JSON.stringify([job.package, job.load]);
  if (loaded?.key === key) return loaded;
  loaded?.model.dispose();
  loaded = undefined;
  const tokenizer = Tokenizer.parse(await readFile(join(job.package, 'tokenizer.json'), 'utf8'));
  const options = { directory: job.package, device: 'cpu', decoder: 'full', isa: '', ...job.load } as const;
  loaded = { key, model: await loadAddon().loadModel(options), tokenizer };
  return loaded;
}

async function shoot(job: Job): Promise<Reply> {
  const { model, tokenizer } = await load(job);
  const { video, dit } = model.config as Config;
  const { width, height } = video;
  const session = await model.createSession({ seed: BigInt(job.seed), width, height, rope: job.rope });
  const reply: Reply = {
    frames: 0,
    seconds: 0,
    blockMilliseconds: [],
    recacheMilliseconds: [],
    sessionBytes: session.memoryBytes,
    weightBytes: model.weightBytes,
  };
  try {
    for (let block = 0; block < job.blocks; block += 1) {
      const began = performance.now();
      const turn = job.timeline.find((entry) => entry.block === block);
      if (turn) {
        const prompt = await model.encodePrompt(tokenizer.encode(turn.prompt, dit.textLen));
        const { milliseconds } = await session.setPrompt(prompt, job.mode);
        if (block > 0) reply.recacheMilliseconds.push(milliseconds);
      }
      let rgb: Uint8Array | undefined;
      for (let step = await session.step(); step.kind !== 'context'; step = await session.step()) {
        if (step.kind !== 'frames') continue;
        reply.frames += step.frames.count;
        rgb = job.frames ? await session.lastRgb() : undefined;
      }
      const milliseconds = performance.now() - began;
      reply.blockMilliseconds.push(milliseconds);
      reply.seconds += milliseconds / 1000;
      if (rgb) await send(rgb, job.checkpoints ? await session.checkpoint() : undefined);
    }
  } finally {
    session.dispose();
  }
  return reply;
}

async function send(rgb: Uint8Array, checkpoint?: Uint8Array): Promise<void> {
  process.stdout.write(`${JSON.stringify({ bytes: rgb.byteLength, checkpoint: checkpoint?.byteLength })}\n`);
  if (checkpoint) process.stdout.write(rgb);
  if (!process.stdout.write(checkpoint ?? rgb)) await once(process.stdout, 'drain');
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer: Reply | { error: string };
  try {
    answer = await shoot(JSON.parse(line) as Job);
  } catch (error) {
    answer = { error: error instanceof Error ? error.message : String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
loaded?.model.dispose();
