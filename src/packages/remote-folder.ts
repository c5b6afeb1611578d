/** A folder of files somewhere else, read in ranges; what a package is fetched from. */

import { printable, printed } from '../files/printable.js';
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { leavable, leave } from '../files/body.js';
import { type ObjectStore, StoreError } from '../sessions/ports.js';

/** First and last byte, as in HTTP. */
export interface ByteRange {
  start: number;
  end: number;
}

export interface ReadOptions {
  /** The whole file when absent. */
  range?: ByteRange;
  /** What the file was like before: a folder that can tell answers with a RemoteError when it has changed since. */
  validator?: string;
  signal?: AbortSignal;
}

export interface RemoteBody {
  /** Bytes of the whole file. */
  size: number;
  /** Changes when the file does: an ETag, or a date; absent when the server says neither. */
  validator: string | undefined;
  bytes: AsyncIterable<Uint8Array>;
}

export interface RemoteFolder {
  /** For messages. */
  readonly address: string;
  /** Rejects, also while the bytes arrive, with a RemoteError; ends by itself when nothing arrives any more. */
  read(file: string, options?: ReadOptions): Promise<RemoteBody>;
}

export class RemoteError extends Error {
  constructor(
    message: string,
    /** Whether trying again may help, and how long the server wants to be left alone. */
    readonly transient: boolean,
    options: { retryAfterMs?: number; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'RemoteError';
    this.retryAfterMs = options.retryAfterMs;
  }

  readonly retryAfterMs: number | undefined;
}

/** A prefix of an object store. */
export class StoreFolder implements RemoteFolder {
  constructor(
    readonly address: string,
    private readonly store: Pick<ObjectStore, 'get'>,
  ) {}

  async read(file: string, { range, signal }: ReadOptions = {}): Promise<RemoteBody> {
    try {
      const { size, etag, body } = await this.store.get(file, range);
      return { size, validator: etag || undefined, bytes: leavable(guarded(body, signal), () => void leave(body)) };
    } catch (error) {
      throw storeError(error);
    }
  }
}

async function* guarded(body: AsyncIterable<Uint8Array>, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  try {
    for await (const bytes of body) {
      signal?.throwIfAborted();
      yield bytes;
    }
  } catch (error) {
    throw storeError(error);
  }
}

function storeError(error: unknown): unknown {
  if (error instanceof StoreError) {
    return new RemoteError(printable(error.message), error.code === 'UNREACHABLE', { cause: error });
  }
  if (error instanceof RangeError) return new RemoteError(error.message, false, { cause: error });
  return error;
}

/** Opens the file when somebody reads. */
async function* readLater(path: string, range: ByteRange | undefined): AsyncGenerator<Uint8Array> {
  for await (const part of createReadStream(path, { ...range, highWaterMark: 1 << 20 })) yield part as Uint8Array;
}

/** A directory of this machine, so that copying a package and fetching one are the same work. */
export class LocalFolder implements RemoteFolder {
  constructor(readonly address: string) {}

  async read(file: string, { range }: ReadOptions = {}): Promise<RemoteBody> {
    const path = join(this.address, file);
    const handle = await open(path).catch((error: Error) => {
      throw new RemoteError(printed`${path} cannot be read: ${error.message}`, false, { cause: error });
    });
    try {
      const { size, mtimeMs } = await handle.stat();
      await handle.close();
      return { size, validator: String(mtimeMs), bytes: readLater(path, range) };
    } catch (error) {
      await handle.close().catch(() => undefined);
      throw error;
    }
  }
}
