/**
 * Files of a remote folder to a directory: parallel ranged reads into a bounded number of bounded buffers, written and
 * hashed strictly in order. So a file on disk is always a beginning of the whole file, which is all that is needed to go
 * on after an interruption, and nothing is read twice to be verified.
 */

import { printed } from '../files/printable.js';
import { constants, type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { leave } from '../files/body.js';
import { HashThread, type RemoteHash, type SharedBytes } from './hash-thread.js';
import { changed } from './http-folder.js';
import { type ByteRange, type RemoteBody, RemoteError, type RemoteFolder } from './remote-folder.js';

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
/** Written between two requests that the disk keeps it. */
const SYNC_BYTES = 64 << 20;

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
  /** When everything before it is on its way to disk and hash. */
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
  const hashes = new HashThread();
  try {
    for (const [file, expected] of Object.entries(files)) {
      const target = await Target.open(directory, file, expected, hashes.open(), settings.onBytes);
      targets.push(target);
      await target.goOn(settings);
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
    await hashes.close();
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
  let buffer: SharedBytes | undefined;
  for (const part of parts) {
    const { target, start, end, turn, finish } = part;
    buffer ??= new Uint8Array(new SharedArrayBuffer(settings.partBytes));
    const bytes = buffer.subarray(0, end - start);
    await readPart(folder, part, bytes, settings);
    await race(turn, settings.signal);
    const kept = target.append(bytes);
    finish();
    await kept;
  }
}

/** Fills the buffer, going on at the byte reached when a connection breaks off. */
async function readPart(folder: RemoteFolder, part: Part, buffer: SharedBytes, settings: Settings): Promise<void> {
  let filled = 0;
  for (let attempt = 1; filled < buffer.length; attempt++) {
    try {
      for await (const bytes of bytesOf(folder, part, part.start + filled, settings)) {
        if (bytes.length > buffer.length - filled) throw changed(part.target.file);
        buffer.set(bytes, filled);
        filled += bytes.length;
      }
      if (filled < buffer.length) throw new RemoteError(printed`${part.target.file}: the response ended early.`, true);
    } catch (error) {
      await waitOrThrow(error, attempt, settings);
    }
  }
}

/** A small file whole, or a range of one; what is larger than expected is not read to its end. */
export async function readSmall(
  folder: RemoteFolder,
  file: string,
  mostBytes: number,
  options: DownloadOptions = {},
  range?: ByteRange,
): Promise<Uint8Array> {
  const settings: Settings = { ...DEFAULTS, ...options, signal: options.signal ?? new AbortController().signal };
  for (let attempt = 1; ; attempt++) {
    try {
      const patience = AbortSignal.any([settings.signal, AbortSignal.timeout(settings.attemptMs)]);
      const body = await race(folder.read(file, { signal: patience, ...(range && { range }) }), patience);
      const size = range ? range.end - range.start + 1 : body.size;
      return await race(collect(file, body.bytes, size, mostBytes), patience);
    } catch (error) {
      await waitOrThrow(error, attempt, settings);
    }
  }
}

async function collect(file: string, bytes: RemoteBody['bytes'], size: number, mostBytes: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of bytes) {
    length += part.length;
    if (length > mostBytes)
      throw new RemoteError(printed`${file} is larger than the limit of ${mostBytes} bytes.`, false);
    parts.push(part);
  }
  if (length !== size) throw new RemoteError(printed`${file}: the response ended early.`, true);
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
  try {
    target.validator ??= body.validator;
    if (body.validator !== target.validator) throw changed(target.file);
    if (body.size !== target.expected.bytes) {
      throw new ChecksumError(
        printed`${target.file} has ${body.size} bytes; the manifest says ${target.expected.bytes}.`,
      );
    }
    yield* body.bytes;
  } finally {
    await leave(body.bytes);
  }
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
  written = 0;
  private writing: Promise<void> = Promise.resolve();
  private unsynced = 0;
  private syncing: Promise<void> = Promise.resolve();

  private constructor(
    readonly file: string,
    readonly expected: ExpectedFile,
    private readonly hash: RemoteHash,
    private readonly handle: FileHandle,
    private readonly onBytes: DownloadOptions['onBytes'],
  ) {}

  static async open(
    directory: string,
    file: string,
    expected: ExpectedFile,
    hash: RemoteHash,
    onBytes: DownloadOptions['onBytes'],
  ): Promise<Target> {
    const handle = await open(join(directory, file), constants.O_RDWR | constants.O_CREAT);
    return new Target(file, expected, hash, handle, onBytes);
  }

  /** Takes what an interrupted attempt has left for the beginning. */
  async goOn({ partBytes, signal }: Settings): Promise<void> {
    const { size } = await this.handle.stat();
    if (size > this.expected.bytes) return this.handle.truncate(0);
    const buffer: SharedBytes = new Uint8Array(new SharedArrayBuffer(Math.min(partBytes, size)));
    while (this.written < size) {
      signal.throwIfAborted();
      const { bytesRead } = await this.handle.read(buffer, 0, buffer.length, this.written);
      if (bytesRead === 0) break;
      await this.hash.update(buffer.subarray(0, bytesRead));
      this.written += bytesRead;
    }
    if (this.written > 0) this.onBytes?.(this.written, this.file);
  }

  /** Takes its place in the queues of disk and hash at once; resolves when the bytes are needed no more. */
  async append(bytes: SharedBytes): Promise<void> {
    const hashed = this.hash.update(bytes);
    this.writing = this.writing.then(() => this.write(bytes));
    await Promise.all([hashed, this.writing]);
    this.onBytes?.(bytes.length, this.file);
  }

  /** Durable, and what the manifest says. */
  async finish(): Promise<void> {
    if ((await this.hash.digest()) !== this.expected.sha256) {
      await this.handle.truncate(0);
      throw new ChecksumError(printed`${this.file} does not match the manifest: its checksum differs.`);
    }
    await this.syncing;
    await this.handle.datasync();
  }

  /** While more arrives, so that little is left to wait for at the end; a failure shows there. */
  private sync(): void {
    this.unsynced = 0;
    this.syncing = this.syncing.then(() => this.handle.datasync()).catch(() => undefined);
  }

  async close(): Promise<void> {
    await this.syncing;
    await this.handle.close();
  }

  private async write(bytes: SharedBytes): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      const { bytesWritten } = await this.handle.write(bytes, done, bytes.length - done, this.written);
      this.written += bytesWritten;
      done += bytesWritten;
    }
    this.unsynced += bytes.length;
    if (this.unsynced >= SYNC_BYTES) this.sync();
  }
}

function withResolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve!: () => void;
  const promise = new Promise<void>((settle) => (resolve = settle));
  return { promise, resolve };
}

/** The promise, unless the signal aborts first. */
async function race<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let stop!: () => void;
  const aborted = new Promise<void>((resolve) => (stop = resolve));
  signal.addEventListener('abort', stop, { once: true });
  await Promise.race([promise, aborted]).finally(() => signal.removeEventListener('abort', stop));
  signal.throwIfAborted();
  return promise;
}
