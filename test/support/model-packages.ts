import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type {
  Addon,
  LoadOptions,
  NativeModel,
  NativePrompt,
  NativeSession,
  SessionOptions,
  Precision,
} from '../../src/engine/addon.js';

const TOKENIZER = new URL('../unit/engine/fixtures/tokenizer.json', import.meta.url);

export interface PackageOptions {
  /** Beside, or instead of, the usual ones. */
  files?: Record<string, string | Uint8Array>;
  change?: (manifest: Record<string, unknown>) => void;
}

/** A model package that only a fake core can load. */
export function writePackage(root: string, name: string, { files = {}, change }: PackageOptions = {}): string {
  const directory = join(root, name);
  const contents: Record<string, string | Uint8Array> = {
    'config.json': JSON.stringify({
      dit: { textLen: 16 },
      sampling: { framesPerBlock: 3, denoisingSteps: [1000, 750, 500, 250] },
      video: { width: 192, height: 112, fps: 16 },
    }),
    'dit.safetensors': 'd',
    'text_encoder.safetensors': 't',
    'vae.safetensors': 'v',
    'tokenizer.json': readFileSync(TOKENIZER, 'utf8'),
    ...files,
  };
  mkdirSync(directory, { recursive: true });
  for (const [file, content] of Object.entries(contents)) writeFileSync(join(directory, file), content);
  const manifest = {
    formatVersion: 1,
    name,
    version: '1.0.0',
    title: name,
    description: '',
    license: 'Apache-2.0',
    createdAt: '2026-11-23T00:00:00Z',
    files: Object.fromEntries(Object.entries(contents).map(([file, content]) => [file, describeFile(content)])),
  };
  change?.(manifest);
  writeFileSync(join(directory, 'manifest.json'), JSON.stringify(manifest));
  return directory;
}

export function describeFile(content: string | Uint8Array): { bytes: number; sha256: string } {
  return { bytes: Buffer.byteLength(content), sha256: createHash('sha256').update(content).digest('hex') };
}

/** A safetensors file with F32 tensors. */
export function safeTensors(tensors: Record<string, { shape: number[]; values: readonly number[] }>): Buffer {
  let at = 0;
  const header = Object.entries(tensors).map(([name, { shape, values }]) => {
    const from = at;
    at += 4 * values.length;
    return [name, { dtype: 'F32', shape, data_offsets: [from, at] }];
  });
  const json = Buffer.from(JSON.stringify(Object.fromEntries(header)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const body = Object.values(tensors).map(({ values }) => Buffer.from(Float32Array.from(values).buffer));
  return Buffer.concat([length, json, ...body]);
}

/** A safetensors file with one matrix of a type, of which only the header is looked at; that has some bytes more if asked. */
export function storedAs(dtype: string, more = 0): Buffer {
  const matrix = { dtype, shape: [4, 4], data_offsets: [0, 0] };
  const json = Buffer.from(JSON.stringify({ __metadata__: { format: 'pt', more: 'x'.repeat(more) }, a: matrix }));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json]);
}

/** The native core, but for everything that is hard. */
export class FakeAddon implements Addon {
  /** As on a machine without the library. */
  OpenH264 = class {
    constructor() {
      throw Object.assign(new Error('the encoder openh264 is not installed'), { code: 'UNAVAILABLE' });
    }
  } as unknown as Addon['OpenH264'];
  readonly version = 'test';
  readonly cudaBuilt = false;
  readonly loaded: string[] = [];
  /** What each of these was to be calculated with. */
  readonly precisions: Precision[] = [];
  readonly encoded: number[][] = [];
  readonly blended: { share: number; kind: string }[] = [];
  /** Of the sessions that were opened. */
  readonly ropes: SessionOptions['rope'][] = [];
  /** Of the models that are loaded now. */
  readonly resident = new Set<string>();
  disposed = 0;
  weightBytes = 0;
  /** That every model says of itself. */
  refusedRecordings = 0;
  readonly indices: (number | undefined)[] = [];
  loadError: Error | undefined;
  stepError: Error | undefined;
  encodeError: Error | undefined;
  restoreError: Error | undefined;
  /** Resolves when a load may go on. */
  gate: Promise<void> = Promise.resolve();

  devices() {
    const common = { index: 0, isa: '', totalMemory: 0, threads: 2, refusedRecordings: 0 };
    return [
      { device: 'cpu' as const, available: true, detail: 'a CPU', ...common },
      { device: 'cuda' as const, available: false, detail: 'no driver', ...common },
    ];
  }

  async loadModel({
    directory,
    deviceIndex,
    precision,
  }: Pick<LoadOptions, 'directory' | 'deviceIndex' | 'precision'>): Promise<NativeModel> {
    this.loaded.push(directory);
    this.indices.push(deviceIndex);
    this.precisions.push(precision);
    await this.gate;
    if (this.loadError) throw this.loadError;
    this.resident.add(directory);
    const refused = () => this.refusedRecordings;
    return {
      config: {},
      get refusedRecordings() {
        return refused();
      },
      weightBytes: this.weightBytes,
      blendPrompts: async (from, to, share, kind) => {
        this.blended.push({ share, kind });
        return { tokens: Math.max(from.tokens, to.tokens) };
      },
      encodePrompt: async (ids) => {
        this.encoded.push([...ids]);
        if (this.encodeError) throw this.encodeError;
        return { tokens: ids.length };
      },
      createSession: async ({ rope }) => {
        this.ropes.push(rope);
        return this.session();
      },
      restoreSession: async () => {
        if (this.restoreError) throw this.restoreError;
        return this.session();
      },
      dispose: () => {
        this.disposed++;
        this.resident.delete(directory);
      },
    };
  }

  async planMemory() {
    const weights = { textEncoder: 1, dit: 1, decoder: 1 };
    return { ...weights, keysAndValues: 1, activations: 1, decoding: 1, pictures: 1, working: 1, reserve: 0 };
  }

  async addProduct(values: Float32Array, b: Float64Array, a: Float32Array, rank: number): Promise<void> {
    const columns = a.length / rank;
    values.forEach((value, i) => {
      const [row, column] = [Math.floor(i / columns), i % columns];
      for (let r = 0; r < rank; r++) value += (b[row * rank + r] as number) * (a[r * columns + column] as number);
      values[i] = value;
    });
  }

  private session(): NativeSession {
    return {
      block: 0,
      ended: false,
      memoryBytes: 0,
      setPrompt: async (_prompt: NativePrompt) => ({ milliseconds: 1, frames: 0 }),
      step: async () => {
        if (this.stepError) throw this.stepError;
        return { kind: 'denoise', block: 0, step: 0, milliseconds: 1 };
      },
      abandonBlock: async () => undefined,
      checkpoint: async () => new Uint8Array(),
      lastRgb: async () => new Uint8Array(),
      dispose: () => undefined,
    };
  }
}

export function nativeError(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}
