/** A model with adapters merged into it: a package in the cache that shares all files but one with the original. */

import { createHash } from 'node:crypto';
import { link, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { printed } from '../files/printable.js';
import { DomainError } from '../sessions/errors.js';
import type { AddProduct, OnQuantized, StoredType, Tensor, WrittenFile } from '../import/index.js';
import type { AdapterFile } from './adapters.js';
import type { PackageCache } from './package-cache.js';
import type { PackageSource } from './sources.js';

export interface WeightedAdapter {
  adapter: AdapterFile;
  weight: number;
}

export interface VariantSurroundings {
  cache: PackageCache;
  addProduct: AddProduct;
  /** Whether the model is calculated with in 8 bits. Where it is not, adapted matrices need not be quantized again. */
  eightBit: boolean;
  warn: (message: string) => void;
}

const MERGED = 'dit.safetensors';
/** Part of the key: raise it when merging gives other bits. */
const VERSION = 3;
/** How much of an adapter rounding may take from it, or add to it; more is refused. */
const MOST_LOST = 0.2;
/** More than this is told. */
const TOLD_LOST = 0.01;

/** Known once, so that nobody merges in vain again. */
class TooWeak extends DomainError {}

/** The same base, adapters and weights have the same key, whatever they are called. */
export function variantKey(base: PackageSource, adapters: readonly WeightedAdapter[], eightBit: boolean): string {
  const merged = adapters.map(({ adapter, weight }) => [adapter.digest, weight]);
  // The other files may be links to a directory of this machine: where that moves, the variant is made again.
  const place = base.remote ? '' : base.address;
  return createHash('sha256')
    .update(JSON.stringify([VERSION, base.digest, place, eightBit, merged]))
    .digest('hex');
}

/** Merged when it is first held, and whenever the cache has dropped it since. */
export function variantOf(
  base: PackageSource,
  adapters: readonly WeightedAdapter[],
  surroundings: VariantSurroundings,
): PackageSource {
  const { cache, eightBit } = surroundings;
  const key = variantKey(base, adapters, eightBit);
  // Matrices of 8 bits may become as many of 16.
  const bytes = (eightBit ? 1 : 2) * (base.manifest.files[MERGED]?.bytes ?? 0);
  const make = (directory: string) => merge(base, adapters, directory, surroundings);
  let refusal: TooWeak | undefined;
  const hold = async () => {
    if (refusal) throw refusal;
    try {
      return await cache.hold(key, bytes, make);
    } catch (error) {
      if (error instanceof TooWeak) refusal = error;
      if (!(error instanceof Error && error.name === 'ImportError')) throw error;
      throw mergeError(adapters, error);
    }
  };
  return { ...base, hold };
}

async function merge(
  base: PackageSource,
  adapters: readonly WeightedAdapter[],
  directory: string,
  surroundings: VariantSurroundings,
): Promise<void> {
  const held = await base.hold();
  try {
    for (const file of Object.keys(base.manifest.files)) {
      if (file !== MERGED) await shareFile(join(held.directory, file), join(directory, file));
    }
    const [from, to] = [join(held.directory, MERGED), join(directory, MERGED)];
    const { written, share } = await writeMerged(from, adapters, to, surroundings);
    const lost = Math.abs(1 - share);
    if (lost > MOST_LOST) {
      await rm(to);
      throw tooWeak(share, base, adapters);
    }
    if (lost > TOLD_LOST) surroundings.warn(`${effect(share, base, adapters)}.`);
    const manifest = { ...base.manifest, files: { ...base.manifest.files, [MERGED]: written } };
    await writeFile(join(directory, 'manifest.json'), JSON.stringify(manifest), { flush: true });
  } catch (error) {
    // Nothing of it can be gone on with.
    await rm(directory, { recursive: true, force: true });
    throw error;
  } finally {
    await held.release();
  }
}

/** Every tensor keeps the type it has, but for adapted ones of 8 bits where nobody calculates with these. */
async function writeMerged(
  from: string,
  adapters: readonly WeightedAdapter[],
  to: string,
  { addProduct, eightBit }: VariantSurroundings,
): Promise<{ written: WrittenFile; share: number }> {
  const { closeAll, dequantized, findWeights, isQuantizedType, mergeAdapters, openSource, writeSafeTensors } =
    await import('../import/index.js');
  const loras = adapters.map(({ adapter, weight }) => ({ path: adapter.path, weight }));
  const found = await findWeights([], { hints: {}, ema: false, loras });
  try {
    const source = await openSource(from);
    found.sources.push(source);
    const stored = new Map(source.tensors.map((tensor) => [tensor.name, tensor]));
    const adapted = new Set(
      found.adapters.flatMap(({ pairs, differences }) => [...pairs.keys(), ...differences.keys()]),
    );
    const typeOf = (name: string): StoredType => {
      const dtype = stored.get(name)?.dtype;
      if (dtype && isQuantizedType(dtype)) return adapted.has(name) && !eightBit ? 'BF16' : dtype;
      return dtype === 'BF16' ? dtype : 'F32';
    };
    const base = dequantized(stored, adapted);
    const share = await measuring(base);
    const merged = mergeAdapters(base, found.adapters, addProduct);
    const written = await writeSafeTensors(to, merged, typeOf, () => undefined, share.see);
    return { written, share: share.value() };
  } finally {
    await closeAll(found);
  }
}

/**
 * How much of the adapters is left when what was merged has been rounded to 8 bits: the part of the change that was made
 * which points where the wanted one does. The weights lie on the steps of the rounding already, so that a change of less than
 * half a step would be lost everywhere, and not only on average as when original weights are rounded.
 */
async function measuring(base: ReadonlyMap<string, Tensor>): Promise<{ see: OnQuantized; value(): number }> {
  const { toFloat32, valuesOf } = await import('../import/index.js');
  let [wanted, made] = [0, 0];
  const see: OnQuantized = async ({ name, type, from, columns, values, bytes, scales }) => {
    const matrix = base.get(name) as Tensor;
    const before = toFloat32(await matrix.read(from, from + values.length), matrix.dtype);
    const after = valuesOf(bytes, scales, columns, type);
    for (let i = 0; i < values.length; i++) {
      const change = (values[i] as number) - (before[i] as number);
      wanted += change * change;
      made += change * ((after[i] as number) - (before[i] as number));
    }
  };
  return { see, value: () => (wanted === 0 ? 1 : made / wanted) };
}

function effect(share: number, base: PackageSource, adapters: readonly WeightedAdapter[]): string {
  const percent = Math.max(0, Math.round(100 * share));
  return `${named(adapters)} has ${percent} % of its effect in the 8-bit weights of model "${base.name}"`;
}

function tooWeak(share: number, base: PackageSource, adapters: readonly WeightedAdapter[]): TooWeak {
  return new TooWeak(
    'MODEL_UNAVAILABLE',
    `${effect(share, base, adapters)}: its changes are smaller than the rounding of the weights. Import the unquantized weights ` +
      `together with it (longlive import … --lora FILE --precision ${base.storedPrecision}), or serve the model with --precision bf16.`,
  );
}

/** By hard link; where that cannot be, by a link to the original. */
async function shareFile(from: string, to: string): Promise<void> {
  await rm(to, { force: true });
  await link(from, to).catch(async () => symlink(await realpath(from), to));
}

function mergeError(adapters: readonly WeightedAdapter[], error: Error): DomainError {
  const message = adapters.reduce((text, { adapter }) => text.replaceAll(adapter.path, adapter.name), error.message);
  return new DomainError('MODEL_UNAVAILABLE', `${named(adapters)} cannot be merged: ${message}`, { cause: error });
}

function named(adapters: readonly WeightedAdapter[]): string {
  return `LoRA ${adapters.map(({ adapter }) => printed`"${adapter.name}"`).join(' and ')}`;
}
