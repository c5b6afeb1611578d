/**
 * What the native addon exports. `native/addon` implements exactly this; `src/engine` is its only importer.
 * Every rejected promise and error of the core or the addon carries `code` (see native/include/longlive/error.h) and a message that
 * says what to do; what Node's own binding refuses before (`Illegal invocation`) carries none.
 */

import type { EncodedPictures, Step } from '../sessions/ports.js';

export type Device = 'cpu' | 'cuda';
/** `fp8` is for GPUs that have it. */
export type Precision = 'fp32' | 'bf16' | 'int8' | 'fp8';
export type RecacheMode = 'recache' | 'keep' | 'clear';

export interface DeviceReport {
  device: Device;
  /** Among those of its kind, from 0. */
  index: number;
  available: boolean;
  /** Why not, or the device's name. */
  detail: string;
  isa: string;
  totalMemory: number;
  threads: number;
  /** Of a small piece of work that is tried: above 0 the driver refuses to record work, and models run more slowly. */
  refusedRecordings: number;
}

export interface LoadOptions {
  directory: string;
  device: Device;
  /** Which GPU, from 0; absent means 0. INVALID_ARGUMENT where there is none. */
  deviceIndex?: number;
  precision: Precision;
  /** What the KV cache keeps; `int8`, on the CPU only, halves it. Absent means `full`. */
  kv?: 'full' | 'int8';
  /** Products of self-attention; `int8`, on a GPU only and not with `fp32`, takes 8 bits. Absent means `full`. */
  attention?: 'full' | 'int8';
  /** CPU threads; 0 means all. */
  threads: number;
  /** `full` is the Wan VAE, `tiny` the TAEHV decoder. */
  decoder: 'full' | 'tiny';
  /** CPU only: force an instruction set; empty picks the best one. */
  isa: string;
}

export interface SessionOptions {
  seed: bigint;
  width: number;
  height: number;
  rope: 'package' | 'absolute' | 'relative';
  /** Undefined keeps the package's setting. */
  globalSink?: boolean;
}

export interface NativePrompt {
  readonly tokens: number;
}

/**
 * One call at a time. After a call that failed with another code than INVALID_ARGUMENT a session is lost: it can only be
 * disposed of.
 */
export interface NativeSession {
  /** Index of the block that the next step works on. */
  readonly block: number;
  /** Absolute positions are used up: only a prompt with mode `clear` begins another block. */
  readonly ended: boolean;
  /** Bytes of device memory this session holds. */
  readonly memoryBytes: number;
  /** Must be called before the first step. Allowed between blocks and after abandonBlock(). */
  setPrompt(prompt: NativePrompt, mode: RecacheMode): Promise<{ milliseconds: number; frames: number }>;
  step(): Promise<Step>;
  /** Drops the denoise steps already taken of the current block; not allowed once its frames were returned. */
  abandonBlock(): Promise<void>;
  /** Clean latents of sink and window plus counters, as safetensors bytes. Allowed between blocks. */
  checkpoint(): Promise<Uint8Array>;
  /** RGB bytes of the last decoded frames, [count, height, width, 3]; for tests and judges. */
  lastRgb(): Promise<Uint8Array>;
  dispose(): void;
}

export interface NativeModel {
  readonly config: unknown;
  readonly weightBytes: number;
  /** Pieces of work so far that the driver refused to record (CUDA graphs), and which are launched call by call since. */
  readonly refusedRecordings: number;
  encodePrompt(ids: Int32Array): Promise<NativePrompt>;
  /** The prompt `share` of the way (0 to 1) between two of this model's. */
  blendPrompts(from: NativePrompt, to: NativePrompt, share: number, kind: 'linear' | 'slerp'): Promise<NativePrompt>;
  createSession(options: SessionOptions): Promise<NativeSession>;
  /** Continues from checkpoint() bytes, also another machine's: rebuilds the KV cache and decoder state by a recache. */
  restoreSession(options: SessionOptions, checkpoint: Uint8Array, prompt: NativePrompt): Promise<NativeSession>;
  dispose(): void;
}

/** Bytes of a device (see native/include/longlive/engine.h). */
export interface MemoryPlan {
  /** Weights, once. */
  textEncoder: number;
  dit: number;
  decoder: number;
  /** Of each session of the package's own size. */
  keysAndValues: number;
  activations: number;
  decoding: number;
  pictures: number;
  /** Once: staging, workspaces and scratch; and an allowance for the driver. */
  working: number;
  reserve: number;
}

/** Calls are done one after another on a thread of its own. */
export interface NativeOpenH264 {
  readonly version: string;
  /** Works on a copy of the frames: planar I420 pictures, one after the other. */
  encode(
    format: { width: number; height: number; fps: number; quantizer: number },
    frames: Uint8Array,
  ): Promise<EncodedPictures>;
  /** What is under way finishes. */
  dispose(): void;
}

export interface Addon {
  readonly version: string;
  readonly cudaBuilt: boolean;
  devices(): DeviceReport[];
  loadModel(options: LoadOptions): Promise<NativeModel>;
  /** Throws UNAVAILABLE where the machine has no such library. */
  readonly OpenH264: new () => NativeOpenH264;
  /** What a package and a session of its size would take of a device, which need not be there. */
  planMemory(options: LoadOptions, session?: Partial<Pick<SessionOptions, 'rope'>>): Promise<MemoryPlan>;
  /**
   * values [rows, columns] += b [rows, rank] a [rank, columns], summed in double and rounded once, on all processors. It
   * works on copies; `values` has the result when it is done, and what was written to it meanwhile is lost.
   */
  addProduct(values: Float32Array, b: Float64Array, a: Float32Array, rank: number): Promise<void>;
}
