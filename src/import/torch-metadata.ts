/**
 * What a PyTorch checkpoint says of an adapter beside its tensors, as the metadata of a safetensors file would have it; and,
 * under their paths, all other numbers whose names speak of strength, so that none of them is dropped in silence.
 */

import { printed } from '../files/printable.js';
import { ImportError, shown } from './errors.js';
import { PARTS } from './layouts.js';
import type { Allowance } from './limits.js';
import { ALPHA_MAPS, BESIDE, isIdle, OF_ADAPTER, strengthIn, unusedNote } from './metadata.js';
import { alone, COST, Dict, itemsOf } from './pickle-values.js';
import type { Json, Metadata } from './strength.js';

/** Words that nothing but an adapter has: a training run's `rank` is its place among others, and its `alpha` of 0 is nothing. */
const OF_ADAPTERS =
  /^(?:lora_alpha|lora_rank|lora_dim|network_alpha|network_dim|use_rslora|use_dora|alpha_pattern|rank_pattern|ss_network_(?:alpha|dim))$/;
/** Of whoever counts processes, not ranks of factors, as texts or numbers. */
const AMBIGUOUS = /^(?:r|rank|alpha)$/;
/** Words that may change what an adapter does; what decays weights does not. */
const OF_STRENGTH = /alpha|rank|scal(?:e|ing)|multiplier|strength|weight(?!_decay)/i;
/** Told first; what stands under such a word is of strength, too, whatever it is called: `scaling: {default: 0.5}`. */
const MOST_RELEVANT = /alpha|scal(?:e|ing)|multiplier|strength/i;

/** A whole configuration under one key, and the patterns in it. */
const DEEPEST = 4;
/** Whoever looks for words goes further. */
const DEEPEST_WORD = 8;
const LONGEST_LIST = 64;
const MOST_NOTES = 8;

export function metadataOf(checkpoint: unknown, allowance: Allowance): Metadata {
  const said = new Map<string, string>();
  if (!(checkpoint instanceof Dict)) return said;
  for (const [key, item] of checkpoint.entries) {
    const name = String(key);
    if (!isSaid(name, item)) continue;
    const plain = plainOf(alone(item), allowance, DEEPEST);
    if (plain !== undefined) said.set(name, typeof plain === 'object' ? JSON.stringify(plain) : String(plain));
  }
  collect(checkpoint.entries, { said, allowance }, BESIDE, false, 0);
  return said;
}

function isSaid(name: string, item: unknown): boolean {
  if (OF_ADAPTERS.test(name) || (name === 'alpha' && Number(alone(item)) > 0)) return true;
  if (typeof item === 'string') return !AMBIGUOUS.test(name);
  return item instanceof Dict && (ALPHA_MAPS.has(name) || isConfiguration(name, item, DEEPEST));
}

/** One that says lora_alpha, or alpha where its key tells that it is an adapter's; also inside of others, as of a whole run. */
function isConfiguration(key: string, { entries }: Dict, depth: number): boolean {
  if (entries.has('lora_alpha') || (OF_ADAPTER.test(key) && entries.has('alpha'))) return true;
  return (
    depth > 0 &&
    [...entries].some(([name, item]) => item instanceof Dict && isConfiguration(String(name), item, depth - 1))
  );
}

/** Texts, numbers, and dicts and lists of them; nothing else. The same dict may stand in many places: each of them counts. */
function plainOf(item: unknown, allowance: Allowance, depth: number): string | number | boolean | object | undefined {
  allowance.spend(COST.entry + (typeof item === 'string' ? COST.character * item.length : 0));
  if (typeof item === 'bigint') return Number(item);
  if (typeof item === 'string' || typeof item === 'number' || typeof item === 'boolean') return item;
  if (depth === 0) return undefined;
  const items = itemsOf(item);
  if (items) return items.length > LONGEST_LIST ? undefined : items.map((each) => plainOf(each, allowance, depth - 1));
  if (!(item instanceof Dict)) return undefined;
  return Object.fromEntries(
    [...item.entries].map(([key, inner]) => [key, plainOf(inner, allowance, depth - 1)]),
  ) as object;
}

// -- words at any level

interface Collected {
  said: Map<string, string>;
  allowance: Allowance;
}

function collect(
  entries: Iterable<readonly [unknown, unknown]>,
  to: Collected,
  path: string,
  within: boolean,
  depth: number,
): void {
  for (const [key, item] of entries) {
    to.allowance.spend(COST.reference);
    const name = String(key);
    const at = path === BESIDE ? `${path}${name}` : `${path}${BESIDE}${name}`;
    const inside = item instanceof Dict ? item.entries : listsOfDicts(item, to.allowance);
    if (inside) {
      const of = within || MOST_RELEVANT.test(name);
      if (depth < DEEPEST_WORD && !ALPHA_MAPS.has(name) && !/_pattern$/.test(name))
        collect(inside, to, at, of, depth + 1);
      continue;
    }
    const value = within || OF_STRENGTH.test(name) ? item : depth > 0 && speaks(item) ? item : undefined;
    const text = value === undefined ? undefined : textOf(value, to.allowance);
    if (text !== undefined) to.said.set(at, text);
  }
}

function speaks(item: unknown): boolean {
  return typeof item === 'string' && strengthIn(item).length > 0;
}

function listsOfDicts(item: unknown, allowance: Allowance): [string, unknown][] | undefined {
  const items = itemsOf(item);
  if (!items) return undefined;
  allowance.spend(items.length);
  const dicts = items.flatMap((each, i): [string, unknown][] => (each instanceof Dict ? [[String(i), each]] : []));
  return dicts.length > 0 ? dicts : undefined;
}

/** As JSON, but for numbers that JSON does not have. */
function textOf(item: unknown, allowance: Allowance): string | undefined {
  if (isIdle(item)) return undefined;
  const plain = plainOf(item, allowance, 2);
  if (plain === undefined || (Array.isArray(plain) && !plain.some((each) => each !== undefined))) return undefined;
  return typeof plain === 'number' ? String(plain) : JSON.stringify(plain);
}

/** Alphas of modules that stand among the tensors without being ones, by the path of the module. */
export function ownAlphas(metadata: Metadata): Map<string, string> {
  const found = new Map<string, string>();
  for (const [key, text] of metadata) {
    const module = moduleOfAlpha(key);
    if (module !== undefined) found.set(module, text);
  }
  return found;
}

/** A number, also as a text and in a list of one. */
export function ownAlpha(module: string, text: string): number {
  const [, alpha] = /^\[?"?([^\]"]+)"?\]?$/.exec(text) ?? [];
  const number = Number(alpha);
  if (Number.isFinite(number) && number >= 0) return number;
  throw new ImportError(printed`The alpha of "${module}" is ${text}; it should be a number above 0.`);
}

function moduleOfAlpha(key: string): string | undefined {
  if (!key.startsWith(BESIDE)) return undefined;
  return moduleOf(key.slice(BESIDE.length), 'alpha');
}

/** The module that a tensor's name is of, with the keys in front of it. */
export function moduleOf(name: string, kind: 'a' | 'alpha'): string | undefined {
  for (const { pattern, part } of PARTS) if (part === kind && pattern.test(name)) return pattern.exec(name)?.[1];
  return undefined;
}

/** A sentence for each word beside the tensors that was not read. `read`: what was, by its word. */
export function unusedBeside(metadata: Metadata, names: readonly string[], read: Json): string[] {
  const modules = new Set(names.map((name) => moduleOf(name, 'a')));
  const unused = [...metadata].flatMap(([key, text]): [string, string][] => {
    if (!key.startsWith(BESIDE)) return [];
    const path = key.slice(BESIDE.length).split(BESIDE);
    const own = moduleOfAlpha(key);
    if ((own !== undefined && modules.has(own)) || isRead(path, text, metadata, read)) return [];
    return [[path.reverse().join(' of '), text]];
  });
  const isFirst = ([place]: [string, string]) => MOST_RELEVANT.test(place);
  const all = [...unused.filter(isFirst), ...unused.filter((each) => !isFirst(each))];
  const told = all
    .slice(0, MOST_NOTES)
    .map(([place, text]) => unusedNote(place, 'beside its tensors', shown(text, 60)));
  const more = all.length - told.length;
  return more > 0 ? [...told, `${more} more words of strength beside its tensors are not used.`] : told;
}

/** Whether it says what was read, or is told as metadata is. */
function isRead(path: readonly string[], text: string, metadata: Metadata, read: Json): boolean {
  const said = read[path.at(-1) as string];
  const isSame = said !== undefined && [JSON.stringify(said), JSON.stringify([said]), said].includes(text);
  return isSame || (path.length === 1 && metadata.has(path[0] as string));
}
