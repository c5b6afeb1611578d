import { createHash } from 'node:crypto';
import {
  type Clock,
  type Conditioning,
  DomainError,
  type Engine,
  type Generation,
  type GenerationOptions,
  invalid,
  type ModelInfo,
  type RecacheMode,
  type Step,
  UnusableCheckpoint,
} from '../../src/sessions/index.js';

export const FAKE_MODEL: ModelInfo = {
  name: 'fake',
  version: '1.0.0',
  title: 'Fake',
  description: 'Counts instead of dreaming.',
  license: 'Apache-2.0',
  width: 64,
  height: 64,
  fps: 16,
  framesPerBlock: 3,
  denoisingSteps: 4,
  device: 'cpu',
  precision: 'fp32',
  storedPrecision: 'fp32',
  digest: 'd1',
  bytes: 1_000,
  state: 'LOADED',
  loras: [],
  longestSeconds: null,
};

export interface FakeTimes {
  step: number;
  recache: number;
  /** Of a prompt that was not encoded before; beside the device's other work. */
  encode?: number;
}

/**
 * Deterministic stand-in: a block's "picture" is a digest of everything that may influence it (seed, block, every prompt
 * with the block it was set at), so that equal bytes mean equal history. Takes the time it is told to.
 */
export class FakeEngine implements Engine {
  readonly opened: string[] = [];
  /** Blocks of the checkpoints that were gone on from. */
  readonly restoredAt: number[] = [];
  readonly preloaded: string[] = [];
  /** Of every checkpoint, at least. */
  checkpointBytes = 0;
  fault: string | undefined;
  /** Words that the model knows; says nothing of any when absent. */
  taught: readonly string[] | undefined;
  failToPrepare: (() => Error | undefined) | undefined;
  active = 0;
  /** Calls under way on the device; more than one is the scheduler's mistake. */
  concurrent = 0;
  mostConcurrent = 0;
  /** Models that are found when somebody looks. */
  readonly arriving: ModelInfo[] = [];
  /** Blocks from a beginning, or a cleared cache, after which positions end. */
  endBlocks: number | undefined;
  failAt: ((block: number) => Error | undefined) | undefined;
  /** When the encoding of each prompt began. */
  readonly encodings: { prompt: string; at: number }[] = [];
  /** What was to be drawn from which block on. */
  readonly told: { block: number; text: string; mode: RecacheMode }[] = [];
  failToEncode: ((prompt: string) => Error | undefined) | undefined;
  private readonly encoded = new Map<string, Promise<void>>();

  constructor(
    private readonly clock: Clock,
    readonly times: FakeTimes = { step: 50, recache: 30 },
    private readonly infos: ModelInfo[] = [FAKE_MODEL],
  ) {}

  models(): ModelInfo[] {
    return this.infos;
  }

  async refresh(): Promise<void> {
    this.infos.push(...this.arriving.splice(0));
  }

  unknownWords(_model: string, { loras = [] }: Pick<GenerationOptions, 'loras'>, prompt: string): string[] | undefined {
    const { taught } = this;
    return taught && loras.length === 0 ? prompt.split(' ').filter((word) => !taught.includes(word)) : undefined;
  }

  check(model: string, { width, height, loras = [] }: GenerationOptions): void {
    if (this.fault !== undefined) throw new DomainError('MODEL_UNAVAILABLE', this.fault);
    const known = this.infos.find(({ name }) => name === model)?.loras ?? [];
    const unknown = loras.findIndex(({ name }) => !known.some((lora) => lora.name === name));
    if (unknown >= 0) throw invalid(`loras[${unknown}].name`, 'There is no such LoRA.');
    if (width * height > 512 * 512) throw invalid('width', 'The fake model makes at most 512x512 pixels.');
  }

  async preload(model: string, _options: GenerationOptions, prompt?: string): Promise<void> {
    this.preloaded.push(model);
    const error = this.failToPrepare?.();
    if (error) throw error;
    if (prompt !== undefined) await this.encode(prompt).catch(() => undefined);
  }

  async open(_model: string, options: GenerationOptions): Promise<Generation> {
    this.opened.push('open');
    return new FakeGeneration(this, options, { block: 0, history: historyOf(options), prompt: '' });
  }

  async restore(
    _model: string,
    options: GenerationOptions,
    checkpoint: Uint8Array,
    conditioning: Conditioning,
  ): Promise<Generation> {
    await this.encode(conditioning.prompt);
    const prompt = drawnFor(conditioning);
    const state = parseCheckpoint(checkpoint);
    this.opened.push('restore');
    this.restoredAt.push(state.block);
    return new FakeGeneration(this, options, { ...state, history: `${state.history} restored`, prompt });
  }

  /** Each prompt once, but for those that fail. */
  encode(prompt: string): Promise<void> {
    const known = this.encoded.get(prompt) ?? this.encodeNow(prompt);
    this.encoded.set(prompt, known);
    known.catch(() => this.encoded.delete(prompt));
    return known;
  }

  private async encodeNow(prompt: string): Promise<void> {
    this.encodings.push({ prompt, at: this.clock.now() });
    if (this.times.encode) await this.clock.sleep(this.times.encode);
    const error = this.failToEncode?.(prompt);
    if (error) throw error;
  }

  async work(milliseconds: number): Promise<number> {
    this.concurrent++;
    this.mostConcurrent = Math.max(this.mostConcurrent, this.concurrent);
    await this.clock.sleep(milliseconds);
    this.concurrent--;
    return milliseconds;
  }
}

function historyOf({ seed, loras = [] }: GenerationOptions): string {
  return [`seed ${seed}`, ...loras.map(({ name, weight }) => `${name}:${weight}`)].join(' ');
}

/** The prompt, or `a > 0.25 b`: a quarter of the way from a to b. */
function drawnFor({ prompt, blends = [] }: Conditioning): string {
  return [
    prompt,
    ...blends.map(({ prompt: to, kind, share }) => `${share} ${kind === 'SLERP' ? 'slerp ' : ''}${to}`),
  ].join(' > ');
}

function parseCheckpoint(bytes: Uint8Array): FakeState {
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as FakeState;
  } catch (error) {
    throw new UnusableCheckpoint('it is none', error);
  }
}

interface FakeState {
  block: number;
  history: string;
  prompt: string;
  /** Where positions began. */
  origin?: number;
}

class FakeGeneration implements Generation {
  private phase = 0;
  private disposed = false;

  constructor(
    private readonly engine: FakeEngine,
    private readonly options: GenerationOptions,
    private state: FakeState,
  ) {
    engine.active++;
  }

  get block(): number {
    return this.state.block;
  }

  get ended(): boolean {
    const { endBlocks } = this.engine;
    return endBlocks !== undefined && this.state.block - (this.state.origin ?? 0) >= endBlocks;
  }

  async encodePrompt({ prompt, blends = [] }: Conditioning): Promise<void> {
    for (const text of [prompt, ...blends.map((blend) => blend.prompt)]) await this.engine.encode(text);
  }

  async setPrompt(conditioning: Conditioning, mode: RecacheMode): Promise<{ milliseconds: number }> {
    this.mustBeBetweenBlocks();
    await this.encodePrompt(conditioning);
    const text = drawnFor(conditioning);
    this.engine.told.push({ block: this.state.block, text, mode });
    const milliseconds = await this.engine.work(this.engine.times.recache);
    const history = digest(`${this.state.history}|${this.state.block}:${mode}:${text}`);
    const cleared = mode === 'CLEAR_CACHE' && { origin: this.state.block };
    this.state = { ...this.state, prompt: text, history, ...cleared };
    return { milliseconds };
  }

  async step(): Promise<Step> {
    if (this.disposed) throw new Error('step after dispose');
    if (this.state.prompt === '') throw new Error('step before setPrompt');
    const failure = this.engine.failAt?.(this.state.block);
    if (failure) throw failure;
    if (this.phase === 0 && this.ended) throw new Error('absolute positions end here');
    const milliseconds = await this.engine.work(this.engine.times.step);
    const { block } = this.state;
    if (this.phase < FAKE_MODEL.denoisingSteps) return { kind: 'denoise', block, step: this.phase++, milliseconds };
    if (this.phase++ === FAKE_MODEL.denoisingSteps)
      return { kind: 'frames', block, milliseconds, frames: this.frames() };
    this.phase = 0;
    this.state = { ...this.state, block: block + 1 };
    return { kind: 'context', block, milliseconds };
  }

  async abandonBlock(): Promise<void> {
    if (this.phase > FAKE_MODEL.denoisingSteps) throw new Error('abandonBlock after its frames were returned');
    this.phase = 0;
  }

  async checkpoint(): Promise<Uint8Array> {
    this.mustBeBetweenBlocks();
    return new TextEncoder().encode(JSON.stringify(this.state).padEnd(this.engine.checkpointBytes));
  }

  dispose(): void {
    if (!this.disposed) this.engine.active--;
    this.disposed = true;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private frames() {
    const { block, prompt, history } = this.state;
    const { width, height } = this.options;
    const picture = new TextEncoder().encode(JSON.stringify({ block, prompt, picture: digest(`${history}#${block}`) }));
    const firstFrame = block === 0 ? 0 : 12 * block - 3;
    return { block, firstFrame, count: block === 0 ? 9 : 12, width, height, i420: picture };
  }

  private mustBeBetweenBlocks(): void {
    if (this.phase !== 0) throw new Error('not between blocks');
  }
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}
