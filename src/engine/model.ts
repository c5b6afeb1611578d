/** One model package, which is loaded when it is needed: its native model, its tokenizer and the prompts it has encoded lately. */

import { LRUCache } from 'lru-cache';
import type {
  Conditioning,
  Generation,
  GenerationOptions,
  LoraInfo,
  ModelInfo,
  ModelState,
  RecacheMode,
  Step,
} from '../sessions/ports.js';
import type {
  Addon,
  LoadOptions,
  NativeModel,
  NativePrompt,
  NativeSession,
  Precision,
  SessionOptions,
} from './addon.js';
import { DomainError, invalid } from '../sessions/errors.js';
import { arithmeticOf, isEightBit } from './arithmetic.js';
import { isDeviceFault, isUnsupported, openingError, restoringError, runningError } from './errors.js';
import type { Pooled } from './model-pool.js';
import { bytesOf, type HeldPackage } from '../packages/package.js';
import type { PackageSource } from '../packages/sources.js';
import { endSeconds } from '../import/sampling.js';
import { cleanPrompt, simplified } from './text.js';
import type { Tokenizer } from './tokenizer.js';
import { readTokenizer } from './tokenizer-file.js';
import { Vocabulary } from './vocabulary.js';

/** Prompts whose embeddings are kept. */
const PROMPTS = 64;

/** How many times the area of its native size a model may be asked for. */
const LARGEST_AREA = 4;

const NATIVE_BLEND = { LINEAR: 'linear', SLERP: 'slerp' } as const;

const NATIVE_MODE = { RECACHE: 'recache', KEEP_CACHE: 'keep', CLEAR_CACHE: 'clear' } as const;

/** What is logged, once, and what `longlive doctor` says. */
export const REFUSES_RECORDINGS =
  'The GPU driver refuses to record work (CUDA graphs), so it is launched call by call, which is slower: pictures are the same. Update the driver, or run without tools that watch CUDA calls.';

/** What the models of one engine share. */
export class DeviceHealth {
  fault: DomainError | undefined;
  /** Pieces of work, of all models so far. */
  refusedRecordings = 0;

  /** Adds what a model counts beyond `known`, and says so the first time; what it counts now. */
  countRefusals(counted: number, known: number, warn: (message: string) => void): number {
    if (counted <= known) return known;
    if (this.refusedRecordings === 0) warn(REFUSES_RECORDINGS);
    this.refusedRecordings += counted - known;
    return counted;
  }

  /** After a device fault nothing of this process can be trusted on the device any more. */
  note(error: unknown): void {
    if (!isDeviceFault(error)) return;
    this.fault = new DomainError('MODEL_UNAVAILABLE', 'The device has failed; restart the service.', {
      cause: error,
    });
  }

  check(): void {
    if (this.fault) throw this.fault;
  }
}

export type ModelOptions = Omit<LoadOptions, 'directory' | 'precision'> & { precision: Precision | 'auto' };

/** Positions of frames in a video: as the package says, or these. */
export type Rope = SessionOptions['rope'];

export interface ModelSurroundings {
  addon: Addon;
  load: ModelOptions;
  health: DeviceHealth;
  /** Instead of what packages say. */
  rope: Rope;
  /** Told of what is not as one might expect. */
  warn: (message: string) => void;
}

export class Model implements Pooled {
  private loading: Promise<Loaded> | undefined;
  private current: Loaded | undefined;
  private measuredBytes: number | undefined;
  private releasing: Promise<void> | undefined;
  /** What it is calculated with where the device lacks what was chosen. */
  private fallback: Precision | undefined;
  private readonly vocabulary: Vocabulary | undefined;
  private readonly addon: Addon;
  private readonly options: ModelOptions;
  private readonly health: DeviceHealth;
  private readonly rope: Rope;
  private readonly warn: (message: string) => void;

  constructor(
    readonly source: PackageSource,
    { addon, load, health, rope, warn }: ModelSurroundings,
    /** Adapters that may be merged into it. */
    private readonly loras: readonly LoraInfo[] = [],
  ) {
    const { vocabulary } = source.manifest.prompts ?? {};
    this.vocabulary = vocabulary && new Vocabulary(vocabulary);
    this.addon = addon;
    this.options = load;
    this.health = health;
    this.rope = rope;
    this.warn = warn;
  }

  /** What it is calculated with. */
  get precision(): Precision {
    const { precision, device } = this.options;
    return this.fallback ?? arithmeticOf(precision, this.source.storedPrecision, device);
  }

  get name(): string {
    return this.source.name;
  }

  get loaded(): boolean {
    return this.current !== undefined;
  }

  get state(): ModelState {
    if (this.loaded) return 'LOADED';
    return this.loading ? 'LOADING' : 'AVAILABLE';
  }

  /** Memory on the device, once it has been loaded; until then the size of the files that will be read. */
  get bytes(): number {
    if (this.measuredBytes !== undefined) return this.measuredBytes;
    const { manifest } = this.source;
    const unused = this.options.decoder === 'tiny' ? 'vae.safetensors' : 'tiny_vae.safetensors';
    return bytesOf(manifest) - (manifest.files[unused]?.bytes ?? 0);
  }

  get info(): ModelInfo {
    const { name, manifest, config, digest, storedPrecision } = this.source;
    const { version, title, description, license, prompts } = manifest;
    const { device } = this.options;
    const { precision, state, loras } = this;
    return {
      ...{ name, version, title, description, license, digest, device, precision, storedPrecision, state, loras },
      ...config.video,
      framesPerBlock: config.sampling.framesPerBlock,
      denoisingSteps: config.sampling.denoisingSteps.length,
      bytes: bytesOf(manifest),
      longestSeconds: longestSeconds(config, this.rope),
      ...(prompts && { guide: { about: prompts.about, examples: prompts.examples } }),
    };
  }

  check({ width, height }: GenerationOptions): void {
    this.health.check();
    const { video } = this.source.config;
    const area = LARGEST_AREA * video.width * video.height;
    if (width * height > area) {
      const native = `${video.width}x${video.height}`;
      throw invalid(
        'width',
        `${width}x${height} is too large for this model (native size ${native}); the limit is ${LARGEST_AREA} times its area.`,
      );
    }
  }

  /** Fetches and reads the weights, once; a failed attempt may be repeated. */
  async load(): Promise<void> {
    await this.loadOnce();
  }

  /** See `Engine.unknownWords`. Of the text without its repairs, which would take their time for each of many prompts. */
  unknownWords(prompt: string): string[] | undefined {
    return this.vocabulary?.unknown(simplified(prompt));
  }

  /** Keeps the embeddings for whoever needs them next. */
  async encode(prompt: string): Promise<void> {
    const { prompts } = await this.loadOnce();
    await prompts.encode(prompt);
  }

  async open(options: GenerationOptions): Promise<Generation> {
    const loaded = await this.loadOnce();
    return this.opening(async () =>
      this.generation(loaded, await loaded.native.createSession(this.sessionOptions(options))),
    );
  }

  async restore(options: GenerationOptions, checkpoint: Uint8Array, conditioning: Conditioning): Promise<Generation> {
    const loaded = await this.loadOnce();
    const encoded = await this.opening(() => loaded.prompts.blended(conditioning));
    const session = () => loaded.native.restoreSession(this.sessionOptions(options), checkpoint, encoded);
    return this.generation(loaded, await this.opening(session, restoringError));
  }

  private sessionOptions({ seed, width, height }: GenerationOptions): SessionOptions {
    return { seed, width, height, rope: this.rope };
  }

  evict(): void {
    const loaded = this.current;
    this.current = this.loading = undefined;
    loaded?.native.dispose();
    this.releasing = loaded?.held.release().catch(() => undefined);
  }

  async dispose(): Promise<void> {
    await this.loading?.catch(() => undefined);
    this.evict();
    await this.releasing;
  }

  private loadOnce(): Promise<Loaded> {
    this.loading ??= this.loadNow().catch((error: unknown) => {
      this.loading = undefined;
      throw error;
    });
    return this.loading;
  }

  private async loadNow(): Promise<Loaded> {
    this.health.check();
    const held = await this.source.hold();
    try {
      const { directory } = held;
      const tokenizer = await readTokenizer(this.source.name, directory);
      const native = await this.loadNative(directory);
      this.tellPrecision();
      this.measuredBytes = native.weightBytes || undefined;
      const prompts = new PromptCache(native, tokenizer, this.source.config.dit.textLen);
      this.current = { held, native, prompts, refusals: 0 };
      return this.current;
    } catch (error) {
      this.health.note(error);
      await held.release();
      throw openingError(error);
    }
  }

  private async loadNative(directory: string): Promise<NativeModel> {
    const { options, precision } = this;
    const load = (chosen: Precision) => this.addon.loadModel({ ...options, precision: chosen, directory });
    try {
      return await load(precision);
    } catch (error) {
      if (options.precision !== 'auto' || !isEightBit(precision) || !isUnsupported(error)) throw error;
      const native = await load('bf16');
      this.fallback = 'bf16';
      return native;
    }
  }

  private tellPrecision(): void {
    const { storedPrecision: stored } = this.source;
    if (this.options.precision !== 'auto' || !isEightBit(stored) || stored === this.precision) return;
    this.warn(
      `Model "${this.name}" is stored in ${stored}, which device ${this.options.device} does not support; it runs in ${this.precision}.`,
    );
  }

  private generation(loaded: Loaded, session: NativeSession): Generation {
    const done = () => this.countRefusals(loaded);
    return new NativeGeneration(session, loaded.prompts, { failed: (error) => this.health.note(error), done });
  }

  private countRefusals(loaded: Loaded): void {
    const { refusedRecordings } = loaded.native;
    loaded.refusals = this.health.countRefusals(refusedRecordings, loaded.refusals, this.warn);
  }

  private async opening<T>(work: () => Promise<T>, meaning = openingError): Promise<T> {
    try {
      this.health.check();
      return await work();
    } catch (error) {
      this.health.note(error);
      throw error instanceof DomainError ? error : meaning(error);
    }
  }
}

interface Loaded {
  held: HeldPackage;
  native: NativeModel;
  prompts: PromptCache;
  /** Refused recordings that are counted already. */
  refusals: number;
}

/** Text embeddings by text, the most recently used ones. */
export class PromptCache {
  private readonly encoded = new LRUCache<string, Promise<NativePrompt>>({ max: PROMPTS });

  constructor(
    private readonly native: Pick<NativeModel, 'encodePrompt' | 'blendPrompts'>,
    private readonly tokenizer: Tokenizer,
    private readonly limit: number,
  ) {}

  encode(prompt: string): Promise<NativePrompt> {
    const text = cleanPrompt(prompt);
    return this.encoded.get(text) ?? this.encodeNow(text);
  }

  async blended({ prompt, blends = [] }: Conditioning): Promise<NativePrompt> {
    let encoded = await this.encode(prompt);
    for (const blend of blends) {
      const to = await this.encode(blend.prompt);
      encoded = await this.native.blendPrompts(encoded, to, blend.share, NATIVE_BLEND[blend.kind]);
    }
    return encoded;
  }

  private encodeNow(text: string): Promise<NativePrompt> {
    const encoding = this.native.encodePrompt(this.tokenizer.encode(text, this.limit));
    this.encoded.set(text, encoding);
    encoding.catch(() => this.encoded.delete(text));
    return encoding;
  }
}

class NativeGeneration implements Generation {
  constructor(
    private readonly session: NativeSession,
    private readonly prompts: PromptCache,
    private readonly told: { failed: (error: unknown) => void; done: () => void },
  ) {}

  get block(): number {
    return this.session.block;
  }

  get ended(): boolean {
    return this.session.ended;
  }

  async encodePrompt({ prompt, blends = [] }: Conditioning): Promise<void> {
    for (const text of [prompt, ...blends.map((blend) => blend.prompt)]) {
      await this.running(() => this.prompts.encode(text));
    }
  }

  async setPrompt(conditioning: Conditioning, mode: RecacheMode): Promise<{ milliseconds: number }> {
    return this.running(async () => {
      const encoded = await this.prompts.blended(conditioning);
      return this.session.setPrompt(encoded, NATIVE_MODE[mode]);
    });
  }

  step(): Promise<Step> {
    return this.running(() => this.session.step());
  }

  abandonBlock(): Promise<void> {
    return this.running(() => this.session.abandonBlock());
  }

  checkpoint(): Promise<Uint8Array> {
    return this.running(() => this.session.checkpoint());
  }

  dispose(): void {
    this.session.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private async running<T>(work: () => Promise<T>): Promise<T> {
    try {
      const result = await work();
      this.told.done();
      return result;
    } catch (error) {
      this.told.failed(error);
      throw runningError(error);
    }
  }
}

/** Where absolute positions end; null for ever, or where a package does not say. */
export function longestSeconds(config: PackageSource['config'], rope: Rope): number | null {
  const { dit, sampling, video } = config;
  const used = rope === 'package' ? sampling.rope : rope;
  if (used !== 'absolute' || dit.ropeTableLength === undefined) return null;
  const { ropeTableLength } = dit;
  return endSeconds({ dit: { ropeTableLength }, sampling: { ...sampling, rope: used }, video });
}
