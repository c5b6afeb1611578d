/** Packages at their places: directories of this machine, `s3://bucket/prefix/` and `https://host/path/`. */

import { open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { makeDirectory } from '../files/make-directory.js';
import { printed } from '../files/printable.js';
import { DomainError } from '../sessions/errors.js';
import type { ObjectStore } from '../sessions/ports.js';
import { ChecksumError, download, type DownloadOptions, readSmall } from './download.js';
import { HttpFolder } from './http-folder.js';
import {
  bytesOf,
  digestOf,
  type HeldPackage,
  type Manifest,
  MOST_JSON_BYTES,
  type PackageFacts,
  parseConfig,
  parseManifest,
} from './package.js';
import { LocalFolder, RemoteError, type RemoteFolder, StoreFolder } from './remote-folder.js';

/** A package that may still be elsewhere. */
export interface PackageSource extends PackageFacts {
  /** What it is served as, see `servedName`. */
  readonly name: string;
  /** Where it comes from. */
  readonly address: string;
  readonly remote: boolean;
  /** What most weights of its video network are stored as; `null` when that is not known. */
  readonly storedPrecision: string | null;
  /** Makes it available on this machine; what is remote is fetched into the cache unless it is there. */
  hold(): Promise<HeldPackage>;
}

/**
 * What a package at a place is served as: by its name; in a folder NAME@VERSION, which has to be its own, by that. So a version whose
 * name another one took stays there for the sessions that were made with it.
 */
export function servedName(place: string, { name, version }: Manifest): string {
  const pinned = pinnedName({ name, version });
  return basename(place) === pinned ? pinned : name;
}

export function pinnedName({ name, version }: Pick<Manifest, 'name' | 'version'>): string {
  return `${name}@${version}`;
}

export interface RemoteOptions {
  /** Opens `s3://bucket/prefix`. */
  openStore?: (url: string) => Pick<ObjectStore, 'get'>;
  download?: DownloadOptions;
  onProgress?: (progress: FetchProgress) => void;
}

export interface FetchProgress {
  name: string;
  fetchedBytes: number;
  totalBytes: number;
}

export function isRemote(address: string): boolean {
  return /^[a-z][a-z0-9+.-]+:\/\//i.test(address);
}

/** Throws a TypeError when packages cannot be fetched from such an address. */
export function openFolder(address: string, { openStore }: RemoteOptions = {}): RemoteFolder {
  if (!isRemote(address)) return new LocalFolder(resolve(address));
  if (/^https?:/i.test(address)) return new HttpFolder(address);
  if (/^s3:/i.test(address) && openStore) return new StoreFolder(address, openStore(address));
  throw new TypeError(
    printed`${address} is not a valid package location; use a directory, s3://bucket/prefix/ or https://host/path/.`,
  );
}

export interface FolderPackage extends PackageFacts {
  folder: RemoteFolder;
  manifestBytes: Uint8Array;
}

/** Manifest and config of a package; rejects with an Error that says what is wrong. */
export async function readFolder(folder: RemoteFolder, options?: DownloadOptions): Promise<FolderPackage> {
  const manifestBytes = await readSmall(folder, 'manifest.json', MOST_JSON_BYTES, options);
  const manifest = parseManifest(manifestBytes);
  const configBytes = await readSmall(folder, 'config.json', MOST_JSON_BYTES, options);
  if (digestOf(configBytes) !== manifest.files['config.json']?.sha256) {
    throw new ChecksumError('config.json does not match the manifest: its checksum differs.');
  }
  return { folder, manifestBytes, manifest, config: parseConfig(configBytes), digest: digestOf(manifestBytes) };
}

/** Fetches a package into a directory, going on with what an interrupted attempt has left there. */
export async function fetchPackage(
  { folder, manifest, manifestBytes }: FolderPackage,
  directory: string,
  { signal, onProgress, ...options }: Pick<RemoteOptions, 'download' | 'onProgress'> & { signal?: AbortSignal },
): Promise<void> {
  const totalBytes = bytesOf(manifest);
  const attempt = async () => {
    let fetchedBytes = 0;
    const onBytes = (bytes: number) => {
      fetchedBytes += bytes;
      onProgress?.({ name: manifest.name, fetchedBytes, totalBytes });
    };
    await download(folder, manifest.files, directory, { ...options.download, onBytes, ...(signal && { signal }) });
  };
  const begun = await readdir(directory);
  await Promise.all(
    begun
      .filter((file) => !Object.hasOwn(manifest.files, file))
      .map((file) => rm(join(directory, file), { recursive: true })),
  );
  try {
    await attempt();
  } catch (error) {
    // What lay here may be the beginning of something else.
    if (begun.length === 0 || !(error instanceof ChecksumError)) throw error;
    await attempt();
  }
  await writeDurably(join(directory, 'manifest.json'), manifestBytes);
}

export interface InstallOptions extends Pick<RemoteOptions, 'download' | 'onProgress'> {
  signal?: AbortSignal;
  /** Where what is at the place goes, once all of the new package is here. */
  keepOldAt?: string;
}

/** Puts a package at a place where there is none: all of it or nothing. Under another name it becomes another package. */
export async function installPackage(
  found: FolderPackage,
  place: string,
  { keepOldAt, ...options }: InstallOptions = {},
): Promise<void> {
  const partial = join(dirname(place), `.${basename(place)}.partial`);
  await makeDirectory(partial);
  try {
    await fetchPackage(found, partial, options);
  } catch (error) {
    // What broke off goes on with the next attempt; what is wrong would stay wrong, and lie there for ever.
    if (isLasting(error)) await rm(partial, { recursive: true, force: true });
    throw error;
  }
  if (basename(place) !== servedName(place, found.manifest)) {
    const renamed = { ...found.manifest, name: basename(place) };
    await writeDurably(join(partial, 'manifest.json'), Buffer.from(`${JSON.stringify(renamed, null, 2)}\n`));
  }
  if (keepOldAt !== undefined) await rename(place, keepOldAt);
  await rename(partial, place);
}

function isLasting(error: unknown): boolean {
  return error instanceof ChecksumError || (error instanceof RemoteError && !error.transient);
}

export async function removePackage(directory: string): Promise<void> {
  const going = join(dirname(directory), `.${basename(directory)}.removed`);
  await rm(going, { recursive: true, force: true });
  await rename(directory, going);
  await rm(going, { recursive: true, force: true });
}

async function writeDurably(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'w');
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Failures of fetching in the domain's words. */
export function fetchError(error: unknown): unknown {
  if (!(error instanceof RemoteError || error instanceof ChecksumError)) return error;
  return new DomainError('MODEL_UNAVAILABLE', `The model package cannot be fetched: ${error.message}`, {
    cause: error,
  });
}
