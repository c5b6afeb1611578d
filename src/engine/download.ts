/**
 * Files of a remote folder to a directory: parallel ranged reads into a bounded number of bounded buffers, written and
 * hashed strictly in order. So a file on disk is always a beginning of the whole file, which is all that is needed to go
 * on after an interruption, and nothing is read twice to be verified.
 */

import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { changed } from './http-folder.js';
import { type RemoteBody, RemoteError, type RemoteFolder } from './remote-folder.js';

export interface ExpectedFile {
  bytes: number;
  sha256: string;
}

export interface DownloadOptions {
  /** Reads at a time, each with a buffer of `partBytes`. Default 8. */
  connections?: number;
  /** Default 8 MiB. */
  partBytes?: number;
  /** Tries for each part. Default 8. */
  attempts?: number;
  /** Longest try; what has arrived by then is kept. Default 120000. */
  attemptMs?: number;
  /** Before the second try; doubles from try to try. Default 250. */
  retryMs?: number;
  signal?: AbortSignal;
  /** Told of bytes that are on disk, those of an earlier attempt included. */
  onBytes?: (bytes: number, file: string) => void;
}

const DEFAULTS = { connections: 8, partBytes: 8 << 20, attempts: 8, attemptMs: 120_000, retryMs: 250 };
const LONGEST_WAIT_MS = 10_000;

/** What arrived is not what the manifest promises. */
export class ChecksumError extends Error {
  override readonly name = 'ChecksumError';
}

type Settings = typeof DEFAULTS & Pick<DownloadOptions, 'onBytes'> & { signal: AbortSignal };

interface Part {
  target: Target;
  start: number;
  /** One past the last byte. */
  end: number;
  /** When everything before it is on disk. */
  turn: Promise<void>;
  finish: () => void;
}

/** Rejects with RemoteError, ChecksumError, or the signal's reason; what is on disk then is where the next call goes on. */
export async function download(
  folder: RemoteFolder,
  files: Readonly<Record<string, ExpectedFile>>,
  directory: string,
  options: DownloadOptions = {},
): Promise<void> {
  const stop = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
  const settings: Settings = { ...DEFAULTS, ...options, signal };
  const largest = Object.values(files).reduce((most, { bytes }) => Math.max(most, bytes), 0);
  settings.partBytes = Math.min(settings.partBytes, largest);
  const targets: Target[] = [];
  try {
    for (const [file, expected] of Object.entries(files)) {
      targets.push(await Target.open(directory, file, expected, settings));
    }
    const parts = partsOf(targets, settings.partBytes);
    const readers = Array.from({ length: settings.connections }, async () => {
      await readParts(folder, parts, settings).catch((error: unknown) => {
        stop.abort(error);
        throw error;
      });
    });
    const ends = await Promise.allSettled(readers);
    signal.throwIfAborted();
    const failed = ends.find((end) => end.status === 'rejected');
    if (failed) throw failed.reason;
    for (const target of targets) await target.finish();
  } finally {
    await Promise.all(targets.map((target) => target.close()));
  }
}

function* partsOf(targets: readonly Target[], partBytes: number): Generator<Part> {
  let turn = Promise.resolve();
  for (const target of targets) {
    for (let start = target.written; start < target.expected.bytes; start += partBytes) {
      const { promise, resolve } = withResolvers();
      yield { target, start, end: Math.min(start + partBytes, target.expected.bytes), turn, finish: resolve };
      turn = promise;
    }
  }
}

/** Takes parts in order, so that the one everybody waits for is always being read. */
async function readParts(folder: RemoteFolder, parts: Generator<Part>, settings: Settings): Promise<void> {
  let buffer: Buffer | undefined;
  for (const part of parts) {
    const { target, start, end, turn, finish } = part;
    buffer ??= Buffer.allocUnsafeSlow(settings.partBytes);
    const bytes = buffer.subarray(0, end - start);
    await readPart(folder, part, bytes, settings);
    await race(turn, settings.signal);
    await target.append(bytes);
    finish();
  }
}

/** Fills the buffer, going on at the byte reached when a connection breaks off. */
async function readPart(folder: RemoteFolder, part: Part, buffer: Buffer, settings: Settings): Promise<void> {
  let filled = 0;
  for (let attempt = 1; filled < buffer.length; attempt++) {
    try {
      for await (const bytes of bytesOf(folder, part, part.start + filled, settings)) {
        if (bytes.length > buffer.length - filled) throw changed(part.target.file);
        buffer.set(bytes, filled);
        filled += bytes.length;
      }
      if (filled < buffer.length) throw new RemoteError(`${part.target.file}: the answer ended too early.`, true);
    } catch (error) {
      await waitOrThrow(error, attempt, settings);
    }
  }
}

/** A small file whole; one that is larger than expected is not read to its end. */
export async function readSmall(
  folder: RemoteFolder,
  file: string,
  mostBytes: number,
  options: DownloadOptions = {},
): Promise<Uint8Array> {
  const settings: Settings = { ...DEFAULTS, ...options, signal: options.signal ?? new AbortController().signal };
  for (let attempt = 1; ; attempt++) {
    try {
      const patience = AbortSignal.any([settings.signal, AbortSignal.timeout(settings.attemptMs)]);
      const body = await folder.read(file, { signal: patience });
      return await collect(file, body, mostBytes);
    } catch (error) {
      await waitOrThrow(error, attempt, settings);
    }
  }
}

async function collect(file: string, { size, bytes }: RemoteBody, mostBytes: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of bytes) {
    length += part.length;
    if (length > mostBytes) throw new RemoteError(`${file} is larger than the ${mostBytes} bytes it may have.`, false);
    parts.push(part);
  }
  if (length !== size) throw new RemoteError(`${file}: the answer ended too early.`, true);
  return Buffer.concat(parts);
}

async function waitOrThrow(error: unknown, attempt: number, settings: Settings): Promise<void> {
  settings.signal.throwIfAborted();
  if (!isTransient(error) || attempt >= settings.attempts) throw error;
  await sleep(waitBefore(attempt, error, settings), undefined, { signal: settings.signal });
}

async function* bytesOf(folder: RemoteFolder, part: Part, start: number, settings: Settings) {
  const { target, end } = part;
  const patience = AbortSignal.any([settings.signal, AbortSignal.timeout(settings.attemptMs)]);
  const { validator } = target;
  const body = await folder.read(target.file, {
    range: { start, end: end - 1 },
    signal: patience,
    ...(validator !== undefined && { validator }),
  });
  target.validator ??= body.validator;
  if (body.validator !== target.validator) throw changed(target.file);
  if (body.size !== target.expected.bytes) {
    throw new ChecksumError(`${target.file} has ${body.size} bytes; the manifest says ${target.expected.bytes}.`);
  }
  yield* body.bytes;
}

function isTransient(error: unknown): boolean {
  if (error instanceof RemoteError) return error.transient;
  return error instanceof Error && (error.name === 'TimeoutError' || error.name === 'AbortError');
}

/** Doubling, and scattered so that many readers do not come back at once. */
function waitBefore(attempt: number, error: unknown, { retryMs }: Settings): number {
  const asked = error instanceof RemoteError ? error.retryAfterMs : undefined;
  const doubled = Math.min(retryMs * 2 ** (attempt - 1), LONGEST_WAIT_MS);
  return asked ?? doubled * (0.5 + Math.random() / 2);
}

/** A file that grows from its beginning, and the checksum of what it has. */
class Target {
  /** Of the remote file, once somebody has read from it. */
  validator: string | undefined;

  private constructor(
    readonly file: string,
    readonly expected: ExpectedFile,
    public written: number,
    private readonly hash: Hash,
    private readonly handle: FileHandle,
    private readonly onBytes: DownloadOptions['onBytes'],
  ) {}

  static async open(directory: string, file: string, expected: ExpectedFile, settings: Settings): Promise<Target> {
    const path = join(directory, file);
    const found = await stat(path).catch(() => undefined);
    const begun = found?.isFile() === true && found.size <= expected.bytes ? found.size : 0;
    const hash = createHash('sha256');
    if (begun > 0) {
      for await (const bytes of createReadStream(path, { end: begun - 1, highWaterMark: 1 << 20 })) {
        settings.signal.throwIfAborted();
        hash.update(bytes as Uint8Array);
      }
    }
    const handle = await open(path, begun > 0 ? 'r+' : 'w');
    if (begun > 0) settings.onBytes?.(begun, file);
    return new Target(file, expected, begun, hash, handle, settings.onBytes);
  }

  async append(bytes: Uint8Array): Promise<void> {
    const writing = this.write(bytes);
    this.hash.update(bytes);
    await writing;
    this.written += bytes.length;
    this.onBytes?.(bytes.length, this.file);
  }

  /** Durable, and what the manifest says. */
  async finish(): Promise<void> {
    const found = this.hash.digest('hex');
    if (found !== this.expected.sha256) {
      await this.handle.truncate(0);
      throw new ChecksumError(`${this.file} is not what the manifest says: its checksum differs.`);
    }
    await this.handle.datasync();
  }

  async close(): Promise<void> {
    await this.handle.close();
  }

  private async write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      const position = this.written + done;
      done += (await this.handle.write(bytes, done, bytes.length - done, position)).bytesWritten;
    }
  }
}

function withResolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve!: () => void;
  const promise = new Promise<void>((settle) => (resolve = settle));
  return { promise, resolve };
}

/** The promise, unless the signal aborts first. */
async function race(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  let stop!: () => void;
  const aborted = new Promise<void>((resolve) => (stop = resolve));
  signal.addEventListener('abort', stop, { once: true });
  await Promise.race([promise, aborted]);
  signal.removeEventListener('abort', stop);
  signal.throwIfAborted();
}
