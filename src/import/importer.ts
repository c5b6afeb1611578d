/**
 * From other people's weights to a model package (docs/model-package.md). Everything is checked before the first byte is
 * written. The package grows in a folder beside its place and moves there when it is whole; an import that was interrupted
 * goes on with the files that were finished, if its sources and settings are still the same.
 */

import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { readSmall } from './bytes.js';
import { type Network, TITLES } from './components.js';
import { ImportError, inFile } from './errors.js';
import { closeAll, findWeights, type Found } from './find.js';
import { withLock } from './lock.js';
import { type AdapterOptions, type AddProduct, mergeAdapters } from './lora.js';
import type { Component } from './names.js';
import { isQuantised } from './quantise.js';
import { convertSentencePiece } from './sentencepiece.js';
import type { DitHints, DitSizes, TextEncoderSizes, TinyVaeSizes, VaeSizes } from './sizes.js';
import type { Tensor } from './tensor.js';
import { bodyBytes, isSmall, type TypeOf, writeSafeTensors, type WrittenFile } from './writer.js';

/** Of the matrices of a network; `int8` and `fp8` are those that quantise.ts lists, the others are then bf16. */
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
  /** Time, for manifest.json. */
  now?: () => Date;
  onStart?: (totalBytes: number) => void;
  onProgress?: (bytes: number, file: string) => void;
}

export interface Imported {
  directory: string;
  bytes: number;
  parameters: number;
  adapters: readonly { path: string; modules: number }[];
}

const FILES: Record<Component, string> = {
  dit: 'dit.safetensors',
  textEncoder: 'text_encoder.safetensors',
  vae: 'vae.safetensors',
  tinyVae: 'tiny_vae.safetensors',
};
const NEEDED: readonly Component[] = ['dit', 'textEncoder', 'vae'];
const NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;
const MOST_TOKENIZER_BYTES = 256 * 2 ** 20;
const STATE = 'import.json';
/** Kept free beside the package. */
const SPARE_BYTES = 64 * 2 ** 20;

/** As released with LongLive-1.3B; a network that was trained otherwise wants config.json edited. */
const SAMPLING = {
  framesPerBlock: 3,
  windowFrames: 12,
  sinkFrames: 3,
  rope: 'absolute',
  globalSink: true,
  timestepShift: 5,
  denoisingSteps: [1000, 750, 500, 250],
  warpDenoisingSteps: true,
  contextNoise: 0,
};
const VIDEO = { width: 832, height: 480, fps: 16 };

export async function importModel(options: ImportOptions): Promise<Imported> {
  const out = resolve(options.out);
  const name = options.name ?? basename(out);
  if (!NAME.test(name))
    throw new ImportError(`"${name}" cannot be the name of a model; use a-z, 0-9, dot, dash, underscore.`);
  await refuseExisting(out);
  const { sources, loras = [], hints = {}, ema = false, tokenizer } = options;
  const found = await findWeights(sources, { loras, hints, ema, tokenizer });
  try {
    return await write(out, name, found, options);
  } finally {
    await closeAll(found);
  }
}

interface Part {
  tensors: ReadonlyMap<string, Tensor>;
  typeOf: TypeOf;
}

async function write(out: string, name: string, found: Found, options: ImportOptions): Promise<Imported> {
  const tokenizer = await readTokenizer(found.tokenizer, options.checkTokenizer);
  const config = configOf(found);
  const parts = partsOf(found, options);
  await mkdir(dirname(out), { recursive: true });
  return withLock(`${out}.lock`, async (lost) => {
    await refuseExisting(out);
    const files = await writeFiles(`${out}.partial`, parts, found, options, { tokenizer, config });
    await writeText(join(`${out}.partial`, 'manifest.json'), json(manifestOf(name, files, options)));
    await rm(join(`${out}.partial`, STATE));
    lost.throwIfAborted();
    await rename(`${out}.partial`, out);
    return summaryOf(out, found, files);
  });
}

async function writeFiles(
  partial: string,
  parts: ReadonlyMap<string, Part>,
  found: Found,
  options: ImportOptions,
  { tokenizer, config }: { tokenizer: string; config: object },
): Promise<Record<string, WrittenFile>> {
  const total = [...parts.values()].reduce((sum, { tensors, typeOf }) => sum + bodyBytes(tensors, typeOf), 0);
  await mkdir(partial, { recursive: true });
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

async function readTokenizer(path: string | undefined, check?: (json: string) => void): Promise<string> {
  if (!path)
    throw new ImportError('There is no tokenizer.json or spiece.model in the sources; name one with --tokenizer.');
  return inFile(path, async () => {
    const bytes = await readSmall(path, MOST_TOKENIZER_BYTES);
    const text = isJson(bytes) ? bytes.toString('utf8') : json(convertSentencePiece(bytes));
    try {
      check?.(text);
    } catch (error) {
      throw new ImportError(error instanceof Error ? error.message : String(error));
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

function configOf(found: Found): object {
  const missing = NEEDED.filter((component) => !found.networks.has(component));
  if (missing.length > 0) {
    const names = missing.map((component) => `the ${TITLES[component]}`).join(' and ');
    throw new ImportError(`The sources lack ${names}; name a file that has it as well (docs/models.md says which).`);
  }
  const dit = networkOf(found, 'dit')?.sizes as DitSizes;
  const textEncoder = networkOf(found, 'textEncoder')?.sizes as TextEncoderSizes;
  const vae = networkOf(found, 'vae')?.sizes as VaeSizes;
  const tiny = networkOf(found, 'tinyVae')?.sizes as TinyVaeSizes | undefined;
  agree('width of the text', dit.textDim, textEncoder.dim);
  agree('number of latent channels', dit.inDim, vae.zDim);
  if (tiny) agree('number of latent channels of the tiny decoder', dit.outDim, tiny.zDim);
  return {
    formatVersion: 1,
    ...{ dit, textEncoder, vae, tinyVae: tiny ? { channels: tiny.channels } : null },
    ...{ sampling: SAMPLING, video: VIDEO },
  };
}

function agree(what: string, network: number, other: number): void {
  if (network === other) return;
  throw new ImportError(
    `The parts do not belong together: the ${what} is ${other}, the video network expects ${network}.`,
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
      tensors: component === 'dit' ? mergeAdapters(tensors, found.adapters, addProduct) : tensors,
      typeOf: typesOf(component, precisions[component]),
    });
  }
  return parts;
}

function typesOf(component: Component, precision: Precision): TypeOf {
  const matrix = precision === 'fp32' ? 'F32' : 'BF16';
  const quantised = ({ int8: 'I8', fp8: 'F8_E4M3', bf16: 'BF16', fp32: 'F32' } as const)[precision];
  return (name, tensor) => {
    if (isSmall(name, tensor)) return tensor.dtype === 'BF16' ? matrix : 'F32';
    return isQuantised(component, name) ? quantised : matrix;
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

function summaryOf(directory: string, found: Found, files: Record<string, WrittenFile>): Imported {
  const networks = [...found.networks.values()].map(({ network }) => network);
  return {
    directory,
    bytes: Object.values(files).reduce((sum, { bytes }) => sum + bytes, 0),
    parameters: networks
      .flatMap(({ tensors }) => [...tensors.values()])
      .reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1), 0),
    adapters: found.adapters.map(({ path, pairs }) => ({ path, modules: pairs.size })),
  };
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

async function readState(path: string): Promise<{ key: string; files: Record<string, WrittenFile> }> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as { key: string; files: Record<string, WrittenFile> };
  } catch {
    return { key: '', files: {} };
  }
}

/** Names, sizes and times of all sources, and every setting that changes what is written. */
async function fingerprint(found: Found, { precision, textEncoder, ema, hints }: ImportOptions): Promise<string> {
  const paths = [...found.sources.map(({ path }) => path), found.tokenizer as string];
  const files = await Promise.all(
    paths.map(async (path) => [resolve(path), (await stat(path)).size, (await stat(path)).mtimeMs]),
  );
  const adapters = found.adapters.map(({ path, weight, alpha }) => [path, weight, alpha]);
  return createHash('sha256').update(json({ files, adapters, precision, textEncoder, ema, hints })).digest('hex');
}

async function checkSpace(directory: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  const free = bavail * bsize;
  if (free > bytes + SPARE_BYTES) return;
  const place = dirname(directory);
  throw new ImportError(`The package needs ${gigabytes(bytes)}, but ${place} has only ${gigabytes(free)} left.`);
}

async function writeText(path: string, text: string): Promise<WrittenFile> {
  await writeFile(path, text, { flush: true });
  return { bytes: Buffer.byteLength(text), sha256: createHash('sha256').update(text).digest('hex') };
}

async function refuseExisting(out: string): Promise<void> {
  if (await stat(out).catch(() => undefined))
    throw new ImportError(`${out} exists already; remove it or choose another --out.`);
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

function gigabytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
