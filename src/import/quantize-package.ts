/**
 * A model package again, with its large matrices in 8 bits. Like an import it grows beside its place, under a name that
 * nothing takes for a package, and moves there when it is whole and has passed the caller's trial.
 */

import { printed } from '../files/printable.js';
import { copyFile, mkdir, rename, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { constants } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { makeDirectory } from '../files/make-directory.js';
import { ImportError } from './errors.js';
import { withLock } from './lock.js';
import type { Component } from './names.js';
import { isQuantized, isQuantizedType, type QuantizedType } from './quantize.js';
import { openSource } from './source.js';
import type { Tensor } from './tensor.js';
import { isSmall, type StoredType, writeSafeTensors, type WrittenFile } from './writer.js';
import { PACKAGE_NAME } from './package-name.js';

export interface PackageToQuantize {
  directory: string;
  manifest: { title: string; files: Record<string, WrittenFile> } & Record<string, unknown>;
}

export interface QuantizeOptions {
  /** Whole and undamaged. */
  source: PackageToQuantize;
  out: string;
  /** Of the video network. */
  precision: 'int8' | 'fp8';
  /** Quantize the text encoder as well. */
  textEncoder?: 'int8';
  /** Of the new model; default: the name of its directory. */
  name?: string;
  now?: () => Date;
  /** From here on files of this package exist, and belong to this process. */
  onBegin?: () => void;
  /** Sees the finished package before anybody else does; when it rejects there is no package. */
  trial?: (directory: string) => Promise<void>;
}

export interface QuantizedPackage {
  directory: string;
  files: Record<string, WrittenFile>;
}

const TYPES = { int8: 'I8', fp8: 'F8_E4M3' } as const;
const README = 'README.md';
const SPARE_BYTES = 64 * 2 ** 20;

export async function quantizePackage(options: QuantizeOptions): Promise<QuantizedPackage> {
  const out = resolve(options.out);
  const name = options.name ?? basename(out);
  if (!PACKAGE_NAME.test(name))
    throw new ImportError(printed`"${name}" cannot be the name of a model; use a-z, 0-9, dot, dash, underscore.`);
  await makeDirectory(dirname(out));
  return withLock(lockOf(out), async (lost) => {
    if (await exists(out)) throw new ImportError(printed`${out} exists already; remove it or choose another --out.`);
    options.onBegin?.();
    const partial = partialOf(out);
    await rm(partial, { recursive: true, force: true });
    try {
      await mkdir(partial);
      const files = await writeFiles(partial, options);
      await writeFile(join(partial, 'manifest.json'), manifestOf(name, files, options), { flush: true });
      await options.trial?.(partial);
      lost.throwIfAborted();
      await rename(partial, out);
      return { directory: out, files };
    } finally {
      if (!lost.aborted) await rm(partial, { recursive: true, force: true });
    }
  });
}

/** Where the package grows. */
export function partialOf(out: string): string {
  return join(dirname(out), `.${basename(out)}.partial`);
}

/** What keeps others away meanwhile. */
export function lockOf(out: string): string {
  return `${out}.lock`;
}

async function writeFiles(partial: string, options: QuantizeOptions): Promise<Record<string, WrittenFile>> {
  const { directory, manifest } = options.source;
  await checkSpace(
    partial,
    Object.values(manifest.files).reduce((sum, { bytes }) => sum + bytes, 0),
  );
  const chosen: Record<string, [Component, QuantizedType]> = {
    'dit.safetensors': ['dit', TYPES[options.precision]],
    ...(options.textEncoder && { 'text_encoder.safetensors': ['textEncoder', TYPES[options.textEncoder]] }),
  };
  const files: Record<string, WrittenFile> = {};
  for (const [file, entry] of Object.entries(manifest.files)) {
    const how = chosen[file];
    const [from, to] = [join(directory, file), join(partial, file)];
    files[file] = how ? await quantizeFile(from, to, ...how) : await copied(from, to, entry);
  }
  if (await exists(join(directory, README))) await copyFile(join(directory, README), join(partial, README));
  return files;
}

async function quantizeFile(from: string, to: string, component: Component, type: QuantizedType): Promise<WrittenFile> {
  const source = await openSource(from);
  try {
    const done = source.tensors.find(({ dtype }) => isQuantizedType(dtype));
    if (done)
      throw new ImportError(
        printed`${from} is already quantized ("${done.name}"); start from the unquantized package.`,
      );
    const typeOf = (name: string, tensor: Tensor) => (isQuantized(component, name) ? type : unchanged(name, tensor));
    return await writeSafeTensors(to, new Map(source.tensors.map((tensor) => [tensor.name, tensor])), typeOf, () => {});
  } finally {
    await source.close();
  }
}

/** What is not quantized keeps its type, where packages have it. */
function unchanged(name: string, tensor: Tensor): StoredType {
  return tensor.dtype === 'F32' || tensor.dtype === 'BF16' ? tensor.dtype : isSmall(name, tensor) ? 'F32' : 'BF16';
}

/** Shares the blocks of the original where the file system can. */
async function copied(from: string, to: string, entry: WrittenFile): Promise<WrittenFile> {
  await copyFile(from, to, constants.COPYFILE_FICLONE);
  return entry;
}

function manifestOf(name: string, files: Record<string, WrittenFile>, options: QuantizeOptions): string {
  const { manifest } = options.source;
  const { precision, textEncoder, now = () => new Date() } = options;
  const title = `${manifest.title} (${precision})`;
  const description = `${manifest.title} with the video network in ${precision}${textEncoder ? ` and the text encoder in ${textEncoder}` : ''}`;
  return `${JSON.stringify({ ...manifest, name, title, description, createdAt: now().toISOString(), files }, null, 2)}\n`;
}

async function checkSpace(directory: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  if (bavail * bsize > bytes + SPARE_BYTES) return;
  throw new ImportError(
    printed`The package may need ${(bytes / 2 ** 30).toFixed(1)} GiB, but only ${((bavail * bsize) / 2 ** 30).toFixed(1)} GiB are left.`,
  );
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
