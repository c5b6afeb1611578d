/**
 * What the metadata of an adapter's file says of its strength, wherever it stands: keys of its own, a whole configuration as
 * JSON under another key (also inside of others), options of a trainer ("alpha=16"). Keys of kohya's own (`ss_…`) are apart.
 */

import { printed } from '../files/printable.js';
import { ImportError, shown } from './errors.js';
import type { Json, Metadata } from './strength.js';

/** The network that an adapter is for, as those who keep several in one file write it. */
const NETWORK = /^(?:transformer|unet|dit|generator|model|diffusion_model)$/;
export const NETWORK_PREFIX = /^(?:transformer|unet|dit|generator|model|diffusion_model)\./;
/** Keys whose object is the configuration of an adapter, so that a bare `alpha` in it is its own. */
export const OF_ADAPTER = /(?:^|_)(?:lora|adapter|peft|network|lycoris)(?:_|$)/i;
/** Of a trainer's own adapter, which the file need not be as it was saved: told, not used. */
const ABOUT_ADAPTER = /lora|adapter|peft|network|lycoris/i;
/** What such a configuration says of strength. */
const STRENGTH = /alpha|rs_?lora|dora|lora_scale|multiplier/i;
/** Keys that may hold an alpha for each module, as Diffusers hands them on. */
export const ALPHA_MAPS: ReadonlySet<string> = new Set([
  ...['network_alphas', 'lora_alphas', 'alphas'],
  ...['lora_alpha', 'network_alpha', 'alpha'],
]);
export const UNSAID = /^(?:none|null|dynamic|)$/i;
const DEEPEST = 5;

/** In front of the path of what a PyTorch file says anywhere beside its tensors (torch-metadata.ts). */
export const BESIDE = '//';

export interface Said {
  /** By their plain keys; of what is said twice the first. */
  keys: Json;
  /** What is said in places where nobody looks for it, by its place. */
  elsewhere: readonly (readonly [place: string, value: unknown])[];
}

/** Trainers that write an alpha tensor for each module have everything else multiplied into it. */
export function saidIn(metadata: Metadata, apart: string, hasAlphas = true): Said {
  const keys: Json = {};
  const elsewhere: [string, unknown][] = [];
  for (const [key, value] of metadata) {
    if (key === apart || key.startsWith(BESIDE)) continue;
    const { inner, options } = innerOf(key, value);
    if (key.startsWith('ss_')) {
      if (inner && !hasAlphas)
        elsewhere.push(...told(inner, key, true).filter(([place]) => !place.startsWith('conv_')));
      continue;
    }
    keys[key.replace(NETWORK_PREFIX, '')] ??= value;
    if (!inner)
      elsewhere.push(...strengthIn(value).map(([word, said]) => [`${word} of ${key}`, said] as [string, string]));
    if (!inner || ALPHA_MAPS.has(key)) continue;
    const found = configurationIn(inner, OF_ADAPTER.test(key), 0);
    for (const [name, each] of Object.entries(found ?? {})) keys[name] ??= each;
    elsewhere.push(
      ...told(inner, key, options || ABOUT_ADAPTER.test(key)).filter(
        ([place]) => !isUsed(place, found) && !metadata.has(pathOf(place)),
      ),
    );
  }
  for (const key of ['alpha_pattern', 'rank_pattern']) {
    if (typeof keys[key] === 'string') keys[key] = UNSAID.test(keys[key]) ? undefined : parseObject(keys[key]);
  }
  return { keys, elsewhere };
}

/** A place as metadata of PyTorch files has it, which are told by themselves. */
function pathOf(place: string): string {
  return `//${place.split(' of ').reverse().join('//')}`;
}

/** An object, if a value is one: JSON (also as text inside of JSON), or the options that a trainer was given. */
function innerOf(key: string, value: string, depth = 0): { inner?: Json | undefined; options?: boolean } {
  const text = value.trim();
  if (text.startsWith('{')) return { inner: parseObject(text) };
  if (text.startsWith('"')) {
    const within = parsed(text);
    return typeof within === 'string' && depth < DEEPEST ? innerOf(key, within, depth + 1) : {};
  }
  const options = optionsIn(text);
  if (options) return { inner: options, options: true };
  if (!OF_ADAPTER.test(key)) return {};
  const words = text.startsWith('[') ? parseList(text) : text.split(/[\s,;]+/);
  const pairs = words.flatMap((word) => (/^([\w.]+)=(.*)$/.exec(word) ? [word.split(/=(.*)/s).slice(0, 2)] : []));
  return pairs.length === 0 ? {} : { inner: Object.fromEntries(pairs) as Json };
}

/** Of a command line: `--lora_alpha 16`, `--network_alpha=16`. */
function optionsIn(text: string): Json | undefined {
  if (!/(?:^|\s)--\w/.test(text)) return undefined;
  const words = text.split(/\s+/);
  const options = words.flatMap((word, i): [string, string][] => {
    const [, key, own] = /^--([\w.-]{1,100})(?:=(.*))?$/s.exec(word) ?? [];
    const next = words[i + 1] ?? '';
    if (key === undefined) return [];
    return [[key.replaceAll('-', '_'), own ?? (next === '' || next.startsWith('--') ? 'true' : next)]];
  });
  return options.length > 0 ? Object.fromEntries(options) : undefined;
}

/** A word of strength and the number behind it; all parts are bounded, so that it takes time in proportion to the text. */
const SPOKEN =
  /(?:alpha|scal(?:e|ing)|multiplier|strength|rank)[\w-]{0,24}["']?(?:\s{0,4}[:=]\s{0,4}|\s{1,4})["'([]?([-+]?(?:\d|\.\d)[\d.]{0,12})/gi;
const MOST_SPOKEN = 4;
const LONGEST_WORD = 40;

/** What a text that nobody can read (YAML, Python's dicts, prose) says of strength: words and numbers. */
export function strengthIn(text: string): [word: string, value: string][] {
  const found = new Map<string, string>();
  for (const match of text.matchAll(SPOKEN)) {
    const before = /[\w-]*$/.exec(text.slice(Math.max(0, match.index - LONGEST_WORD), match.index))?.[0] ?? '';
    const word = `${before}${/^[\w-]+/.exec(match[0])?.[0] ?? ''}`.replace(/^-+/, '');
    if (!found.has(word)) found.set(word, match[1] as string);
    if (found.size === MOST_SPOKEN) break;
  }
  const telling = [...found].filter(([word]) => !/rank/i.test(word));
  return telling.length > 0 ? telling : [...found];
}

export function unusedNote(place: string, where: string, value: string): string {
  return `${shown(place)} ${where} is ${value}; it is not used, for it is not known as the strength of this file.`;
}

/** The object that configures an adapter: one that says lora_alpha, or alpha where its key tells that it is one. */
function configurationIn(json: Json, named: boolean, depth: number): Json | undefined {
  const own = withoutNetwork(json);
  const says = ['lora_alpha', 'use_rslora'].some((key) => key in own) || (named && isConfiguration(own));
  if (says) return own;
  if (depth === DEEPEST) return undefined;
  for (const [key, value] of Object.entries(json)) {
    const found = isObject(value) ? configurationIn(value, OF_ADAPTER.test(key), depth + 1) : undefined;
    if (found) return found;
  }
  return undefined;
}

function isConfiguration(json: Json): boolean {
  return 'alpha' in json || 'network_alpha' in json;
}

/** What is said of an adapter's strength in an object, by its place. */
export function told(
  json: Json,
  place: string,
  about: boolean,
  depth = 0,
  words: RegExp = STRENGTH,
): [string, unknown][] {
  return Object.entries(json).flatMap(([key, value]): [string, unknown][] => {
    const at = `${key} of ${place}`;
    if (isObject(value))
      return depth < DEEPEST ? told(value, at, about || ABOUT_ADAPTER.test(key), depth + 1, words) : [];
    if (Array.isArray(value)) {
      const objects = value.filter(isObject);
      return depth < DEEPEST
        ? objects.flatMap((each) => told(each, at, about || ABOUT_ADAPTER.test(key), depth + 1, words))
        : [];
    }
    if (about && words.test(key)) return isIdle(value) ? [] : [[at, value]];
    if (typeof value !== 'string') return [];
    return strengthIn(value).map(([word, said]) => [`${word} of ${at}`, said]);
  });
}

function isUsed(place: string, found: Json | undefined): boolean {
  return found !== undefined && (place.split(' of ')[0]?.replace(NETWORK_PREFIX, '') ?? '') in found;
}

export function isIdle(value: unknown): boolean {
  return (
    value === undefined ||
    value === null ||
    value === false ||
    (typeof value === 'string' && /^false$/i.test(value)) ||
    isUnsaid(value)
  );
}

function isUnsaid(value: unknown): boolean {
  return typeof value === 'string' && UNSAID.test(value.trim());
}

/** Keys without the network in front of them, be it by a dot or as an object of its own. */
export function withoutNetwork(said: Json): Json {
  const found: Json = {};
  for (const [key, value] of Object.entries(said)) {
    const own = NETWORK.test(key) && isObject(value) ? value : { [key.replace(NETWORK_PREFIX, '')]: value };
    for (const [name, each] of Object.entries(own)) found[name] ??= each;
  }
  return found;
}

export function parseObject(text: string): Json | undefined {
  const json = parsed(text);
  return isObject(json) ? json : undefined;
}

function parseList(text: string): string[] {
  const json = parsed(text);
  return Array.isArray(json) ? json.filter((each) => typeof each === 'string') : [];
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}

export const MOST_PATTERNS = 2_000;

/** Of an alpha for each module, as an object or as the JSON of one. */
export function mapIn(value: unknown): Json | undefined {
  const json = typeof value === 'string' && value.trim().startsWith('{') ? parseObject(value) : value;
  if (!isObject(json)) return undefined;
  if (Object.keys(json).length > MOST_PATTERNS)
    throw new ImportError(printed`it has an alpha for more than ${MOST_PATTERNS} modules.`);
  return json;
}
