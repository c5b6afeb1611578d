/** One loaded model package: its native model, its tokenizer and the prompts it has encoded lately. */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Generation, GenerationOptions, ModelInfo, RecacheMode, Step } from '../sessions/ports.js';
import type { Addon, LoadOptions, NativeModel, NativePrompt, NativeSession, SessionOptions } from './addon.js';
import { DomainError, invalid } from '../sessions/errors.js';
import { isDeviceFault, openingError, runningError } from './errors.js';
import type { ModelPackage } from './package.js';
import { cleanPrompt } from './text.js';
import { Tokenizer } from './tokenizer.js';

/** Prompts whose embeddings are kept. */
const PROMPTS = 64;

/** How many times the area of its native size a model may be asked for. */
const LARGEST_AREA = 4;

const NATIVE_MODE = { RECACHE: 'recache', KEEP_CACHE: 'keep', CLEAR_CACHE: 'clear' } as const;

export class Model {
  private loading: Promise<Loaded> | undefined;
  private fault: DomainError | undefined;

  constructor(
    private readonly addon: Addon,
    private readonly source: ModelPackage,
    private readonly options: Omit<LoadOptions, 'directory'>,
  ) {}

  get info(): ModelInfo {
    const { manifest, config, digest } = this.source;
    const { name, version, title, description, license } = manifest;
    const { device, precision } = this.options;
    return {
      ...{ name, version, title, description, license, digest, device, precision },
      ...config.video,
      framesPerBlock: config.sampling.framesPerBlock,
      denoisingSteps: config.sampling.denoisingSteps.length,
    };
  }

  check({ width, height }: GenerationOptions): void {
    const { video } = this.source.config;
    const area = LARGEST_AREA * video.width * video.height;
    if (width * height > area) {
      const native = `${video.width}x${video.height}`;
      throw invalid(
        'width',
        `${width}x${height} is too large for this model, which is made for ${native}; ask for at most ${LARGEST_AREA} times its area.`,
      );
    }
  }

  /** Reads the weights, once; a failed attempt may be repeated. */
  async load(): Promise<Loaded> {
    if (this.fault) throw this.fault;
    this.loading ??= this.loadNow().catch((error: unknown) => {
      this.loading = undefined;
      throw openingError(error);
    });
    return this.loading;
  }

  async open(options: GenerationOptions): Promise<Generation> {
    const loaded = await this.load();
    return this.opening(async () => this.generation(loaded, loaded.native.createSession(sessionOptions(options))));
  }

  async restore(options: GenerationOptions, checkpoint: Uint8Array, prompt: string): Promise<Generation> {
    const loaded = await this.load();
    return this.opening(async () => {
      const encoded = await loaded.prompts.encode(prompt);
      const session = await loaded.native.restoreSession(sessionOptions(options), checkpoint, encoded);
      return this.generation(loaded, session);
    });
  }

  async dispose(): Promise<void> {
    const loaded = await this.loading?.catch(() => undefined);
    this.loading = undefined;
    loaded?.native.dispose();
  }

  private async loadNow(): Promise<Loaded> {
    const { directory, config } = this.source;
    const tokenizer = Tokenizer.parse(await readFile(join(directory, 'tokenizer.json'), 'utf8'));
    const native = await this.addon.loadModel({ ...this.options, directory });
    return { native, prompts: new PromptCache(native, tokenizer, config.dit.textLen) };
  }

  private generation(loaded: Loaded, session: NativeSession): Generation {
    return new NativeGeneration(session, loaded.prompts, (error) => this.noteFault(error));
  }

  private async opening<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      this.noteFault(error);
      throw openingError(error);
    }
  }

  /** After a device fault nothing of this process can be trusted on the device any more. */
  private noteFault(error: unknown): void {
    if (!isDeviceFault(error)) return;
    this.fault = new DomainError('MODEL_UNAVAILABLE', 'The device has failed; the service has to be restarted.', {
      cause: error,
    });
  }
}

interface Loaded {
  native: NativeModel;
  prompts: PromptCache;
}

/** Text embeddings by text, the most recently used ones. */
export class PromptCache {
  private readonly encoded = new Map<string, Promise<NativePrompt>>();

  constructor(
    private readonly native: Pick<NativeModel, 'encodePrompt'>,
    private readonly tokenizer: Tokenizer,
    private readonly limit: number,
  ) {}

  encode(prompt: string): Promise<NativePrompt> {
    const text = cleanPrompt(prompt);
    const known = this.encoded.get(text) ?? this.encodeNow(text);
    this.encoded.delete(text);
    this.encoded.set(text, known);
    if (this.encoded.size > PROMPTS) this.encoded.delete(this.encoded.keys().next().value as string);
    return known;
  }

  private encodeNow(text: string): Promise<NativePrompt> {
    const encoding = this.native.encodePrompt(this.tokenizer.encode(text, this.limit));
    encoding.catch(() => this.encoded.delete(text));
    return encoding;
  }
}

class NativeGeneration implements Generation {
  constructor(
    private readonly session: NativeSession,
    private readonly prompts: PromptCache,
    private readonly onError: (error: unknown) => void,
  ) {}

  get block(): number {
    return this.session.block;
  }

  async setPrompt(text: string, mode: RecacheMode): Promise<{ milliseconds: number }> {
    return this.running(async () => this.session.setPrompt(await this.prompts.encode(text), NATIVE_MODE[mode]));
  }

  step(): Promise<Step> {
    return this.running(() => this.session.step());
  }

  abandonBlock(): void {
    this.session.abandonBlock();
  }

  checkpoint(): Uint8Array {
    return this.session.checkpoint();
  }

  dispose(): void {
    this.session.dispose();
  }

  private async running<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      this.onError(error);
      throw runningError(error);
    }
  }
}

function sessionOptions({ seed, width, height }: GenerationOptions): SessionOptions {
  return { seed, width, height, rope: 'package' };
}
