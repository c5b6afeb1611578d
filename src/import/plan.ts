/** What an import would do: everything is read and checked here, and nothing is written. */

import { printable, printed } from '../files/printable.js';
import { type Network, TITLES } from './components.js';
import { ImportError, inFile, lined, listed } from './errors.js';
import { closeAll, findWeights, type Found, type FoundTokenizer, type Left } from './find.js';
import { json } from './json.js';
import { type Adapter, type AdapterOptions, checkNumbers } from './lora.js';
import { type AddProduct, mergeAdapters } from './merge.js';
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
import { bodyBytes, isSmall, type TypeOf } from './writer.js';

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
/** Of why a file is not used; it ends with what to do. */
const LONGEST_REASON = 1_000;

interface Part {
  component: Component;
  tensors: ReadonlyMap<string, Tensor>;
  typeOf: TypeOf;
}

/** What is written, all of it checked. */
export interface Prepared {
  found: Found;
  tokenizer: string;
  config: Plan['config'];
  parts: ReadonlyMap<string, Part>;
}

export async function whenPrepared<T>(options: ImportOptions, use: (prepared: Prepared) => Promise<T>): Promise<T> {
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

export function planOf(name: string, { found, parts, config }: Prepared): Plan {
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

export function plannedAdapter({ path, layout, weight, pairs, differences, notes }: Adapter): PlannedAdapter {
  const strengths = new Map<string, PlannedAdapter['strengths'][number]>();
  for (const { rank, strength } of pairs.values()) {
    const factor = weight * strength.factor;
    const key = [factor, rank, strength.where].join();
    const { matrices = 0 } = strengths.get(key) ?? {};
    strengths.set(key, { factor, alpha: strength.alpha, rank, where: strength.where, matrices: matrices + 1 });
  }
  return { path, layout, weight, strengths: [...strengths.values()], differences: differences.size, notes };
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

function parametersIn(tensors: ReadonlyMap<string, Tensor>): number {
  return [...tensors.values()].reduce((sum, { shape }) => sum + countOf(shape), 0);
}
