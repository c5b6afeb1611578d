/** A model with adapters merged into it: a package in the cache that shares all files but one with the original. */

import { createHash } from 'node:crypto';
import { link, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DomainError } from '../sessions/errors.js';
import type { AddProduct, StoredType, Tensor, WrittenFile } from '../import/index.js';
import type { AdapterFile } from './adapters.js';
import type { PackageCache } from './package-cache.js';
import type { PackageSource } from './sources.js';

export interface WeightedAdapter {
  adapter: AdapterFile;
  weight: number;
}

const MERGED = 'dit.safetensors';
/** Part of the key: raise it when merging gives other bits. */
const VERSION = 1;

/** The same base, adapters and weights have the same key, whatever they are called. */
export function variantKey(base: PackageSource, adapters: readonly WeightedAdapter[]): string {
  const merged = adapters.map(({ adapter, weight }) => [adapter.digest, weight]);
  // The other files may be links to a directory of this machine: where that moves, the variant is made again.
  const place = base.remote ? '' : base.address;
  return createHash('sha256')
    .update(JSON.stringify([VERSION, base.digest, place, merged]))
    .digest('hex');
}

/** Merged when it is first held, and whenever the cache has dropped it since. */
export function variantOf(
  base: PackageSource,
  adapters: readonly WeightedAdapter[],
  cache: PackageCache,
  addProduct: AddProduct,
): PackageSource {
  const key = variantKey(base, adapters);
  const bytes = base.manifest.files[MERGED]?.bytes ?? 0;
  const make = (directory: string) => merge(base, adapters, directory, addProduct);
  const hold = () =>
    cache.hold(key, bytes, make).catch((error: unknown) => {
      throw error instanceof Error && error.name === 'ImportError' ? mergeError(adapters, error) : error;
    });
  return { ...base, hold };
}

async function merge(
  base: PackageSource,
  adapters: readonly WeightedAdapter[],
  directory: string,
  addProduct: AddProduct,
): Promise<void> {
  const held = await base.hold();
  try {
    for (const file of Object.keys(base.manifest.files)) {
      if (file !== MERGED) await share(join(held.directory, file), join(directory, file));
    }
    const written = await writeMerged(join(held.directory, MERGED), adapters, join(directory, MERGED), addProduct);
    const manifest = { ...base.manifest, files: { ...base.manifest.files, [MERGED]: written } };
    await writeFile(join(directory, 'manifest.json'), JSON.stringify(manifest), { flush: true });
  } finally {
    await held.release();
  }
}

/** Every tensor keeps the type it has, so that what is not adapted stays as it is. */
async function writeMerged(
  from: string,
  adapters: readonly WeightedAdapter[],
  to: string,
  addProduct: AddProduct,
): Promise<WrittenFile> {
  const { closeAll, dequantised, findWeights, mergeAdapters, openSource, writeSafeTensors } =
    await import('../import/index.js');
  const loras = adapters.map(({ adapter, weight }) => ({ path: adapter.path, weight }));
  const found = await findWeights([], { hints: {}, ema: false, loras });
  try {
    const source = await openSource(from);
    found.sources.push(source);
    const stored = new Map(source.tensors.map((tensor) => [tensor.name, tensor]));
    const typeOf = (name: string) => storedType(stored.get(name)?.dtype);
    const merged = mergeAdapters(dequantised(stored), found.adapters, addProduct);
    return await writeSafeTensors(to, merged, typeOf, () => undefined);
  } finally {
    await closeAll(found);
  }
}

function storedType(dtype: Tensor['dtype'] | undefined): StoredType {
  return dtype === 'BF16' || dtype === 'I8' || dtype === 'F8_E4M3' ? dtype : 'F32';
}

/** By hard link; where that cannot be, by a link to the original. */
async function share(from: string, to: string): Promise<void> {
  await rm(to, { force: true });
  await link(from, to).catch(async () => symlink(await realpath(from), to));
}

function mergeError(adapters: readonly WeightedAdapter[], error: Error): DomainError {
  const names = adapters.map(({ adapter }) => `"${adapter.name}"`).join(' and ');
  const message = adapters.reduce((text, { adapter }) => text.replaceAll(adapter.path, adapter.name), error.message);
  return new DomainError('MODEL_UNAVAILABLE', `LoRA ${names} cannot be merged: ${message}`, { cause: error });
}
