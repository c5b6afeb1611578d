import { storedTenant } from './access/principal.js';
import { blockAtOrAfter, startSecondsOf } from './blocks.js';
import { DomainError, invalid } from './errors.js';
import type { BlendKind, LoraChoice, ModelInfo, RecacheMode } from './ports.js';
import type {
  CreateSessionInput,
  ForkSessionInput,
  Pace,
  Session,
  SessionParent,
  SwitchPromptInput,
  SwitchWhen,
  TimelineInput,
  Transition,
  TransitionCurve,
  TransitionInput,
  ViewerPosition,
  Wait,
} from './session.js';

export const LIMITS = {
  promptCharacters: 2_000,
  timelineEntries: 200,
  /** Of a picture: the limits of packages, whatever their own size is. */
  sideMinimum: 16,
  sideMaximum: 4_096,
  sideMultiple: 16,
  seconds: 3_600,
  idempotencyKeyCharacters: 200,
  block: 1_000_000,
  loras: 4,
  loraWeight: 4,
  transitionChunks: 100,
  viewerCharacters: 100,
  titleCharacters: 200,
  searchCharacters: 200,
  waitSeconds: 86_400,
} as const;

/** A prompt of createSession or forkSession, at the block where it is due. */
export interface PlannedPrompt {
  prompt: string;
  mode: RecacheMode;
  transition?: Transition;
  block: number;
}

/** createSession's or forkSession's input with every default filled in. */
export interface SessionRequest {
  /** As of `Session`. */
  tenant?: string;
  model: string;
  loras?: LoraChoice[];
  seed: bigint;
  width: number;
  height: number;
  pace: Pace;
  maxSeconds?: number;
  prompts: PlannedPrompt[];
  /** Where there was no room for it. */
  wait?: Wait;
  /** Of a fork; its prompts come behind those it inherits. */
  parent?: SessionParent;
}

export interface SwitchRequest {
  prompt: string;
  mode: RecacheMode;
  transition?: Transition;
  when: SwitchWhen;
  idempotencyKey?: string;
}

export function checkCreate(
  input: CreateSessionInput,
  models: readonly ModelInfo[],
  defaults: { seed: () => bigint; maxSeconds: number },
): SessionRequest {
  const model = chooseModel(input.model, models);
  const { width, height } = checkSize(input, model);
  checkIdempotencyKey(input.idempotencyKey);
  const loras = checkLoras(input.loras ?? []);
  return {
    ...storedTenant(input.caller?.tenant),
    model: model.name,
    ...(loras.length > 0 && { loras }),
    seed: checkSeed(input.seed ?? defaults.seed()),
    width,
    height,
    pace: checkPace(input.pace),
    maxSeconds: checkDuration(input.maxSeconds, defaults.maxSeconds),
    prompts: checkTimeline(input, model),
  };
}

export function checkFork(
  input: ForkSessionInput,
  parent: Session,
  { maxSeconds: bound }: { maxSeconds: number },
): SessionRequest {
  const { model, loras = [], seed, width, height } = parent;
  checkIdempotencyKey(input.idempotencyKey);
  const chunk = checkBranch(input, parent);
  const { prompt } = input;
  const mode = checkMode('mode', input.mode);
  const transition = checkTransition('transition', input.transition, mode);
  if (transition && prompt === undefined) throw invalid('transition', 'transition needs a prompt to lead to.');
  const maxSeconds = checkDuration(input.maxSeconds, bound);
  const startSeconds = startSecondsOf(parent, chunk);
  if (maxSeconds !== undefined && maxSeconds <= startSeconds) {
    const begins = startSeconds.toFixed(2);
    throw invalid('maxSeconds', `maxSeconds must be greater than ${begins}, where the fork begins; got ${maxSeconds}.`);
  }
  return {
    ...storedTenant(parent.tenant),
    ...{ model, seed, width, height, maxSeconds },
    ...(loras.length > 0 && { loras: loras.map(({ name, weight }) => ({ name, weight })) }),
    pace: checkPace(input.pace),
    prompts:
      prompt === undefined
        ? []
        : [{ prompt: checkPrompt('prompt', prompt), mode, ...(transition && { transition }), block: chunk }],
    parent: { sessionId: parent.id, chunk },
  };
}

function checkBranch({ atChunk, atSeconds }: ForkSessionInput, parent: Session): number {
  const { chunks, seconds } = parent;
  if (chunks === 0) {
    throw invalid('sessionId', 'Nothing to fork from yet; wait for the first chunk.');
  }
  if (atSeconds !== undefined) {
    if (atChunk !== undefined) throw invalid('atSeconds', 'Give either atChunk or atSeconds, not both.');
    if (!Number.isFinite(atSeconds) || atSeconds < 0 || atSeconds > seconds) {
      throw invalid(
        'atSeconds',
        `atSeconds must be between 0 and ${seconds}, the length generated so far; got ${atSeconds}.`,
      );
    }
    return Math.min(chunks, Math.max(1, blockAtOrAfter(parent, atSeconds)));
  }
  if (atChunk === undefined) return chunks;
  if (!Number.isInteger(atChunk) || atChunk < 1 || atChunk > chunks) {
    throw invalid(
      'atChunk',
      `atChunk must be a whole number between 1 and ${chunks}, the chunks generated so far; got ${atChunk}.`,
    );
  }
  return atChunk;
}

/** How long a session may wait for room; 0 for not at all. */
export function checkMaxWait(seconds = 0): number {
  if (Number.isFinite(seconds) && seconds >= 0 && seconds <= LIMITS.waitSeconds) return seconds;
  throw invalid('maxWaitSeconds', `maxWaitSeconds must be between 0 and ${LIMITS.waitSeconds}; got ${seconds}.`);
}

export function checkViewer(viewer: string): void {
  if (viewer.length > 0 && viewer.length <= LIMITS.viewerCharacters) return;
  throw invalid('viewer', `viewer must have 1 to ${LIMITS.viewerCharacters} characters.`);
}

export function checkPosition({ viewer, seconds, aheadSeconds = 0 }: ViewerPosition): void {
  checkViewer(viewer);
  for (const [field, value] of Object.entries({ seconds, aheadSeconds })) {
    if (!Number.isFinite(value) || value < 0) throw invalid(field, `${field} must be 0 or more.`);
  }
}

export function checkSwitch(input: SwitchPromptInput, nextBlock: number): SwitchRequest {
  checkIdempotencyKey(input.idempotencyKey);
  const mode = checkMode('mode', input.mode);
  const transition = checkTransition('transition', input.transition, mode);
  return {
    prompt: checkPrompt('prompt', input.prompt),
    mode,
    ...(transition && { transition }),
    when: checkWhen(input.when ?? 'NEXT_BLOCK', nextBlock),
    idempotencyKey: input.idempotencyKey,
  };
}

function chooseModel(name: string | undefined, models: readonly ModelInfo[]): ModelInfo {
  const model = name === undefined ? models[0] : models.find((candidate) => candidate.name === name);
  if (model) return model;
  if (name === undefined) {
    throw new DomainError(
      'MODEL_UNAVAILABLE',
      'No model package is loaded; install one and restart the service (see `longlive doctor`).',
    );
  }
  const known = models.map((candidate) => candidate.name).join(', ') || 'none';
  throw new DomainError('MODEL_UNAVAILABLE', `There is no model "${name.slice(0, 64)}"; available: ${known}.`, {
    field: 'model',
  });
}

/** Whether there are such adapters and whether they fit is for the engine to say. */
function checkLoras(loras: NonNullable<CreateSessionInput['loras']>): LoraChoice[] {
  if (loras.length > LIMITS.loras)
    throw invalid('loras', `At most ${LIMITS.loras} LoRAs are allowed; got ${loras.length}.`);
  return loras.map(({ name, weight = 1 }, index) => {
    const field = `loras[${index}]`;
    if (typeof name !== 'string' || name === '') throw invalid(`${field}.name`, `${field}.name must not be empty.`);
    if (loras.findIndex((other) => other.name === name) !== index) {
      throw invalid(`${field}.name`, `LoRA "${name.slice(0, 64)}" is named twice; give it one weight.`);
    }
    // Every weight is a merged network of its own, so they come in steps.
    const steps = Math.round(weight * 100);
    if (!(Math.abs(weight) <= LIMITS.loraWeight) || steps / 100 !== weight) {
      throw invalid(
        `${field}.weight`,
        `${field}.weight must be from -${LIMITS.loraWeight} to ${LIMITS.loraWeight} with at most two decimals; got ${weight}.`,
      );
    }
    return { name, weight };
  });
}

function checkSize(input: CreateSessionInput, model: ModelInfo): { width: number; height: number } {
  return {
    width: checkSide('width', input.width ?? model.width),
    height: checkSide('height', input.height ?? model.height),
  };
}

function checkSide(field: string, value: number): number {
  const { sideMinimum, sideMaximum, sideMultiple } = LIMITS;
  if (!Number.isInteger(value) || value < sideMinimum || value > sideMaximum || value % sideMultiple !== 0) {
    throw invalid(
      field,
      `${field} must be a multiple of ${sideMultiple} between ${sideMinimum} and ${sideMaximum}; got ${value}.`,
    );
  }
  return value;
}

function checkSeed(seed: bigint): bigint {
  if (typeof seed !== 'bigint' || seed < 0n || seed >= 1n << 64n) {
    throw invalid('seed', `seed must be a whole number between 0 and 2^64-1; got ${String(seed)}.`);
  }
  return seed;
}

function checkDuration(seconds: number | undefined, bound: number): number | undefined {
  const limit = bound > 0 ? Math.min(bound, LIMITS.seconds) : LIMITS.seconds;
  if (seconds === undefined) return bound > 0 ? limit : undefined;
  if (!Number.isFinite(seconds) || seconds <= 0 || seconds > limit) {
    throw invalid('maxSeconds', `maxSeconds must be greater than 0 and at most ${limit}; got ${seconds}.`);
  }
  return seconds;
}

function checkTimeline(input: CreateSessionInput, model: ModelInfo): PlannedPrompt[] {
  if ((input.prompt === undefined) === (input.timeline === undefined)) {
    throw invalid('prompt', 'Give either a prompt or a timeline.');
  }
  if (input.timeline === undefined) {
    return [{ prompt: checkPrompt('prompt', input.prompt ?? ''), mode: 'RECACHE', block: 0 }];
  }
  if (input.timeline.length === 0 || input.timeline.length > LIMITS.timelineEntries) {
    throw invalid(
      'timeline',
      `timeline must have 1 to ${LIMITS.timelineEntries} entries; got ${input.timeline.length}.`,
    );
  }
  const prompts = input.timeline.map((entry, index) => checkEntry(entry, index, model));
  prompts.forEach((entry, index) => checkOrder(prompts[index - 1], entry, index, model));
  return prompts;
}

function checkEntry(entry: TimelineInput, index: number, model: ModelInfo): PlannedPrompt {
  const field = `timeline[${index}]`;
  if (entry.atSeconds !== undefined && entry.block !== undefined) {
    throw invalid(field, `${field}: give either atSeconds or block, not both.`);
  }
  const mode = checkMode(`${field}.mode`, entry.mode);
  const transition = checkTransition(`${field}.transition`, entry.transition, mode);
  if (transition && index === 0) {
    throw invalid(`${field}.transition`, `${field} cannot have a transition: there is no prompt before it.`);
  }
  return {
    prompt: checkPrompt(`${field}.prompt`, entry.prompt),
    mode,
    ...(transition && { transition }),
    block: entryBlock(entry, index, model),
  };
}

function entryBlock(entry: TimelineInput, index: number, model: ModelInfo): number {
  const field = `timeline[${index}]`;
  if (entry.block !== undefined) return checkBlock(`${field}.block`, entry.block);
  const seconds = entry.atSeconds ?? (index === 0 ? 0 : undefined);
  if (seconds === undefined) throw invalid(field, `${field} needs atSeconds or block, to say where it takes effect.`);
  if (!Number.isFinite(seconds) || seconds < 0 || seconds > LIMITS.seconds) {
    throw invalid(`${field}.atSeconds`, `${field}.atSeconds must be between 0 and ${LIMITS.seconds}; got ${seconds}.`);
  }
  return blockAtOrAfter(model, seconds);
}

function checkOrder(before: PlannedPrompt | undefined, entry: PlannedPrompt, index: number, model: ModelInfo): void {
  const field = `timeline[${index}]`;
  if (!before) {
    if (entry.block !== 0) throw invalid(field, 'timeline[0] must start at 0, because the video needs a first prompt.');
  } else if (entry.block <= before.block) {
    const starts = startSecondsOf(model, before.block + 1).toFixed(2);
    throw invalid(
      field,
      `${field} must come at least one block after the entry before it, at ${starts} seconds or later.`,
    );
  }
}

export function checkPrompt(field: string, prompt: string): string {
  if (typeof prompt !== 'string' || prompt.trim() === '') throw invalid(field, `${field} must not be empty.`);
  const length = [...prompt].length;
  if (length > LIMITS.promptCharacters) {
    throw invalid(field, `${field} has ${length} characters; the limit is ${LIMITS.promptCharacters}.`);
  }
  return prompt.trim();
}

function checkPace(pace: Pace = 'REALTIME'): Pace {
  return checkOneOf('pace', pace, ['REALTIME', 'FASTEST']);
}

export function checkMode(field: string, mode: RecacheMode = 'RECACHE'): RecacheMode {
  return checkOneOf(field, mode, ['RECACHE', 'KEEP_CACHE', 'CLEAR_CACHE']);
}

/** One chunk is a switch at once, which has none. */
export function checkTransition(
  field: string,
  input: TransitionInput | undefined,
  mode: RecacheMode,
): Transition | undefined {
  if (input === undefined) return undefined;
  const kind = checkOneOf<BlendKind>(`${field}.kind`, input.kind ?? 'LINEAR', ['LINEAR', 'SLERP']);
  const curve = checkOneOf<TransitionCurve>(`${field}.curve`, input.curve ?? 'EVEN', ['EVEN', 'SCOPE']);
  const { chunks } = input;
  const most = LIMITS.transitionChunks;
  // Of a single one, that schedule knows the old prompt only.
  const least = curve === 'SCOPE' ? 2 : 1;
  if (!Number.isInteger(chunks) || chunks < least || chunks > most) {
    throw invalid(
      `${field}.chunks`,
      `${field}.chunks must be a whole number between ${least} and ${most}; got ${chunks}.`,
    );
  }
  if (mode === 'CLEAR_CACHE' && chunks > 1) {
    throw invalid(field, `${field} cannot clear the cache: use mode RECACHE or KEEP_CACHE, or no transition.`);
  }
  return chunks === 1 ? undefined : { kind, chunks, curve };
}

/** The same transition as is given, once it has its defaults. */
export function sameTransition(transition: Transition | undefined, input: TransitionInput | undefined): boolean {
  if (input === undefined || input.chunks === 1) return transition === undefined;
  const { kind = 'LINEAR', curve = 'EVEN', chunks } = input;
  return transition?.kind === kind && transition.curve === curve && transition.chunks === chunks;
}

export function checkWhen(when: SwitchWhen, nextBlock: number): SwitchWhen {
  if (typeof when === 'string')
    return checkOneOf<'NEXT_BLOCK' | 'IMMEDIATE'>('when', when, ['NEXT_BLOCK', 'IMMEDIATE']);
  const block = checkBlock('when.block', when.block);
  if (block < nextBlock) {
    throw invalid('when.block', `Block ${block} has already begun; the earliest possible block is ${nextBlock}.`);
  }
  return { block };
}

export function checkBlock(field: string, block: number): number {
  if (!Number.isInteger(block) || block < 0 || block > LIMITS.block) {
    throw invalid(field, `${field} must be a whole number between 0 and ${LIMITS.block}; got ${block}.`);
  }
  return block;
}

function checkOneOf<T extends string>(field: string, value: T, allowed: readonly T[]): T {
  if (!allowed.includes(value))
    throw invalid(field, `${field} must be one of ${allowed.join(', ')}; got ${String(value)}.`);
  return value;
}

function checkIdempotencyKey(key: string | undefined): void {
  if (key === undefined) return;
  if (key === '' || key.length > LIMITS.idempotencyKeyCharacters) {
    throw invalid('idempotencyKey', `idempotencyKey must have 1 to ${LIMITS.idempotencyKeyCharacters} characters.`);
  }
}
