/**
 * From other people's weights to a model package (docs/model-package.md). Everything is checked before the first byte is
 * written. The package grows in a folder beside its place and moves there when it is whole; an import that was interrupted
 * goes on with the files that were finished, if its sources and settings are still the same.
 */

import { printable, printed } from '../files/printable.js';
import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, rm, rmdir, stat, statfs, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import { makeDirectory } from '../files/make-directory.js';
import { type Network, TITLES } from './components.js';
import { ImportError, lined, inFile, listed } from './errors.js';
import { closeAll, findWeights, type Found, type FoundTokenizer, type Left } from './find.js';
import { withLock } from './lock.js';
import { type Adapter, type AdapterOptions, type AddProduct, checkNumbers, mergeAdapters } from './lora.js';
import type { Component } from './names.js';
import { isQuantized } from './quantize.js';
import {
  applySettings,
  endSeconds,
  LONGLIVE_SAMPLING,
  type Sampling,
  type Setting,
  type Video,
  WAN_VIDEO,
} from './sampling.js';
import { convertSentencePiece } from './sentencepiece.js';
import type { DitHints, DitSizes, TextEncoderSizes, TinyVaeSizes, VaeSizes } from './sizes.js';
import { countOf, type Tensor } from './tensor.js';
import { bodyBytes, isSmall, type TypeOf, writeSafeTensors, type WrittenFile } from './writer.js';
import { PACKAGE_NAME } from './package-name.js';

/** Of the matrices of a network; `int8` and `fp8` are those that quantize.ts lists, the others are then bf16. */
export type Precision = 'fp32' | 'bf16' | 'int8' | 'fp8';
export type TextPrecision = 'fp32' | 'bf16' | 'int8';

export interface ImportOptions {
  /** Files and folders with weights. */
  sources: readonly string[];
  out: string;
  loras?: readonly ({ path: string } & AdapterOptions)[];
  /** Of the video network; fp32 also of everything else. Default bf16. */
  precision?: Precision;
  /** Of the text encoder. */
  textEncoder?: TextPrecision;
  /** Merges adapters: the native core's. */
  addProduct: AddProduct;
  /** tokenizer.json or spiece.model; otherwise one is looked for in the sources. */
  tokenizer?: string;
  /** Throws when the service could not use a tokenizer. */
  checkTokenizer?: (json: string) => void;
  name?: string;
  title?: string;
  version?: string;
  license?: string;
  hints?: DitHints;
  ema?: boolean;
  /** Read weights that others have stored in 8 bits as the numbers they stand for. */
  dequantize?: boolean;
  /** Of config.json, over those of LongLive and those that a package among the sources has. */
  settings?: readonly Setting[];
  /** Time, for manifest.json. */
  now?: () => Date;
  onStart?: (totalBytes: number) => void;
  onProgress?: (bytes: number, file: string) => void;
}

export interface Imported {
  directory: string;
  bytes: number;
  parameters: number;
  plan: Plan;
}

/** What an import would do. */
export interface Plan {
  name: string;
  networks: readonly { title: string; path: string; tensors: number; parameters: number; bytes: number }[];
  adapters: readonly PlannedAdapter[];
  tokenizer: string;
  /** Of the package's config.json. */
  config: { dit: { ropeTableLength: number }; sampling: Sampling; video: Video };
  bytes: number;
  /** Where absolute positions end; null where nothing does. */
  endSeconds: number | null;
  /** What was found and is not used. */
  left: readonly Left[];
}

export interface PlannedAdapter {
  path: string;
  layout: string;
  weight: number;
  /** Matrices by how strongly B A is added to them, and why. */
  strengths: readonly { factor: number; alpha: number; rank: number; where: string; matrices: number }[];
  /** Tensors to which a difference is added. */
  differences: number;
  notes: readonly string[];
}

const FILES: Record<Component, string> = {
  dit: 'dit.safetensors',
  textEncoder: 'text_encoder.safetensors',
  vae: 'vae.safetensors',
  tinyVae: 'tiny_vae.safetensors',
};
const NEEDED: readonly Component[] = ['dit', 'textEncoder', 'vae'];
const STATE = 'import.json';
/** Of why a file is not used; it ends with what to do. */
const LONGEST_REASON = 1_000;
/** Kept free beside the package. */
const SPARE_BYTES = 64 * 2 ** 20;

export async function importModel(options: ImportOptions): Promise<Imported> {
  const { out, name } = await placeOf(options);
  return whenPrepared(options, (prepared) => write(out, name, prepared, options));
}

/** Everything that an import checks, and nothing of what it writes. */
export async function planImport(options: ImportOptions): Promise<Plan> {
  const { name } = await placeOf(options);
  return whenPrepared(options, async (prepared) => planOf(name, prepared));
}

async function placeOf(options: ImportOptions): Promise<{ out: string; name: string }> {
  const out = resolve(options.out);
  const name = options.name ?? basename(out);
  if (!PACKAGE_NAME.test(name))
    throw new ImportError(printed`"${name}" cannot be the name of a model; use a-z, 0-9, dot, dash, underscore.`);
  await refuseExisting(out);
  return { out, name };
}

interface Part {
  component: Component;
  tensors: ReadonlyMap<string, Tensor>;
  typeOf: TypeOf;
}

/** What is written, all of it checked. */
interface Prepared {
  found: Found;
  tokenizer: string;
  config: Plan['config'];
  parts: ReadonlyMap<string, Part>;
}

async function whenPrepared<T>(options: ImportOptions, use: (prepared: Prepared) => Promise<T>): Promise<T> {
  const { sources, loras = [], hints = {}, ema = false, tokenizer, dequantize = false } = options;
  const found = await findWeights(sources, { loras, hints, ema, tokenizer, dequantize });
  try {
    const text = await readTokenizer(found.tokenizer, options.checkTokenizer);
    const config = configOf(found, options.settings ?? []);
    const parts = partsOf(found, options);
    for (const adapter of found.adapters) await checkNumbers(adapter);
    return await use({ found, tokenizer: text, config, parts });
  } finally {
    await closeAll(found);
  }
}

async function write(out: string, name: string, prepared: Prepared, options: ImportOptions): Promise<Imported> {
  const made = await makeDirectory(dirname(out));
  try {
    return await withLock(`${out}.lock`, async (lost) => {
      await refuseExisting(out);
      const files = await grow(`${out}.partial`, name, prepared, options);
      lost.throwIfAborted();
      await rename(`${out}.partial`, out);
      return summaryOf(out, planOf(name, prepared), files);
    });
  } catch (error) {
    if (made !== undefined) await removeEmpty(dirname(out), dirname(made));
    throw error;
  }
}

/** The whole package, beside its place. Only what was interrupted can be gone on with: after a refusal nothing is left. */
async function grow(
  partial: string,
  name: string,
  prepared: Prepared,
  options: ImportOptions,
): Promise<Record<string, WrittenFile>> {
  try {
    const files = await writeFiles(partial, prepared, options);
    await writeText(join(partial, 'manifest.json'), json(manifestOf(name, files, options)));
    await rm(join(partial, STATE));
    return files;
  } catch (error) {
    if (error instanceof ImportError && !(error instanceof NoRoom)) await rm(partial, { recursive: true, force: true });
    throw error;
  }
}

/** Folders that are empty, from the inner one outwards. */
async function removeEmpty(from: string, end: string): Promise<void> {
  for (let folder = from; folder !== end; folder = dirname(folder)) {
    const removed = await rmdir(folder).then(
      () => true,
      () => false,
    );
    if (!removed) return;
  }
}

function planOf(name: string, { found, parts, config }: Prepared): Plan {
  const networks = [...parts.values()].map(({ component, tensors, typeOf }) => ({
    title: TITLES[component],
    path: found.networks.get(component)?.path ?? '',
    tensors: tensors.size,
    parameters: parametersIn(tensors),
    bytes: bodyBytes(tensors, typeOf),
  }));
  return {
    ...{ name, networks, config },
    adapters: found.adapters.map(plannedAdapter),
    tokenizer: found.tokenizer?.path ?? '',
    bytes: networks.reduce((sum, { bytes }) => sum + bytes, 0),
    endSeconds: endSeconds(config),
    left: found.left,
  };
}

function plannedAdapter({ path, layout, weight, pairs, differences, notes }: Adapter): PlannedAdapter {
  const strengths = new Map<string, PlannedAdapter['strengths'][number]>();
  for (const { rank, strength } of pairs.values()) {
    const factor = weight * strength.factor;
    const key = [factor, rank, strength.where].join();
    const { matrices = 0 } = strengths.get(key) ?? {};
    strengths.set(key, { factor, alpha: strength.alpha, rank, where: strength.where, matrices: matrices + 1 });
  }
  return { path, layout, weight, strengths: [...strengths.values()], differences: differences.size, notes };
}

async function writeFiles(
  partial: string,
  { parts, found, tokenizer, config }: Prepared,
  options: ImportOptions,
): Promise<Record<string, WrittenFile>> {
  const total = [...parts.values()].reduce((sum, { tensors, typeOf }) => sum + bodyBytes(tensors, typeOf), 0);
  await makeDirectory(partial);
  const state = await openState(partial, await fingerprint(found, options));
  await checkSpace(partial, total - state.bytes());
  options.onStart?.(total);
  for (const [file, { tensors, typeOf }] of parts) {
    const onBytes = (bytes: number) => options.onProgress?.(bytes, file);
    if (state.files[file]) onBytes(bodyBytes(tensors, typeOf));
    else await state.add(file, await writeSafeTensors(join(partial, file), tensors, typeOf, onBytes));
  }
  await state.add('tokenizer.json', await writeText(join(partial, 'tokenizer.json'), tokenizer));
  await state.add('config.json', await writeText(join(partial, 'config.json'), json(config)));
  return state.files;
}

// -- what goes in

async function readTokenizer(found: FoundTokenizer | undefined, check?: (json: string) => void): Promise<string> {
  if (!found)
    throw new ImportError('The sources contain no tokenizer.json or spiece.model; pass one with --tokenizer.');
  return inFile(found.path, async () => {
    const bytes = await found.read();
    const text = isJson(bytes) ? bytes.toString('utf8') : json(convertSentencePiece(bytes));
    try {
      check?.(text);
    } catch (error) {
      throw new ImportError(printable(error instanceof Error ? error.message : String(error)));
    }
    return text;
  });
}

function isJson(bytes: Buffer): boolean {
  return /^\s*\{/.test(bytes.toString('latin1', 0, 100));
}

function networkOf(found: Found, component: Component): Network | undefined {
  return found.networks.get(component)?.network;
}

function configOf(found: Found, settings: readonly Setting[]): Plan['config'] {
  refuseMissing(found);
  const dit = networkOf(found, 'dit')?.sizes as DitSizes;
  const textEncoder = networkOf(found, 'textEncoder')?.sizes as TextEncoderSizes;
  const vae = networkOf(found, 'vae')?.sizes as VaeSizes;
  const tiny = networkOf(found, 'tinyVae')?.sizes as TinyVaeSizes | undefined;
  agree(found, 'textEncoder', 'text width', textEncoder.dim, dit.textDim);
  agree(found, 'vae', 'latent channels', vae.zDim, dit.inDim);
  if (tiny) agree(found, 'tinyVae', 'latent channels', tiny.zDim, dit.outDim);
  const { sampling, video } = found.networks.get('dit')?.hints ?? {};
  const config = {
    formatVersion: 1,
    ...{ dit, textEncoder, vae, tinyVae: tiny ? { channels: tiny.channels } : null },
    sampling: { ...LONGLIVE_SAMPLING, ...sampling },
    video: { ...WAN_VIDEO, ...video },
  };
  return applySettings(config, settings);
}

/** What was passed over may be what is missing. */
function refuseMissing({ networks, left }: Found): void {
  const missing = NEEDED.filter((component) => !networks.has(component));
  if (missing.length === 0) return;
  const names = missing.map((component) => `the ${TITLES[component]}`).join(' and ');
  const passed = left.map(({ path, what }) => `${path}: ${what}`);
  const also = passed.length > 0 ? lined('Not used:', listed(passed, '  ', LONGEST_REASON)) : '';
  throw new ImportError(
    lined(`The sources lack ${names}; also pass a file that contains it (see docs/models.md).`, also),
  );
}

function agree({ networks }: Found, component: Component, what: string, has: number, wanted: number): void {
  if (has === wanted) return;
  const path = (of: Component) => networks.get(of)?.path ?? '';
  throw new ImportError(
    printed`The parts do not match: the ${TITLES[component]} has ${what} ${has} (${path(component)}), but the video network ` +
      printed`takes ${wanted} (${path('dit')}). Take both from one release; image-to-video networks are not supported.`,
  );
}

/** The tensors of each file, adapters merged, and how they are stored. */
function partsOf(found: Found, { addProduct, precision = 'bf16', textEncoder }: ImportOptions): Map<string, Part> {
  const rest = precision === 'fp32' ? 'fp32' : 'bf16';
  const precisions: Record<Component, Precision> = {
    ...{ dit: precision, textEncoder: textEncoder ?? rest, vae: rest, tinyVae: rest },
  };
  const parts = new Map<string, Part>();
  for (const [component, { network }] of found.networks) {
    const { tensors } = network;
    parts.set(FILES[component], {
      component,
      tensors: component === 'dit' ? mergeAdapters(tensors, found.adapters, addProduct) : tensors,
      typeOf: typesOf(component, precisions[component]),
    });
  }
  return parts;
}

function typesOf(component: Component, precision: Precision): TypeOf {
  const matrix = precision === 'fp32' ? 'F32' : 'BF16';
  const quantized = ({ int8: 'I8', fp8: 'F8_E4M3', bf16: 'BF16', fp32: 'F32' } as const)[precision];
  return (name, tensor) => {
    if (isSmall(name, tensor)) return tensor.dtype === 'BF16' ? matrix : 'F32';
    return isQuantized(component, name) ? quantized : matrix;
  };
}

function manifestOf(name: string, files: Record<string, WrittenFile>, options: ImportOptions): object {
  const {
    title = name,
    version = '1.0.0',
    license = 'as that of the imported weights',
    now = () => new Date(),
  } = options;
  const given = [...options.sources, ...(options.loras ?? []).map(({ path }) => path)].map((path) => basename(path));
  return {
    formatVersion: 1,
    ...{ name, version, title, description: `Imported from ${given.join(', ')}`, license },
    ...{ createdAt: now().toISOString(), files },
  };
}

function summaryOf(directory: string, plan: Plan, files: Record<string, WrittenFile>): Imported {
  return {
    ...{ directory, plan },
    bytes: Object.values(files).reduce((sum, { bytes }) => sum + bytes, 0),
    parameters: plan.networks.reduce((sum, { parameters }) => sum + parameters, 0),
  };
}

function parametersIn(tensors: ReadonlyMap<string, Tensor>): number {
  return [...tensors.values()].reduce((sum, { shape }) => sum + countOf(shape), 0);
}

// -- what has been written already

interface State {
  files: Record<string, WrittenFile>;
  bytes(): number;
  add(file: string, written: WrittenFile): Promise<void>;
}

/** Files finished by an earlier import of the same sources with the same settings are kept, others removed. */
async function openState(directory: string, key: string): Promise<State> {
  const path = join(directory, STATE);
  const before = await readState(path);
  if (before.key !== key) {
    await rm(directory, { recursive: true });
    await mkdir(directory);
  }
  const files = before.key === key ? before.files : {};
  return {
    files,
    bytes: () => Object.values(files).reduce((sum, { bytes }) => sum + bytes, 0),
    async add(file, written) {
      files[file] = written;
      await writeFile(`${path}.new`, json({ key, files }));
      await rename(`${path}.new`, path);
    },
  };
}

const stateSchema = z.object({
  key: z.string(),
  files: z.record(z.string(), z.object({ bytes: z.number(), sha256: z.string() })),
});

async function readState(path: string): Promise<{ key: string; files: Record<string, WrittenFile> }> {
  try {
    return stateSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch {
    return { key: '', files: {} };
  }
}

/** Names, sizes and times of all sources, and every setting that changes what is written. */
async function fingerprint(found: Found, options: ImportOptions): Promise<string> {
  const { precision, textEncoder, ema, hints, settings, dequantize } = options;
  const paths = [...found.sources.flatMap(({ files }) => files), (found.tokenizer as FoundTokenizer).path];
  const files = await Promise.all(
    paths.map(async (path) => [resolve(path), (await stat(path)).size, (await stat(path)).mtimeMs]),
  );
  const adapters = found.adapters.map((adapter) => plannedAdapter(adapter));
  const chosen = { precision, textEncoder, ema, hints, settings, dequantize };
  return createHash('sha256')
    .update(json({ files, adapters, ...chosen }))
    .digest('hex');
}

/** What an earlier import has finished is of use when there is room again. */
class NoRoom extends ImportError {}

async function checkSpace(directory: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  const free = bavail * bsize;
  if (free > bytes + SPARE_BYTES) return;
  const place = dirname(directory);
  throw new NoRoom(`The package needs ${gigabytes(bytes)}, but ${place} has only ${gigabytes(free)} left.`);
}

async function writeText(path: string, text: string): Promise<WrittenFile> {
  await writeFile(path, text, { flush: true });
  return { bytes: Buffer.byteLength(text), sha256: createHash('sha256').update(text).digest('hex') };
}

async function refuseExisting(out: string): Promise<void> {
  if (await stat(out).catch(() => undefined))
    throw new ImportError(printed`${out} exists already; remove it or choose another --out.`);
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

function gigabytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
