/** The encoder of this machine, where it has one: OpenH264 in the native core, on threads of its own. */
import type { EncodedPictures, PictureEncoder, PictureJob } from '../sessions/ports.js';
import type { Addon, NativeOpenH264 } from './addon.js';

interface Thread {
  native: NativeOpenH264;
  /** Chunks that it has to do. */
  chunks: number;
}

/** Throws an Error with code UNAVAILABLE, and what to install, where the library is not. */
export function openOpenH264(addon: Addon, threads: number): OpenH264 {
  return new OpenH264(Array.from({ length: threads }, () => new addon.OpenH264()));
}

/** Every chunk is encoded by a fresh encoder, so any thread takes any chunk: the one with the fewest. */
export class OpenH264 implements PictureEncoder {
  readonly name = 'openh264';
  readonly #threads: Thread[];
  #closed = false;

  constructor(natives: readonly NativeOpenH264[]) {
    this.#threads = natives.map((native) => ({ native, chunks: 0 }));
  }

  get version(): string {
    return this.#threads[0]!.native.version;
  }

  async encode({ frames, ...format }: PictureJob): Promise<EncodedPictures> {
    if (this.#closed) throw new Error('the encoder is closed');
    const thread = this.#threads.reduce((best, candidate) => (candidate.chunks < best.chunks ? candidate : best));
    thread.chunks++;
    try {
      return await thread.native.encode({ ...format, fps: Math.max(1, Math.round(format.fps)) }, frames);
    } finally {
      thread.chunks--;
    }
  }

  /** The library is loaded, and its threads run, as soon as it is open. */
  warmUp(): void {}

  async close(): Promise<void> {
    this.#closed = true;
    for (const { native } of this.#threads) native.dispose();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
