/** A case, generated: its pictures, and how long they took. */

import type { Engine, Frames } from '../../sessions/ports.js';
import { readValues } from '../../import/values.js';
import type { Case } from './cases.js';

export interface Size {
  width: number;
  height: number;
}

export interface Film {
  blocks: readonly Frames[];
  /** From one block's pictures to the next one's, the first from the prompt on. */
  milliseconds: readonly number[];
  recacheMilliseconds: readonly number[];
  /** Of the clean latents that a checkpoint keeps: how many values are no numbers, and the spread of the others. */
  latents: { values: number; notFinite: number; deviation: number };
}

export async function film(engine: Engine, model: string, what: Case, size: Size, blocks: number): Promise<Film> {
  using generation = await engine.open(model, { seed: BigInt(what.seed), ...size });
  const made: { blocks: Frames[]; milliseconds: number[]; recache: number[] } = {
    ...{ blocks: [], milliseconds: [], recache: [] },
  };
  for (let block = 0; block < blocks; block++) {
    const began = performance.now();
    const prompt = what.prompts.find((entry) => entry.block === block)?.prompt;
    if (prompt !== undefined) {
      const { milliseconds } = await generation.setPrompt({ prompt }, 'RECACHE');
      if (block > 0) made.recache.push(milliseconds);
    }
    for (let step = await generation.step(); step.kind !== 'context'; step = await generation.step()) {
      if (step.kind !== 'frames') continue;
      made.blocks.push({ ...step.frames, i420: new Uint8Array(step.frames.i420) });
      made.milliseconds.push(performance.now() - began);
    }
  }
  const latents = await spreadOf(await generation.checkpoint());
  return { blocks: made.blocks, milliseconds: made.milliseconds, recacheMilliseconds: made.recache, latents };
}

async function spreadOf(checkpoint: Uint8Array): Promise<Film['latents']> {
  let [values, notFinite, sum, squares] = [0, 0, 0, 0];
  for (const tensor of (await readValues(checkpoint)).values()) {
    for (const value of tensor) {
      values++;
      if (!Number.isFinite(value)) notFinite++;
      else {
        sum += value;
        squares += value * value;
      }
    }
  }
  const count = Math.max(1, values - notFinite);
  return { values, notFinite, deviation: Math.sqrt(Math.max(0, squares / count - (sum / count) ** 2)) };
}
