/** What there is in the files and folders that an import is given. */

import { printable, printed } from '../files/printable.js';
import { readdir, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { hintsIn, jsonBeside } from './beside.js';
import { readSmall } from './bytes.js';
import { componentOf, readNetwork, TITLES, type Network } from './components.js';
import { counted, ImportError, inFile, shown } from './errors.js';
import {
  BUNDLED,
  EMA_KEYS,
  INDEX_FILES,
  OTHER_FILES,
  SHARD_FILE,
  TOKENIZER_TENSOR,
  TRAINING_STATE,
  WEIGHT_FILES,
} from './layouts.js';
import { MOST_TOKENIZER_BYTES } from './limits.js';
import { type Adapter, type AdapterOptions, isAdapter, readAdapter } from './lora.js';
import { type Component, pickTensors, plainNames, unwrappedNames } from './names.js';
import type { DitHints, Hints } from './sizes.js';
import { distributedCheckpoint, openSource, otherFile, type Source } from './source.js';
import { checkConfig, CONFIG_FILE, type Json, statementsOf, unusedWords } from './strength.js';
import { countOf, type Tensor, wholeTensor } from './tensor.js';

export interface FoundNetwork {
  network: Network;
  path: string;
  /** The key that its weights stand under in the file. */
  outer: string;
  /** What the config.json beside it says. */
  hints: Hints;
}

/** A tokenizer.json or a SentencePiece model, in a file of its own or in a tensor. */
export interface FoundTokenizer {
  path: string;
  read(): Promise<Buffer>;
}

/** What is in a file or is one, and is not used. */
export interface Left {
  path: string;
  what: string;
}

export interface Found {
  networks: Map<Component, FoundNetwork>;
  adapters: Adapter[];
  tokenizer: FoundTokenizer | undefined;
  sources: Source[];
  left: Left[];
}

export interface FindOptions {
  hints: DitHints;
  /** Take averaged weights where a checkpoint has them. */
  ema: boolean;
  loras: readonly ({ path: string } & AdapterOptions)[];
  tokenizer?: string;
  /** Read weights of 8 bits as the numbers they stand for. */
  dequantize?: boolean;
}

/** Best first; behind them a tensor inside of weights. */
const TOKENIZERS = ['tokenizer.json', 'spiece.model'];
const DEEPEST = 3;
const OLD_BIN = /\.bin(\.index\.json)?$/;
/** Best first, in a folder with an adapter. */
const ADAPTER_FILES = /^(?:adapter_model|pytorch_lora_weights)\.(?:safetensors|bin|pt|pth|ckpt)$/i;

/** Opens everything; whoever gets the result closes its sources. */
export async function findWeights(paths: readonly string[], options: FindOptions): Promise<Found> {
  const { tokenizer } = options;
  const found: Found = { networks: new Map(), adapters: [], tokenizer: undefined, sources: [], left: [] };
  if (tokenizer !== undefined) found.tokenizer = tokenizerFile(tokenizer);
  try {
    const seen = new Set<string>();
    for (const { path: given, ...adapter } of options.loras) {
      const path = await adapterFileAt(given);
      seen.add(await realpathOf(path));
      const source = await open(found, path);
      found.adapters.push(await adapterOf(source, adapter));
    }
    const joined: string[] = [];
    const listing: Listing = { left: found.left, joined, entered: new Set() };
    const inside = async (given: string) =>
      (await filesIn(given, 0, listing)).map((path) => ({ path, named: path === given }));
    for (const { path, named } of (await Promise.all(paths.map(inside))).flat()) {
      if (seen.has(await realpathOf(path))) continue;
      const files = await take(found, path, named, options);
      for (const file of [path, ...files]) seen.add(await realpathOf(file));
    }
    for (const path of joined) {
      if (!seen.has(await realpath(path).catch(() => path)))
        found.left.push({ path, what: 'a shard that the index beside it does not name' });
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
    throw absent(path);
  });
}

function absent(path: string): ImportError {
  const elsewhere = /^\w+:\/\//.test(path) || /^[\w-]+\/[\w.-]+$/.test(path);
  const way = elsewhere ? ' Sources are files and folders on this machine; download it first.' : '';
  return new ImportError(printed`${path} does not exist.${way}`);
}

// -- folders

interface Listing {
  left: Left[];
  /** Shards that are read with the file that stands for them. */
  joined: string[];
  /** Folders that were entered, by what they are behind links. */
  entered: Set<string>;
}

/** A file itself; of a folder, what may be weights or a tokenizer. Files with weights of another kind are told. */
async function filesIn(path: string, depth: number, listing: Listing): Promise<string[]> {
  const { left } = listing;
  const found = await stat(path).catch(() => undefined);
  if (!found) throw absent(path);
  if (!found.isDirectory()) return [path];
  const place = await realpath(path);
  if (listing.entered.has(place)) {
    if (depth > 0) left.push({ path, what: 'a link to a folder that is searched already' });
    return [];
  }
  listing.entered.add(place);
  const all = await readdir(path);
  const distributed = distributedCheckpoint(path, all);
  if (distributed !== undefined) {
    if (depth === 0) throw new ImportError(printed`${path} is ${distributed}`);
    left.push({ path, what: distributed });
    return [];
  }
  const there = new Set(all);
  const taken = firstShards(all);
  const joined = all.filter((name) => !taken.includes(name) && !isOldTwin(name, there));
  listing.joined.push(...joined.map((name) => join(path, name)));
  const names = byUse(taken).filter((name) => !name.startsWith('.'));
  const inner: string[] = [];
  for (const name of names) {
    const file = join(path, name);
    const entry = await stat(file).catch(() => undefined);
    if (!entry) left.push({ path: file, what: 'broken link' });
    else if (entry.isDirectory()) inner.push(...(await folderIn(file, depth + 1, listing)));
    else if (isOldTwin(name, there)) left.push({ path: file, what: 'the safetensors beside it are used' });
    else if (TRAINING_STATE.test(name)) left.push({ path: file, what: 'state of a training run' });
    else if (TOKENIZERS.includes(name) || WEIGHT_FILES.test(name) || INDEX_FILES.test(name)) inner.push(file);
    else if (OTHER_FILES.some((other) => other.name.test(name))) left.push({ path: file, what: otherFile(file) ?? '' });
  }
  return inner;
}

async function folderIn(path: string, depth: number, listing: Listing): Promise<string[]> {
  if (depth <= DEEPEST) return filesIn(path, depth, listing);
  listing.left.push({
    path,
    what: `folders nested deeper than ${DEEPEST} are not searched; pass it as a source of its own`,
  });
  return [];
}

/** Indexes first, for the files that they name are read with them. */
function byUse(names: readonly string[]): string[] {
  const rank = (name: string) => (INDEX_FILES.test(name) ? 0 : 1);
  return [...names].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
}

/** Of shards only one is taken, which stands for all; none where an index names them. */
function firstShards(all: readonly string[]): string[] {
  const indexes = new Set(all.filter((name) => INDEX_FILES.test(name)).map((name) => name.replace(INDEX_FILES, '')));
  const taken = new Set<string>();
  return all.filter((name) => {
    const [, stem, , count, ending] = SHARD_FILE.exec(name) ?? [];
    if (stem === undefined) return true;
    const group = `${stem} ${count} ${ending}`;
    const indexed = indexes.has(`${stem}${ending}`) || taken.has(group);
    taken.add(group);
    return !indexed;
  });
}

/** Hugging Face's `.bin` of what is there as safetensors too. */
function isOldTwin(name: string, there: ReadonlySet<string>): boolean {
  const stem = name
    .replace(SHARD_FILE, '$1$4')
    .replace(OLD_BIN, '')
    .replace(/^pytorch_model$/, 'model');
  if (!OLD_BIN.test(name)) return false;
  return there.has(`${stem}.safetensors`) || there.has(`${stem}.safetensors.index.json`);
}

/** The file of an adapter that is named by its folder. */
export async function adapterFileAt(path: string): Promise<string> {
  const found = await stat(path).catch(() => undefined);
  if (!found) throw absent(path);
  if (!found.isDirectory()) return path;
  const names = (await readdir(path)).filter((name) => !name.startsWith('.'));
  const there = new Set(names);
  const weights = names.filter((name) => WEIGHT_FILES.test(name) && !isOldTwin(name, there)).sort();
  const usual = weights.filter((name) => ADAPTER_FILES.test(name));
  const safe = usual.filter((name) => /\.safetensors$/i.test(name));
  for (const candidates of [safe, usual, weights]) {
    if (candidates.length === 1) return join(path, candidates[0] as string);
    if (candidates.length > 1)
      throw new ImportError(printed`${path} has several adapters (${candidates.join(', ')}); name one of the files.`);
  }
  throw new ImportError(
    printed`${path} has no adapter; a folder of PEFT holds adapter_model.safetensors and ${CONFIG_FILE}.`,
  );
}

// -- one file

/** The files that were read. What is no network of ours is refused where it was named, and told where it lay in a folder. */
async function take(found: Found, path: string, named: boolean, options: FindOptions): Promise<readonly string[]> {
  if (TOKENIZERS.includes(basename(path))) {
    takeTokenizer(found, tokenizerFile(path), options);
    return [];
  }
  const source = await open(found, path);
  if (isAdapter(source.tensors) && !hasNetwork(source)) {
    found.adapters.push(await adapterOf(source, { weight: 1 }));
    return source.files;
  }
  try {
    await inFile(path, () => takeNetworks(found, source, options));
  } catch (error) {
    if (named || !(error instanceof ForeignError)) throw error;
    found.left.push({ path, what: error.message.slice(path.length + 2) });
  }
  return source.files;
}

/** Weights, but of something else. */
class ForeignError extends ImportError {}

function tokenizerFile(path: string): FoundTokenizer {
  return { path, read: () => readSmall(path, MOST_TOKENIZER_BYTES) };
}

/** The one that was asked for; else a tokenizer.json rather than what would have to be converted. */
function takeTokenizer(found: Found, tokenizer: FoundTokenizer, { tokenizer: asked }: FindOptions): void {
  const { tokenizer: before } = found;
  const better = asked === undefined && (before === undefined || rankOf(tokenizer) < rankOf(before));
  const unused = better ? before : tokenizer;
  if (better) found.tokenizer = tokenizer;
  if (unused) found.left.push({ path: unused.path, what: 'its tokenizer is not used: another one takes precedence' });
}

function rankOf({ path }: FoundTokenizer): number {
  const rank = TOKENIZERS.indexOf(basename(path));
  return rank < 0 ? TOKENIZERS.length : rank;
}

function hasNetwork(source: Source): boolean {
  return source.tensors.some(({ name }) => name.endsWith('patch_embedding.weight'));
}

async function takeNetworks(found: Found, source: Source, options: FindOptions): Promise<void> {
  const { path, tensors } = source;
  const first = options.ema ? EMA_KEYS : [];
  const { outer, tensors: plain, left } = pickTensors(tensors, first);
  for (const [key, count] of left) found.left.push({ path, what: leftUnder(key, count) });
  const bundle = componentOf(plain) ? [plain] : bundled(pickTensors(tensors, first, unwrappedNames).tensors);
  for (const each of bundle) await takeNetwork(found, path, outer, each, options);
}

function leftUnder(key: string, count: number): string {
  const what = `"${key}" in it is not used (${counted(count, 'tensor')})`;
  if (/lora/i.test(key)) return `${what}; to merge it, name the file with --lora as well`;
  return /ema/i.test(key) ? `${what}; --ema takes it` : what;
}

/** The networks of a file that holds several, each under its own prefix. */
function bundled(named: ReadonlyMap<string, Tensor>): ReadonlyMap<string, Tensor>[] {
  const groups = BUNDLED.map((prefix) => [...named].filter(([name]) => prefix.test(name)));
  const whole = groups.filter((group) => group.length > 0);
  if (whole.length < 2) return [plainNames([...named].map(([name, tensor]) => ({ ...tensor, name })))];
  const rest = [...named].filter(([name]) => !BUNDLED.some((prefix) => prefix.test(name)));
  if (rest.length > 0)
    throw new ImportError(printed`It contains several networks, and "${rest[0]?.[0]}" belongs to none of them.`);
  return whole.map((group) => plainNames(group.map(([name, tensor]) => ({ ...tensor, name }))));
}

async function takeNetwork(
  found: Found,
  path: string,
  outer: string,
  plain: ReadonlyMap<string, Tensor>,
  options: FindOptions,
): Promise<void> {
  const component = componentOf(plain);
  if (!component) {
    const names = [...plain.keys()]
      .slice(0, 3)
      .map((name) => shown(name))
      .join(', ');
    throw new ForeignError(printed`These are not the weights of a network that LongLive uses; it has ${names}, …`);
  }
  const before = found.networks.get(component);
  if (before)
    throw new ImportError(printed`${before.path} also contains a ${TITLES[component]}; pass only one of them.`);
  const config = await jsonBeside(path, 'config.json');
  const beside = config ? hintsIn(config, join(dirname(path), 'config.json')) : {};
  const hints = { ...beside, ...options.hints };
  const network = readNetwork(component, plain, { ...hints, ...(options.dequantize && { dequantize: true }) });
  found.networks.set(component, { network, path, outer, hints });
  const { unused } = network;
  const pieces = plain.get(TOKENIZER_TENSOR);
  const others = unused.filter((name) => name !== TOKENIZER_TENSOR);
  if (pieces) takeTokenizer(found, tokenizerTensor(path, pieces), options);
  if (others.length > 0)
    found.left.push({
      path,
      what: `${counted(others.length, 'tensor')} that generation does not need ("${others[0]}", …)`,
    });
}

function tokenizerTensor(path: string, tensor: Tensor): FoundTokenizer {
  return {
    path,
    read: async () => {
      if (countOf(tensor.shape) > MOST_TOKENIZER_BYTES)
        throw new ImportError(printed`${path}: its tokenizer is too large.`);
      return Buffer.from(await wholeTensor(tensor));
    },
  };
}

// -- adapters

async function adapterOf({ path, tensors, metadata }: Source, options: AdapterOptions): Promise<Adapter> {
  return inFile(path, async () => {
    const config = await adapterConfig(path);
    if (config) checkConfig(config, CONFIG_FILE);
    const adapter = await readAdapter(path, tensors, options, statementsOf(config, metadata));
    const names = tensors.map(({ name }) => name);
    return { ...adapter, notes: [...adapter.notes, ...unusedWords(config, metadata, names).map(printable)] };
  });
}

/** Of PEFT; where `adapter_model` is in the folder the config is of that and of no other file. */
async function adapterConfig(path: string): Promise<Json | undefined> {
  const names = await readdir(dirname(path)).catch(() => [] as string[]);
  const others = names.some((name) => /^adapter_model\./i.test(name)) && !/^adapter_model\./i.test(basename(path));
  return others ? undefined : jsonBeside(path, CONFIG_FILE);
}

async function open(found: Found, path: string): Promise<Source> {
  const source = await openSource(path);
  found.sources.push(source);
  return source;
}
