/** What a package loses by being quantized: the same prompts on the same noise through both, compared. */

import { openEngine } from '../engine/index.js';
import { readValues } from '../import/index.js';

/** Short ones, so that every model's text encoder takes them. */
export const CALIBRATION_PROMPTS: readonly string[] = [
  'a red fox runs across the meadow by day, in clear weather',
  'a blue robot walks along a street at night, in the rain',
  'a green car drives through a desert at dusk, in the wind',
  'a yellow boat on the sea in the morning, in fog',
  'a person dances in a room',
  'snow falls on a mountain at night',
];

export interface Trial {
  directory: string;
  precision: 'fp32' | 'bf16' | 'int8';
}

export interface Calibration {
  prompts: readonly string[];
  /** Blocks of video to each prompt. */
  blocks: number;
  device: 'auto' | 'cpu' | 'cuda';
  threads: number;
  onPrompt?: (done: number) => void;
}

export interface Loss {
  prompt: string;
  /** |quantized - original| / |original| over the clean latents. */
  latents: number;
  /** Of the frames' I420 bytes, in decibels; infinite when they are equal. */
  psnr: number;
}

/** One package after the other, so that never more than one is in memory. */
export async function measureLoss(original: Trial, quantized: Trial, options: Calibration): Promise<Loss[]> {
  const { prompts, onPrompt } = options;
  const before = await films(original, options, (done) => onPrompt?.(done));
  const after = await films(quantized, options, (done) => onPrompt?.(prompts.length + done));
  return prompts.map((prompt, i) => {
    const [a, b] = [before[i] as Film, after[i] as Film];
    return { prompt, latents: relativeError(a.latents, b.latents), psnr: psnr(a.frames, b.frames) };
  });
}

interface Film {
  latents: Float32Array;
  frames: Uint8Array;
}

async function films(trial: Trial, options: Calibration, onPrompt: (done: number) => void): Promise<Film[]> {
  const { device, threads, prompts, blocks } = options;
  await using engine = await openEngine({ models: trial.directory, precision: trial.precision, device, threads });
  const results: Film[] = [];
  for (const [i, prompt] of prompts.entries()) {
    results.push(await film(engine, prompt, BigInt(i + 1), blocks));
    onPrompt(i + 1);
  }
  return results;
}

async function film(
  engine: Awaited<ReturnType<typeof openEngine>>,
  prompt: string,
  seed: bigint,
  blocks: number,
): Promise<Film> {
  const [model] = engine.models();
  if (!model) throw new Error('The package has no model.');
  const { name, width, height } = model;
  using generation = await engine.open(name, { seed, width, height });
  await generation.setPrompt({ prompt }, 'RECACHE');
  const frames: Uint8Array[] = [];
  while (generation.block < blocks) {
    const step = await generation.step();
    if (step.kind === 'frames') frames.push(new Uint8Array(step.frames.i420));
  }
  return { latents: await latentsOf(await generation.checkpoint()), frames: Buffer.concat(frames) };
}

/** The clean latents that a checkpoint holds. */
async function latentsOf(checkpoint: Uint8Array): Promise<Float32Array> {
  const tensors = await readValues(checkpoint);
  const parts = ['latents.sink', 'latents.window'].map((name) => tensors.get(name) ?? new Float32Array());
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

export function relativeError(original: Float32Array, other: Float32Array): number {
  let difference = 0;
  let size = 0;
  for (let i = 0; i < original.length; i++) {
    const value = original[i] as number;
    difference += ((other[i] as number) - value) ** 2;
    size += value ** 2;
  }
  return difference === 0 ? 0 : Math.sqrt(difference / size);
}

export function psnr(original: Uint8Array, other: Uint8Array): number {
  let squares = 0;
  for (let i = 0; i < original.length; i++) squares += ((original[i] as number) - (other[i] as number)) ** 2;
  return squares === 0 ? Infinity : 10 * Math.log10((255 ** 2 * original.length) / squares);
}
