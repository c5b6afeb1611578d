/**
 * An object store in a directory. A key is a path; an object becomes visible by one rename, after its bytes are on disk.
 * Several processes may share the directory. Content types follow from the keys' extensions.
 */
import { createHash, randomUUID } from 'node:crypto';
import { constants, type BigIntStats } from 'node:fs';
import { link, mkdir, open, readdir, rename, rm, rmdir, stat, unlink, type FileHandle } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  StoreError,
  type ObjectStore,
  type PutOptions,
  type StoredObject,
  type StoreErrorCode,
} from '../sessions/ports.js';
import { contentTypeOf, requireKey, requirePrefix } from './keys.js';

/** Scratch files and locks; keys cannot begin with a dot. */
const SCRATCH = '.scratch';
const ABANDONED_MS = 24 * 3600_000;
/** A lock is held for two system calls; one this old belongs to a dead process. */
const STALE_LOCK_MS = 10_000;
const LOCK_RETRY_MS = 5;

const CODES: Readonly<Record<string, StoreErrorCode>> = {
  ENOENT: 'NOT_FOUND',
  EEXIST: 'CONFLICT',
  ENOSPC: 'NO_SPACE',
  EDQUOT: 'NO_SPACE',
  EFBIG: 'NO_SPACE',
  EACCES: 'DENIED',
  EPERM: 'DENIED',
  EROFS: 'DENIED',
  EISDIR: 'INVALID_KEY',
  ENOTDIR: 'INVALID_KEY',
  ENAMETOOLONG: 'INVALID_KEY',
};

const HINTS: Partial<Record<StoreErrorCode, string>> = {
  NOT_FOUND: 'there is no such object',
  CONFLICT: 'the object exists already',
  NO_SPACE: 'the disk is full: free some space',
  DENIED: 'access denied: check the permissions of the data directory',
  INVALID_KEY: 'the key clashes with another: an object cannot also be a folder',
};

/** Turns an error of the file system into a StoreError. */
export function fileError(error: unknown, key: string): StoreError {
  if (error instanceof StoreError) return error;
  const systemCode = errorCode(error);
  const folderIsObject = systemCode === 'EEXIST' && (error as NodeJS.ErrnoException).syscall === 'mkdir';
  const code = folderIsObject ? 'INVALID_KEY' : (CODES[systemCode] ?? 'UNREACHABLE');
  return new StoreError(code, `${key}: ${HINTS[code] ?? `the file system failed (${systemCode || String(error)})`}`, {
    cause: error,
  });
}

export class FileStore implements ObjectStore {
  readonly #root: string;
  readonly #scratch: string;
  #swept: Promise<void> | undefined;

  constructor(root: string) {
    this.#root = resolve(root);
    this.#scratch = join(this.#root, SCRATCH);
  }

  async put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<{ etag: string }> {
    return this.#write(key, [body], options);
  }

  async putStream(key: string, body: AsyncIterable<Uint8Array>, options: PutOptions = {}): Promise<{ etag: string }> {
    return this.#write(key, body, options);
  }

  async get(key: string, range?: { start: number; end: number }): Promise<StoredObject> {
    requireKey(key);
    const file = await translate(key, () => open(this.#path(key), constants.O_RDONLY));
    try {
      const stats = await translate(key, () => file.stat({ bigint: true }));
      requireFile(stats, key);
      const size = Number(stats.size);
      if (range) requireRange(range, size);
      const bytes = file.createReadStream(range ?? {});
      return { size, etag: etagOf(stats), contentType: contentTypeOf(key), body: readAll(key, bytes) };
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async head(key: string): Promise<{ size: number; etag: string; contentType: string } | undefined> {
    requireKey(key);
    const stats = await this.#stat(key);
    return stats && { size: Number(stats.size), etag: etagOf(stats), contentType: contentTypeOf(key) };
  }

  async *list(prefix: string): AsyncGenerator<{ key: string; size: number }> {
    requirePrefix(prefix);
    const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1);
    for await (const key of this.#walk(folder, prefix)) {
      const stats = await this.#stat(key);
      if (stats) yield { key, size: Number(stats.size) };
    }
  }

  async delete(key: string): Promise<void> {
    requireKey(key);
    await translate(key, async () => {
      await this.#prepareScratch();
      await this.#locked(key, async () => {
        await ignore(['ENOENT', 'ENOTDIR'], unlink(this.#path(key)));
        await this.#pruneAbove(key);
      });
    });
  }

  async presign(key: string): Promise<undefined> {
    requireKey(key);
  }

  /** Writes a file and removes it. */
  async check(): Promise<void> {
    const path = await this.#writeScratch(this.#root, [new Uint8Array(1)]);
    await translate(this.#root, () => unlink(path));
  }

  async #write(
    key: string,
    body: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
    options: PutOptions,
  ): Promise<{ etag: string }> {
    requireKey(key);
    const scratch = await this.#writeScratch(key, body);
    try {
      return await translate(key, async () => {
        const etag = etagOf(await stat(scratch, { bigint: true }));
        await this.#publish(scratch, key, options);
        await syncDirectory(dirname(this.#path(key)));
        return { etag };
      });
    } finally {
      await rm(scratch, { force: true });
    }
  }

  /** Bytes that are on disk under a name of no key. Errors of `body` itself pass through unchanged. */
  async #writeScratch(key: string, body: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): Promise<string> {
    await translate(key, () => this.#prepareScratch());
    const path = join(this.#scratch, randomUUID());
    const file = await translate(key, () => open(path, 'wx', 0o644));
    try {
      for await (const part of body) await translate(key, () => file.appendFile(part));
      await translate(key, () => file.sync());
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    } finally {
      await file.close();
    }
    return path;
  }

  /** Makes the scratch folder and, once, clears what killed processes left there. */
  async #prepareScratch(): Promise<void> {
    await mkdir(this.#scratch, { recursive: true });
    await (this.#swept ??= this.#sweep());
  }

  async #sweep(): Promise<void> {
    for (const name of await readdir(this.#scratch)) {
      const path = join(this.#scratch, name);
      const stats = await ignore(['ENOENT'], stat(path));
      if (stats && Date.now() - stats.mtimeMs > ABANDONED_MS) await rm(path, { force: true });
    }
  }

  async #publish(scratch: string, key: string, options: PutOptions): Promise<void> {
    const target = this.#path(key);
    if (options.ifNoneMatch) return inFolder(target, () => link(scratch, target));
    await this.#locked(key, async () => {
      if (options.ifMatch !== undefined) await this.#requireEtag(key, options.ifMatch);
      await inFolder(target, () => rename(scratch, target));
    });
  }

  async #requireEtag(key: string, etag: string): Promise<void> {
    const stats = await this.#stat(key);
    if (!stats || etagOf(stats) !== etag)
      throw new StoreError('CONFLICT', `${key}: somebody else has changed the object`);
  }

  /** Keeps every other replacement of the key, in any process, away from `work`. */
  async #locked(key: string, work: () => Promise<void>): Promise<void> {
    const lock = join(this.#scratch, `${createHash('sha256').update(key).digest('hex')}.lock`);
    let held: FileHandle | undefined;
    while (!(held = await ignore(['EEXIST'], open(lock, 'wx')))) {
      await breakStale(lock);
      await sleep(LOCK_RETRY_MS);
    }
    try {
      await work();
    } finally {
      await held.close();
      await rm(lock, { force: true });
    }
  }

  /** Keys that begin with `prefix`, in the order of S3. */
  async *#walk(folder: string, prefix: string): AsyncGenerator<string> {
    const entries = await translate(folder || '/', () =>
      ignore(['ENOENT', 'ENOTDIR'], readdir(join(this.#root, folder), { withFileTypes: true })),
    );
    const keys = (entries ?? [])
      .filter((entry) => !entry.name.startsWith('.'))
      .map((entry) => folder + entry.name + (entry.isDirectory() ? '/' : ''))
      .filter((key) => key.startsWith(prefix) || prefix.startsWith(key))
      .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    for (const key of keys) {
      if (key.endsWith('/')) yield* this.#walk(key, prefix);
      else if (key.startsWith(prefix)) yield key;
    }
  }

  /** Removes the folders that the key's removal left empty. */
  async #pruneAbove(key: string): Promise<void> {
    for (let folder = dirname(key); folder !== '.'; folder = dirname(folder)) {
      const removed = await ignore(
        ['ENOTEMPTY', 'EEXIST', 'ENOENT', 'ENOTDIR'],
        rmdir(this.#path(folder)).then(() => true),
      );
      if (!removed) return;
    }
  }

  async #stat(key: string): Promise<BigIntStats | undefined> {
    const stats = await translate(key, () => ignore(['ENOENT', 'ENOTDIR'], stat(this.#path(key), { bigint: true })));
    return stats?.isFile() ? stats : undefined;
  }

  #path(key: string): string {
    return join(this.#root, key);
  }
}

/** Runs `work` in the folder of `target`, which a concurrent delete may remove as often as it likes. */
async function inFolder(target: string, work: () => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    await mkdir(dirname(target), { recursive: true });
    try {
      return await work();
    } catch (error) {
      if (errorCode(error) !== 'ENOENT' || attempt === 5) throw error;
    }
  }
}

async function breakStale(lock: string): Promise<void> {
  const stats = await ignore(['ENOENT'], stat(lock));
  if (!stats || Date.now() - stats.mtimeMs < STALE_LOCK_MS) return;
  const mine = `${lock}.${randomUUID()}`; // of several that try to break it, one succeeds in renaming it
  await ignore(['ENOENT'], rename(lock, mine));
  await rm(mine, { force: true });
}

/** A new file gets a new inode and time, so every replacement changes this. */
function etagOf(stats: BigIntStats): string {
  return `"${stats.ino.toString(36)}-${stats.size.toString(36)}-${stats.mtimeNs.toString(36)}"`;
}

function requireFile(stats: BigIntStats, key: string): void {
  if (!stats.isFile()) throw new StoreError('NOT_FOUND', `${key}: there is no such object`);
}

function requireRange({ start, end }: { start: number; end: number }, size: number): void {
  if (start < 0 || end < start || start >= size) throw new RangeError(`bytes ${start}-${end} are not in ${size} bytes`);
}

async function* readAll(key: string, bytes: AsyncIterable<unknown>): AsyncGenerator<Uint8Array> {
  try {
    for await (const part of bytes) yield part as Uint8Array;
  } catch (error) {
    throw fileError(error, key);
  }
}

/** Makes a rename in the directory survive a power cut. */
async function syncDirectory(path: string): Promise<void> {
  const directory = await ignore(['ENOENT'], open(path, constants.O_RDONLY));
  try {
    await directory?.sync();
  } finally {
    await directory?.close();
  }
}

async function translate<T>(key: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw fileError(error, key);
  }
}

async function ignore<T>(codes: readonly string[], work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (codes.includes(errorCode(error))) return undefined;
    throw error;
  }
}

function errorCode(error: unknown): string {
  return (error as NodeJS.ErrnoException | undefined)?.code ?? '';
}
