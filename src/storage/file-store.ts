/**
 * An object store in a directory. A key is a path; an object becomes visible by one rename, after its bytes are on disk.
 * Several processes may share the directory. Content types follow from the keys' extensions.
 */
import { createHash, randomUUID } from 'node:crypto';
import { constants, type BigIntStats } from 'node:fs';
import { link, open, readdir, readFile, rename, rm, rmdir, stat, unlink, type FileHandle } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeDirectory } from '../files/make-directory.js';
import {
  type ListOptions,
  StoreError,
  type ObjectStore,
  type PutOptions,
  type StoredObject,
} from '../sessions/ports.js';
import { errorCode, fileError, ignore, translate } from './file-errors.js';
import { contentTypeOf, requireKey, requirePrefix } from './keys.js';
import { isOfTheDead, OWN, Scratch } from './scratch.js';

/** Scratch files and locks; keys cannot begin with a dot. */
const SCRATCH = '.scratch';
/** A lock is held for two system calls; one that is seen for so long belongs to a dead process of another machine. */
const STALE_LOCK_MS = 10_000;
const LOCK_RETRY_MS = 5;
const FULL = ['ENOSPC', 'EDQUOT'];
/** What is replaced while it is read is smaller: its bytes and its etag belong together. */
const READ_AT_ONCE_BYTES = 1 << 20;
/** What messages call it: its path is nobody's business. */
const ROOT = 'the data directory';
const GONE =
  'the data directory is gone, or an empty one has taken its place: was it removed or unmounted while the service ran?';

export class FileStore implements ObjectStore {
  readonly #root: string;
  readonly #scratch: Scratch;
  #made: Promise<unknown> | undefined;
  /** Of the directory, as the file system knows it. */
  #identity: string | undefined;

  constructor(root: string) {
    this.#root = resolve(root);
    this.#scratch = new Scratch(join(this.#root, SCRATCH));
  }

  async put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<{ etag: string }> {
    return this.#write(key, [body], options);
  }

  async putStream(key: string, body: AsyncIterable<Uint8Array>, options: PutOptions = {}): Promise<{ etag: string }> {
    return this.#write(key, body, options);
  }

  async get(key: string, range?: { start: number; end: number }): Promise<StoredObject> {
    requireKey(key);
    const file = await this.#open(key);
    try {
      const stats = await translate(key, () => file.stat({ bigint: true }));
      requireFile(stats, key);
      const size = Number(stats.size);
      if (range) requireRange(range, size);
      const { start, end } = { start: range?.start ?? 0, end: Math.min(range?.end ?? Infinity, size - 1) };
      const etag = etagOf(stats);
      const body =
        end - start < READ_AT_ONCE_BYTES
          ? [await translate(key, () => readExactly(file, start, end - start + 1))]
          : this.#readLater(key, etag, { start, end });
      return { size, etag, contentType: contentTypeOf(key), body: inOrder(body) };
    } finally {
      await file.close();
    }
  }

  /** Opens the file when somebody reads, so that whoever does not leaves nothing open. */
  async *#readLater(key: string, etag: string, range: { start: number; end: number }): AsyncGenerator<Uint8Array> {
    const file = await this.#open(key);
    try {
      if (etagOf(await translate(key, () => file.stat({ bigint: true }))) !== etag)
        throw new StoreError('CONFLICT', `${key}: another process has changed the object`);
      for await (const part of file.createReadStream({ ...range, autoClose: false })) yield part as Uint8Array;
    } catch (error) {
      throw fileError(error, key);
    } finally {
      await file.close();
    }
  }

  async head(key: string): Promise<{ size: number; etag: string; contentType: string } | undefined> {
    requireKey(key);
    const stats = await this.#stat(key);
    return stats && { size: Number(stats.size), etag: etagOf(stats), contentType: contentTypeOf(key) };
  }

  async *list(prefix: string, { after }: ListOptions = {}): AsyncGenerator<{ key: string; size: number }> {
    requirePrefix(prefix);
    await this.#requireRoot(prefix);
    const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1);
    for await (const key of this.#walk(folder, prefix, after)) {
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
    const path = await this.#writeScratch(ROOT, [new Uint8Array(1)]);
    await translate(ROOT, () => unlink(path));
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
    } catch (error) {
      await this.#requireRoot(key);
      throw error;
    } finally {
      await rm(scratch, { force: true });
    }
  }

  /** Bytes that are on disk under a name of no key. Errors of `body` itself pass through unchanged. */
  async #writeScratch(key: string, body: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): Promise<string> {
    await translate(key, () => this.#prepareScratch());
    const path = this.#scratch.newPath();
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

  /** Makes what is missing when this begins; afterwards, a directory that is gone is a fault, not a new beginning. */
  async #prepareScratch(): Promise<void> {
    await (this.#made ??= makeDirectory(this.#root).catch((error: unknown) => {
      this.#made = undefined;
      throw error;
    }));
    await this.#requireRoot(ROOT);
    await this.#scratch.create();
  }

  /** Objects that are not found because there is no directory any more must not look as if somebody had deleted them. */
  async #requireRoot(key: string): Promise<void> {
    if (!this.#made) return;
    await this.#made;
    const found = await translate(key, () => ignore(['ENOENT'], stat(this.#root, { bigint: true })));
    if (!found || !(await translate(key, () => this.#isSame(found))))
      throw new StoreError('UNREACHABLE', `${key}: ${GONE}`);
  }

  /** What is mounted again has what was made in it; an empty directory in its place has not. */
  async #isSame({ dev, ino }: BigIntStats): Promise<boolean> {
    const identity = `${dev}:${ino}`;
    if (identity === this.#identity) return true;
    if (this.#identity !== undefined && !(await ignore(['ENOENT'], stat(this.#scratch.folder)))) return false;
    this.#identity = identity;
    return true;
  }

  async #publish(scratch: string, key: string, options: PutOptions): Promise<void> {
    const target = this.#path(key);
    if (options.ifNoneMatch) return this.#inFolder(target, () => link(scratch, target));
    await this.#locked(key, async () => {
      if (options.ifMatch !== undefined) await this.#requireEtag(key, options.ifMatch);
      await this.#inFolder(target, () => rename(scratch, target));
    });
  }

  /** Runs `work` in the folder of `target`, which a concurrent delete may remove as often as it likes. */
  async #inFolder(target: string, work: () => Promise<void>): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      await this.#requireRoot(ROOT); // else it would be made here
      await makeDirectory(dirname(target));
      try {
        return await work();
      } catch (error) {
        if (errorCode(error) !== 'ENOENT' || attempt === 5) throw error;
      }
    }
  }

  async #requireEtag(key: string, etag: string): Promise<void> {
    const stats = await this.#stat(key);
    if (!stats || etagOf(stats) !== etag)
      throw new StoreError('CONFLICT', `${key}: another process has changed the object`);
  }

  /** Keeps every other replacement of the key, in any process, away from `work`. */
  async #locked(key: string, work: () => Promise<void>): Promise<void> {
    const lock = join(this.#scratch.folder, `${createHash('sha256').update(key).digest('hex')}.lock`);
    const stale = new StaleLock(lock);
    let held: FileHandle | undefined;
    while (!(held = await ignore(['EEXIST'], open(lock, 'wx')))) {
      await stale.breakIt();
      await sleep(LOCK_RETRY_MS);
    }
    try {
      // On a full disk the lock is empty: who waits for it breaks it only after a while, should this process die.
      await ignore(FULL, held.writeFile(OWN));
      await work();
    } finally {
      await held.close();
      await rm(lock, { force: true });
    }
  }

  /** Keys that begin with `prefix` and lie behind `after`, in the order of S3. */
  async *#walk(folder: string, prefix: string, after = ''): AsyncGenerator<string> {
    const entries = await translate(folder || '/', () =>
      ignore(['ENOENT', 'ENOTDIR'], readdir(join(this.#root, folder), { withFileTypes: true })),
    );
    const keys = (entries ?? [])
      .filter((entry) => !entry.name.startsWith('.'))
      .map((entry) => folder + entry.name + (entry.isDirectory() ? '/' : ''))
      .filter((key) => key.startsWith(prefix) || prefix.startsWith(key))
      .filter((key) => isBehind(key, after) || (key.endsWith('/') && after.startsWith(key)))
      .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    for (const key of keys) {
      if (key.endsWith('/')) yield* this.#walk(key, prefix, after);
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

  async #open(key: string): Promise<FileHandle> {
    try {
      return await translate(key, () => open(this.#path(key), constants.O_RDONLY));
    } catch (error) {
      await this.#requireRoot(key);
      throw error;
    }
  }

  async #stat(key: string): Promise<BigIntStats | undefined> {
    const stats = await translate(key, () => ignore(['ENOENT', 'ENOTDIR'], stat(this.#path(key), { bigint: true })));
    if (!stats) await this.#requireRoot(key);
    return stats?.isFile() ? stats : undefined;
  }

  #path(key: string): string {
    return join(this.#root, key);
  }
}

function isBehind(key: string, after: string): boolean {
  return Buffer.compare(Buffer.from(key), Buffer.from(after)) > 0;
}

/** A lock that somebody waits for: broken when its process is dead, or when it has stayed the same for too long. */
class StaleLock {
  private seen = '';
  private since = 0;

  constructor(private readonly path: string) {}

  async breakIt(): Promise<void> {
    const stats = await ignore(['ENOENT'], stat(this.path, { bigint: true }));
    if (!stats) return;
    const now = performance.now();
    const identity = etagOf(stats);
    if (identity !== this.seen) [this.seen, this.since] = [identity, now];
    const owner = (await ignore(['ENOENT'], readFile(this.path, 'utf8'))) ?? '';
    if (!isOfTheDead(owner) && now - this.since < STALE_LOCK_MS) return;
    const mine = `${this.path}.${randomUUID()}`; // of several that try to break it, one succeeds in renaming it
    await ignore(['ENOENT'], rename(this.path, mine));
    await rm(mine, { force: true });
  }
}

/** A new file gets a new inode and time, so every replacement changes this. */
function etagOf(stats: BigIntStats): string {
  return `"${stats.ino.toString(36)}-${stats.size.toString(36)}-${stats.mtimeNs.toString(36)}"`;
}

function requireFile(stats: BigIntStats, key: string): void {
  if (!stats.isFile()) throw new StoreError('NOT_FOUND', `${key}: there is no such object`);
}

function requireRange({ start, end }: { start: number; end: number }, size: number): void {
  if (start < 0 || end < start || start >= size)
    throw new RangeError(`bytes ${start}-${end} are outside the ${size} bytes of the object`);
}

async function* inOrder(parts: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield* parts;
}

/** Fewer bytes where the file ends earlier. */
async function readExactly(file: FileHandle, start: number, length: number): Promise<Uint8Array> {
  const bytes = Buffer.allocUnsafeSlow(length);
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await file.read(bytes, filled, length - filled, start + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return bytes.subarray(0, filled);
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
