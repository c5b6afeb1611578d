/** How fast a device is with a model, tried before anybody asks for a session. */

import { blockSeconds } from '../blocks.js';
import type { Clock, Engine, Generation, ModelInfo } from '../ports.js';
import type { Context } from './context.js';
import type { Standing } from './standing.js';

export interface Rehearsal {
  model: ModelInfo;
  /** Seconds of video that the device makes in a second for one session at the model's own size. */
  speed: number;
  /** What a block takes of the device; what it takes at least where the time did not suffice for one, and `speed` is at most. */
  blockMilliseconds: number;
  complete: boolean;
}

export interface RehearsalOptions {
  engine: Engine;
  clock: Clock;
  /** Seconds after which no other step is begun. */
  limitSeconds: number;
  /** Runs a step when it is its turn on the device; at once when absent. */
  turn?: <T>(work: () => Promise<T>) => Promise<T>;
  /** No step is begun any more once it is true: somebody else measures, or the server ends. */
  isNeedless?: () => boolean;
}

const PROMPT = 'A landscape.';
/** The first one warms everything up, and what is looked back at grows for some more. */
const BLOCKS = 6;

/** `undefined` when it became needless. Rejects with what the engine throws. */
export async function rehearse(model: ModelInfo, options: RehearsalOptions): Promise<Rehearsal | undefined> {
  const { engine, clock, turn = (work) => work() } = options;
  const { name, width, height } = model;
  const size = { seed: 0n, width, height };
  await engine.preload(name, size);
  using generation = await turn(() => engine.open(name, size));
  const end = clock.monotonic() + 1_000 * options.limitSeconds;
  await generation.encodePrompt({ prompt: PROMPT });
  await turn(() => generation.setPrompt({ prompt: PROMPT }, 'RECACHE'));
  return await measure(model, generation, end, { ...options, turn });
}

async function measure(
  model: ModelInfo,
  generation: Generation,
  end: number,
  { clock, turn, isNeedless = () => false }: RehearsalOptions & Required<Pick<RehearsalOptions, 'turn'>>,
): Promise<Rehearsal | undefined> {
  let [blocks, before, current] = [0, 0, 0];
  do {
    if (isNeedless()) return undefined;
    const step = await turn(() => generation.step());
    current += step.milliseconds;
    if (step.kind === 'context') [blocks, before, current] = [blocks + 1, current, 0];
  } while (blocks < BLOCKS && clock.monotonic() < end);
  const blockMilliseconds = blocks > 0 ? before : current;
  return { model, blockMilliseconds, complete: blocks > 0, speed: (1_000 * blockSeconds(model)) / blockMilliseconds };
}

/** The default model at this server, unless it generates nothing or a session has measured meanwhile: those go first. */
export async function rehearseHere(
  { engine, clock, capacity }: Context,
  standing: Standing,
  limitSeconds: number,
): Promise<Rehearsal | undefined> {
  const [model] = standing.hosts ? engine.models() : [];
  if (!model || limitSeconds <= 0) return undefined;
  const measured = { ...model, modelDigest: model.digest };
  const executor = capacity.executor(measured);
  const isNeedless = () => standing.closing || capacity.hasMeasured(model.device);
  const turn = <T>(work: () => Promise<T>) => executor.turn(Number.MAX_VALUE, work);
  const rehearsal = await rehearse(model, { engine, clock, limitSeconds, turn, isNeedless });
  if (rehearsal && !isNeedless()) capacity.observe(measured, rehearsal.blockMilliseconds);
  return rehearsal;
}
