/** What there is in the files and folders that an import is given. */

import { readdir, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { readSmall } from './bytes.js';
import { componentOf, readNetwork, TITLES, type Network } from './components.js';
import { ImportError, inFile } from './errors.js';
import { type Adapter, type AdapterOptions, isAdapter, readAdapter } from './lora.js';
import { type Component, pickTensors } from './names.js';
import type { DitHints, Hints } from './sizes.js';
import { openSource, type Source } from './source.js';

export interface Found {
  networks: Map<Component, { network: Network; path: string; outer: string }>;
  adapters: Adapter[];
  /** tokenizer.json, or a SentencePiece model. */
  tokenizer: string | undefined;
  sources: Source[];
}

export interface FindOptions {
  hints: DitHints;
  /** Take averaged weights where a checkpoint has them. */
  ema: boolean;
  loras: readonly ({ path: string } & AdapterOptions)[];
  tokenizer?: string;
}

/** Best first. */
const TOKENIZERS = ['tokenizer.json', 'spiece.model'];
const DEEPEST = 3;
const MOST_CONFIG_BYTES = 2 ** 20;
const WEIGHTS = /\.(pt|pth|bin|safetensors|index\.json)$/;
const OLD_BIN = /\.bin(\.index\.json)?$/;
const SHARD = /-\d{5}-of-\d{5}\.(safetensors|bin)$/;

/** Opens everything; whoever gets the result closes its sources. */
export async function findWeights(paths: readonly string[], options: FindOptions): Promise<Found> {
  const found: Found = { networks: new Map(), adapters: [], tokenizer: options.tokenizer, sources: [] };
  try {
    const seen = new Set<string>();
    for (const { path, ...adapter } of options.loras) {
      seen.add(await realpathOf(path));
      const source = await open(found, path);
      found.adapters.push(await adapterOf(source, adapter));
    }
    for (const path of (await Promise.all(paths.map((given) => filesIn(given, 0)))).flat()) {
      const real = await realpathOf(path);
      if (!seen.has(real)) await take(found, path, options);
      seen.add(real);
    }
  } catch (error) {
    await closeAll(found);
    throw error;
  }
  return found;
}

export async function closeAll({ sources }: Pick<Found, 'sources'>): Promise<void> {
  await Promise.all(sources.map((source) => source.close()));
}

async function realpathOf(path: string): Promise<string> {
  return realpath(path).catch(() => {
    throw new ImportError(`${path} does not exist.`);
  });
}

/** A file itself; of a folder, what may be weights or a tokenizer. */
async function filesIn(path: string, depth: number): Promise<string[]> {
  const found = await stat(path).catch(() => undefined);
  if (!found) throw new ImportError(`${path} does not exist.`);
  if (!found.isDirectory()) return [path];
  if (depth >= DEEPEST) return [];
  const all = await readdir(path);
  const names = all.filter((name) => !name.startsWith('.') && !isOldTwin(name, all)).sort();
  const inner: string[] = [];
  for (const name of names) {
    const file = join(path, name);
    if ((await stat(file)).isDirectory()) inner.push(...(await filesIn(file, depth + 1)));
    else if (TOKENIZERS.includes(name) || (WEIGHTS.test(name) && !SHARD.test(name))) inner.push(file);
  }
  return inner;
}

/** Hugging Face's `.bin` of what is there as safetensors too. */
function isOldTwin(name: string, all: readonly string[]): boolean {
  if (!OLD_BIN.test(name)) return false;
  const stem = name.replace(OLD_BIN, '').replace(/^pytorch_model$/, 'model');
  return all.includes(`${stem}.safetensors`) || all.includes(`${stem}.safetensors.index.json`);
}

async function take(found: Found, path: string, options: FindOptions): Promise<void> {
  if (TOKENIZERS.includes(basename(path))) {
    found.tokenizer = betterTokenizer(found.tokenizer, path, options.tokenizer);
    return;
  }
  const source = await open(found, path);
  if (isAdapter(source.tensors) && !hasNetwork(source)) {
    found.adapters.push(await adapterOf(source, { weight: 1 }));
    return;
  }
  await inFile(path, () => takeNetwork(found, source, options));
}

/** The one that was asked for; else a tokenizer.json rather than what would have to be converted. */
function betterTokenizer(before: string | undefined, found: string, asked: string | undefined): string {
  if (asked !== undefined) return asked;
  if (before === undefined) return found;
  const rank = (path: string) => TOKENIZERS.indexOf(basename(path));
  return rank(found) < rank(before) ? found : before;
}

function hasNetwork(source: Source): boolean {
  return source.tensors.some(({ name }) => name.endsWith('patch_embedding.weight'));
}

async function takeNetwork(found: Found, { path, tensors }: Source, options: FindOptions): Promise<void> {
  const { outer, tensors: plain } = pickTensors(tensors, options.ema ? ['generator_ema'] : []);
  const component = componentOf(plain);
  if (!component) {
    const names = [...plain.keys()].slice(0, 3).join(', ');
    throw new ImportError(`These are not the weights of a network that LongLive uses; it has ${names}, …`);
  }
  const before = found.networks.get(component);
  if (before)
    throw new ImportError(`There is a ${TITLES[component]} in ${before.path} already; name only one of them.`);
  const hints = { ...hintsIn(await jsonBeside(path, 'config.json')), ...options.hints };
  found.networks.set(component, { network: readNetwork(component, plain, hints), path, outer });
}

async function adapterOf({ path, tensors }: Source, options: AdapterOptions): Promise<Adapter> {
  const config = await jsonBeside(path, 'adapter_config.json');
  const [alpha, rank] = [config.lora_alpha, config.r];
  // With use_rslora the scale is alpha / sqrt(rank).
  const factor = config.use_rslora === true && typeof rank === 'number' ? Math.sqrt(rank) : 1;
  const known = typeof alpha === 'number' ? { alpha: alpha * factor } : {};
  return readAdapter(path, tensors, { ...known, ...options });
}

/** What a config.json beside the weights says that their shapes do not, in Wan's, in Diffusers' or in a model package's words. */
function hintsIn(config: Record<string, unknown>): Hints {
  const { dit, vae } = config as { dit?: Record<string, unknown>; vae?: Record<string, unknown> };
  const count = (value: unknown) => (typeof value === 'number' ? value : undefined);
  const row = (value: unknown) => (isRow(value) ? value : undefined);
  const hints: Hints = {
    numHeads: count(config.num_heads ?? config.num_attention_heads ?? dit?.numHeads),
    textLen: count(config.text_len ?? dit?.textLen),
    mean: row(config.latents_mean ?? vae?.mean),
    std: row(config.latents_std ?? vae?.std),
  };
  return Object.fromEntries(Object.entries(hints).filter(([, value]) => value !== undefined));
}

function isRow(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((number) => Number.isFinite(number));
}

async function jsonBeside(path: string, name: string): Promise<Record<string, unknown>> {
  try {
    const json = JSON.parse((await readSmall(join(dirname(path), name), MOST_CONFIG_BYTES)).toString()) as unknown;
    return typeof json === 'object' && json !== null ? (json as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

async function open(found: Found, path: string): Promise<Source> {
  const source = await openSource(path);
  found.sources.push(source);
  return source;
}
