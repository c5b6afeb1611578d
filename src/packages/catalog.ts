/** Which packages there are at the configured places. It is looked again while the service runs: packages come and go. */

import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { printed } from '../files/printable.js';
import { DomainError } from '../sessions/errors.js';
import type { PackageCache } from './package-cache.js';
import { bytesOf, findPackages, type ModelPackage, type PackageProblem, readPackage } from './package.js';
import { LocalFolder, type RemoteFolder } from './remote-folder.js';
import {
  fetchError,
  fetchPackage,
  type FolderPackage,
  isRemote,
  openFolder,
  type PackageSource,
  readFolder,
  type RemoteOptions,
  servedName,
} from './sources.js';
import { storedPrecision } from './stored-precision.js';

export interface Found {
  sources: readonly PackageSource[];
  problems: readonly PackageProblem[];
}

export interface CatalogTimes {
  /** A directory is not looked at again within this, unless a model is asked for that is not known. */
  localMs: number;
  /** Nor is a remote source; when a model is asked for that is not known, not within `urgentMs`. */
  remoteMs: number;
  urgentMs: number;
  /** After a failure a remote source is asked again this much later, each time twice as late until `remoteMs` is reached. */
  retryMs: number;
  /** For how long a remote source is waited for; `firstMs` when nothing else can be served in its place. */
  waitMs: number;
  firstMs: number;
}

export const CATALOG_TIMES: CatalogTimes = {
  localMs: 1_000,
  remoteMs: 300_000,
  urgentMs: 5_000,
  retryMs: 15_000,
  waitMs: 3_000,
  firstMs: 30_000,
};

const BRIEF_ATTEMPTS = 2;
const NOTHING: Found = { sources: [], problems: [] };

/** One place, and what was found there last. */
interface Place {
  readonly found: Found;
  /** Looks again if its time has come; never rejects. */
  look(urgent: boolean): Promise<void>;
}

export class Catalog {
  private readonly places: readonly Place[];
  private readonly remote: readonly Place[];
  private timer: NodeJS.Timeout | undefined;

  constructor(
    addresses: readonly string[],
    cache: PackageCache,
    options: RemoteOptions = {},
    private readonly times: CatalogTimes = CATALOG_TIMES,
  ) {
    this.places = addresses.map((address) =>
      isRemote(address) ? new RemotePlace(address, cache, options, times) : new LocalPlace(resolve(address), times),
    );
    this.remote = this.places.filter((place) => place instanceof RemotePlace);
  }

  /** What was found last, that of a directory by name. Where two packages have one name, the first counts. */
  get found(): Found {
    const problems = this.places.flatMap(({ found }) => found.problems);
    const sources = new Map<string, PackageSource>();
    for (const source of this.places.flatMap(({ found }) => found.sources)) {
      const { name } = source;
      const first = sources.get(name);
      if (!first) sources.set(name, source);
      else
        problems.push({
          directory: source.address,
          message: printed`${source.address}: model "${name}" is taken from ${first.address}.`,
        });
    }
    return { sources: [...sources.values()], problems };
  }

  /** Looks everywhere, and waits for it. */
  async lookEverywhere(): Promise<Found> {
    await Promise.all(this.places.map((place) => place.look(true)));
    return this.found;
  }

  /** Looks where that is quick, and asks the rest without waiting. */
  async lookAround(): Promise<Found> {
    for (const place of this.remote) void place.look(false);
    await Promise.all(this.places.filter((place) => !this.remote.includes(place)).map((place) => place.look(false)));
    return this.found;
  }

  /** Asks the remote sources again from time to time, and tells what has been found then. */
  watch(onFound: (found: Found) => void): void {
    if (this.remote.length === 0) return;
    const look = async () => {
      await Promise.all(this.remote.map((place) => place.look(false)));
      onFound(this.found);
    };
    this.timer = setInterval(() => void look(), this.times.retryMs);
    this.timer.unref();
  }

  close(): void {
    clearInterval(this.timer);
  }
}

/** Every package at the addresses. */
export function findSources(
  addresses: readonly string[],
  cache: PackageCache,
  options: RemoteOptions = {},
  times?: CatalogTimes,
): Promise<Found> {
  return new Catalog(addresses, cache, options, times).lookEverywhere();
}

/** Looks at most so often, and once at a time. */
abstract class Paced implements Place {
  found: Found = NOTHING;
  private looking: Promise<void> | undefined;
  private lookedAt = -Infinity;

  async look(urgent: boolean): Promise<void> {
    const due = this.lookedAt + this.pauseMs(urgent);
    if (!this.looking && performance.now() < due) return;
    this.looking ??= this.lookNow().finally(() => {
      this.lookedAt = performance.now();
      this.looking = undefined;
    });
    await this.looking;
  }

  protected abstract pauseMs(urgent: boolean): number;
  protected abstract lookNow(): Promise<void>;
}

/** A directory of packages, or a single one. */
class LocalPlace extends Paced {
  /** By digest: what was read of a file need not be read again. */
  private precisions = new Map<string, string | null>();

  constructor(
    private readonly path: string,
    private readonly times: CatalogTimes,
  ) {
    super();
  }

  protected pauseMs(urgent: boolean): number {
    return urgent ? 0 : this.times.localMs;
  }

  protected async lookNow(): Promise<void> {
    const { packages, problems } = await findPackages(this.path);
    const precisions = await Promise.all(packages.map((found) => this.precisionOf(found)));
    this.precisions = new Map(packages.map(({ digest }, i) => [digest, precisions[i] ?? null]));
    const sources = packages.map((found, i) => localSource(found, precisions[i] ?? null));
    this.found = { sources, problems };
  }

  private async precisionOf({ directory, manifest, digest }: ModelPackage): Promise<string | null> {
    return this.precisions.get(digest) ?? storedPrecision(new LocalFolder(directory), manifest);
  }
}

function localSource({ directory, ...facts }: ModelPackage, precision: string | null): PackageSource {
  const hold = async () => {
    const now = await readPackage(directory).catch(() => undefined);
    if (now?.digest === facts.digest) return { directory, release: async () => undefined };
    throw new DomainError('MODEL_UNAVAILABLE', printed`Model package ${directory} was removed or replaced.`);
  };
  const name = servedName(directory, facts.manifest);
  return { ...facts, name, address: directory, remote: false, storedPrecision: precision, hold };
}

/**
 * A package elsewhere. When it cannot be asked, what is known of it goes on to be served: by this process, or by the cache
 * since an earlier one.
 */
class RemotePlace extends Paced {
  private failures = 0;
  private folder: RemoteFolder | undefined;

  constructor(
    private readonly address: string,
    private readonly cache: PackageCache,
    private readonly options: RemoteOptions,
    private readonly times: CatalogTimes,
  ) {
    super();
  }

  protected pauseMs(urgent: boolean): number {
    const { remoteMs, urgentMs, retryMs } = this.times;
    if (urgent) return urgentMs;
    return this.failures === 0 ? remoteMs : Math.min(remoteMs, retryMs * 2 ** (this.failures - 1));
  }

  protected async lookNow(): Promise<void> {
    const [known] = this.found.sources;
    let cached: PackageSource | undefined;
    try {
      this.folder ??= openFolder(this.address, this.options);
      cached = known ?? (await this.fromCache(this.folder));
      const source = await this.ask(this.folder, cached !== undefined);
      this.found = { sources: [source.digest === known?.digest ? known : source], problems: [] };
      this.failures = 0;
    } catch (error) {
      this.failures++;
      const instead = cached
        ? printed`; version ${cached.manifest.version} of "${cached.manifest.name}" is used, as last fetched`
        : '';
      const message = `Model package ${this.address}: ${messageOf(error)}${instead}`;
      this.found = { sources: cached ? [cached] : [], problems: [{ directory: this.address, message }] };
    }
  }

  /** Briefly, when there is something to serve in its place. */
  private async ask(folder: RemoteFolder, briefly: boolean): Promise<PackageSource> {
    const signal = AbortSignal.timeout(briefly ? this.times.waitMs : this.times.firstMs);
    const options = { ...this.options.download, ...(briefly && { attempts: BRIEF_ATTEMPTS }), signal };
    const found = await readFolder(folder, options);
    const here = await this.cache.has(found.digest);
    const weights = here ? new LocalFolder(this.cache.directoryOf(found.digest)) : folder;
    return this.source(found, await storedPrecision(weights, found.manifest, options));
  }

  /** The package that came from here last, by an earlier process. */
  private async fromCache(folder: RemoteFolder): Promise<PackageSource | undefined> {
    const digest = await this.cache.recall(folder.address);
    if (digest === undefined) return undefined;
    const directory = this.cache.directoryOf(digest);
    try {
      const [found, manifestBytes] = await Promise.all([
        readPackage(directory),
        readFile(join(directory, 'manifest.json')),
      ]);
      return this.source(
        { ...found, folder, manifestBytes },
        await storedPrecision(new LocalFolder(directory), found.manifest),
      );
    } catch {
      return undefined; // It was evicted meanwhile.
    }
  }

  private source(found: FolderPackage, precision: string | null): PackageSource {
    const { manifest, config, digest, folder } = found;
    const fill = (directory: string, signal: AbortSignal) =>
      fetchPackage(found, directory, { ...this.options, signal });
    const hold = async () => {
      try {
        const held = await this.cache.hold(digest, bytesOf(manifest), fill);
        await this.cache.remember(folder.address, digest);
        return held;
      } catch (error) {
        throw fetchError(error);
      }
    };
    const name = servedName(folder.address, manifest);
    return { name, manifest, config, digest, address: folder.address, remote: true, storedPrecision: precision, hold };
  }
}

function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return /^(Timeout|Abort)Error$/.test(error.name) ? 'no answer' : error.message.replace(/\.$/, '');
}
