/**
 * Packages that were fetched or made here, each in a directory named by its digest. Processes share it: one fills a
 * directory while the others wait for it, and what any of them uses is not evicted.
 *
 *   <digest>/              a whole package; its time is when it was last used
 *   <digest>.partial/      one that is being filled, or was when its process died
 *   <digest>.lock          held while the two above change
 *   <digest>.use.<id>      held while a process uses the package
 *   <address>.source       the digest of the package that was last used from the address with this SHA-256
 */

import { createHash, randomUUID } from 'node:crypto';
import { lstat, readdir, readFile, rename, rm, stat, statfs, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeDirectory } from '../files/make-directory.js';
import { printed } from '../files/printable.js';
import { DomainError } from '../sessions/errors.js';
import { isAlive, Lease, LEASE_TIMES, type LeaseTimes } from '../files/lease.js';
import type { HeldPackage } from './package.js';

export interface CacheOptions {
  directory: string;
  /** Bytes that packages may take; those in use are kept in any case. */
  limitBytes: number;
  leases?: LeaseTimes;
  /** Between looks at what another process is doing. */
  pollMs?: number;
}

interface Entry {
  name: string;
  digest: string;
  bytes: number;
  usedAt: number;
}

const POLL_MS = 250;
/** Left free on the disk. */
const SPARE_BYTES = 64 * 2 ** 20;
const RETRY_SECONDS = 30;
const DIGEST = /^[0-9a-f]{64}$/;
const ENTRY = /^([0-9a-f]{64})(\.partial)?$/;

export class PackageCache {
  readonly directory: string;
  private readonly limitBytes: number;
  private readonly leases: LeaseTimes;
  private readonly pollMs: number;

  constructor({ directory, limitBytes, leases = LEASE_TIMES, pollMs = POLL_MS }: CacheOptions) {
    this.directory = directory;
    this.limitBytes = limitBytes;
    this.leases = leases;
    this.pollMs = pollMs;
  }

  /** Whether the package is here, whole. */
  async has(digest: string): Promise<boolean> {
    return stat(join(this.directory, digest, 'manifest.json')).then(
      (found) => found.isFile(),
      () => false,
    );
  }

  /** Where a package that is here, whole, lies. */
  directoryOf(digest: string): string {
    return join(this.directory, digest);
  }

  /** Notes what comes from an address, for starts at which it cannot be asked. */
  async remember(address: string, digest: string): Promise<void> {
    const path = this.notePath(address);
    const note = `${path}.${randomUUID()}`;
    try {
      await writeFile(note, digest);
      await rename(note, path);
    } catch {
      await rm(note, { force: true }); // Nothing depends on it now.
    }
  }

  /** The digest of what came from an address last, if it is still here. */
  async recall(address: string): Promise<string | undefined> {
    const digest = await readFile(this.notePath(address), 'utf8').catch(() => '');
    return DIGEST.test(digest) && (await this.has(digest)) ? digest : undefined;
  }

  private notePath(address: string): string {
    return join(this.directory, `${createHash('sha256').update(address).digest('hex')}.source`);
  }

  /**
   * The package, filled first if it is not here: `fill` gets a directory which may hold what an interrupted predecessor
   * left, and must leave a whole package with manifest.json in it. It is not evicted until released.
   */
  async hold(
    digest: string,
    bytes: number,
    fill: (directory: string, signal: AbortSignal) => Promise<void>,
  ): Promise<HeldPackage> {
    try {
      await makeDirectory(this.directory);
      return await this.holdFilled(digest, bytes, fill);
    } catch (error) {
      throw this.explained(error);
    }
  }

  private async holdFilled(
    digest: string,
    bytes: number,
    fill: (directory: string, signal: AbortSignal) => Promise<void>,
  ): Promise<HeldPackage> {
    const lock = await this.lock(digest);
    try {
      const directory = join(this.directory, digest);
      if (!(await this.has(digest))) await this.fill(digest, bytes, (partial) => fill(partial, lock.lost));
      const use = await Lease.take(`${directory}.use.${randomUUID()}`, this.leases);
      const used = new Date();
      await utimes(directory, used, used);
      return { directory, release: async () => use?.release() };
    } finally {
      await lock.release();
    }
  }

  /** A disk that is full, read-only or not there is nothing the session did. */
  private explained(error: unknown): unknown {
    const ofFileSystem = error instanceof Error && 'syscall' in error && 'path' in error;
    if (!ofFileSystem) return error;
    const message = printed`The model cache ${this.directory} cannot be used (${error.message}); see --model-cache.`;
    return new DomainError('MODEL_UNAVAILABLE', message, { cause: error });
  }

  private async lock(digest: string): Promise<Lease> {
    for (;;) {
      const lock = await Lease.take(join(this.directory, `${digest}.lock`), this.leases);
      if (lock) return lock;
      await sleep(this.pollMs);
    }
  }

  private async fill(digest: string, bytes: number, fill: (directory: string) => Promise<void>): Promise<void> {
    const whole = join(this.directory, digest);
    const partial = `${whole}.partial`;
    await makeDirectory(partial);
    await this.makeRoom(digest, bytes);
    await fill(partial);
    // What lacks its manifest is no package.
    await rm(whole, { recursive: true, force: true });
    await rename(partial, whole);
  }

  /** Evicts what was used longest ago until a package of so many bytes fits. */
  private async makeRoom(digest: string, bytes: number): Promise<void> {
    if (bytes > this.limitBytes) {
      throw new DomainError(
        'MODEL_UNAVAILABLE',
        `The package takes ${gigabytes(bytes)}, but the model cache is limited to ${gigabytes(this.limitBytes)}; raise --model-cache-gigabytes.`,
      );
    }
    const entries = (await this.entries()).sort((a, b) => a.usedAt - b.usedAt);
    const begun = entries.filter((entry) => entry.digest === digest).reduce((sum, entry) => sum + entry.bytes, 0);
    const others = entries.filter((entry) => entry.digest !== digest);
    let taken = others.reduce((sum, entry) => sum + entry.bytes, 0);
    for (const entry of others) {
      if (taken + bytes <= this.limitBytes && (await this.isFree(bytes - begun))) return;
      if (await this.evict(entry)) taken -= entry.bytes;
    }
    if (taken + bytes > this.limitBytes)
      throw full(`The model cache of ${gigabytes(this.limitBytes)} is full of packages in use`);
    if (!(await this.isFree(bytes - begun))) {
      throw full(
        printed`The package needs ${gigabytes(bytes - begun)} of disk space in ${this.directory}, but the disk is full`,
      );
    }
  }

  private async entries(): Promise<Entry[]> {
    const entries: Entry[] = [];
    for (const name of await readdir(this.directory)) {
      const [, digest] = ENTRY.exec(name) ?? [];
      const found = digest && (await stat(join(this.directory, name)).catch(() => undefined));
      if (!digest || !found) continue;
      entries.push({ name, digest, bytes: await bytesIn(join(this.directory, name)), usedAt: found.mtimeMs });
    }
    return entries;
  }

  /** False when somebody uses or fills it. */
  private async evict({ name, digest }: Entry): Promise<boolean> {
    const lock = await Lease.take(join(this.directory, `${digest}.lock`), this.leases);
    if (!lock) return false;
    try {
      if (!name.endsWith('.partial') && (await this.isUsed(digest))) return false;
      await rm(join(this.directory, name), { recursive: true, force: true });
      return true;
    } finally {
      await lock.release();
    }
  }

  private async isUsed(digest: string): Promise<boolean> {
    const uses = (await readdir(this.directory)).filter((name) => name.startsWith(`${digest}.use.`));
    const alive = await Promise.all(uses.map((name) => isAlive(join(this.directory, name), this.leases)));
    await Promise.all(uses.filter((_, i) => !alive[i]).map((name) => rm(join(this.directory, name), { force: true })));
    return alive.includes(true);
  }

  private async isFree(bytes: number): Promise<boolean> {
    const { bavail, bsize } = await statfs(this.directory);
    return bavail * bsize > bytes + SPARE_BYTES;
  }
}

/** What a package costs: files it shares with others count in parts, links to files elsewhere nothing. */
async function bytesIn(directory: string): Promise<number> {
  const names = await readdir(directory).catch(() => []);
  const sizes = await Promise.all(
    names.map(async (name) => {
      const found = await lstat(join(directory, name)).catch(() => undefined);
      return found?.isFile() ? found.size / found.nlink : 0;
    }),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

function full(why: string): DomainError {
  return new DomainError('AT_CAPACITY', `${why}; free some space, or try again in ${RETRY_SECONDS} seconds.`, {
    retryAfterSeconds: RETRY_SECONDS,
  });
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(bytes < 1e8 ? 3 : 1)} GB`;
}
