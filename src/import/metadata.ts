/**
 * What the metadata of an adapter's file says of its strength, wherever it stands: keys of its own, a whole configuration as
 * JSON under another key (also inside of others), options of a trainer ("alpha=16"). Keys of kohya's own (`ss_…`) are apart.
 */

import { type Json, type Metadata } from './strength.js';

/** The network that an adapter is for, as those who keep several in one file write it. */
const NETWORK = /^(?:transformer|unet|dit|generator|model|diffusion_model)$/;
export const NETWORK_PREFIX = /^(?:transformer|unet|dit|generator|model|diffusion_model)\./;
/** Keys whose object is the configuration of an adapter, so that a bare `alpha` in it is its own. */
export const OF_ADAPTER = /(?:^|_)(?:lora|adapter|peft|network|lycoris)(?:_|$)/i;
/** Of a trainer's own adapter, which the file need not be as it was saved: told, not used. */
const ABOUT_ADAPTER = /lora|adapter|peft|network|lycoris/i;
/** What such a configuration says of strength. */
const STRENGTH = /alpha|rs_?lora|dora|lora_scale|multiplier/i;
export const UNSAID = /^(?:none|null|dynamic|)$/i;
const DEEPEST = 5;

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
    if (key === apart) continue;
    const inner = innerOf(key, value);
    if (key.startsWith('ss_')) {
      if (inner && !hasAlphas)
        elsewhere.push(...told(inner, key, true).filter(([place]) => !place.startsWith('conv_')));
      continue;
    }
    keys[key.replace(NETWORK_PREFIX, '')] ??= value;
    if (!inner) continue;
    const found = configurationIn(inner, OF_ADAPTER.test(key), 0);
    for (const [name, each] of Object.entries(found ?? {})) keys[name] ??= each;
    elsewhere.push(...told(inner, key, ABOUT_ADAPTER.test(key)).filter(([place]) => !isUsed(place, found)));
  }
  for (const key of ['alpha_pattern', 'rank_pattern']) {
    if (typeof keys[key] === 'string') keys[key] = UNSAID.test(keys[key]) ? undefined : parseObject(keys[key]);
  }
  return { keys, elsewhere };
}

/** An object, if a value is one: JSON, or the options that a trainer was given. */
function innerOf(key: string, value: string): Json | undefined {
  const text = value.trim();
  if (text.startsWith('{')) return parseObject(text);
  if (!OF_ADAPTER.test(key)) return undefined;
  const words = text.startsWith('[') ? parseList(text) : text.split(/[\s,;]+/);
  const pairs = words.flatMap((word) => (/^([\w.]+)=(.*)$/.exec(word) ? [word.split(/=(.*)/s).slice(0, 2)] : []));
  return pairs.length === 0 ? undefined : (Object.fromEntries(pairs) as Json);
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
function told(json: Json, place: string, about: boolean, depth = 0): [string, unknown][] {
  return Object.entries(json).flatMap(([key, value]): [string, unknown][] => {
    const at = `${key} of ${place}`;
    if (isObject(value)) return depth < DEEPEST ? told(value, at, about || ABOUT_ADAPTER.test(key), depth + 1) : [];
    if (Array.isArray(value)) {
      const objects = value.filter(isObject);
      return depth < DEEPEST
        ? objects.flatMap((each) => told(each, at, about || ABOUT_ADAPTER.test(key), depth + 1))
        : [];
    }
    return about && STRENGTH.test(key) && !isIdle(value) ? [[at, value]] : [];
  });
}

function isUsed(place: string, found: Json | undefined): boolean {
  return found !== undefined && (place.split(' of ')[0]?.replace(NETWORK_PREFIX, '') ?? '') in found;
}

export function isIdle(value: unknown): boolean {
  return value === null || value === false || (typeof value === 'string' && /^false$/i.test(value)) || isUnsaid(value);
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
  try {
    const json = JSON.parse(text) as unknown;
    return isObject(json) ? json : undefined;
  } catch {
    return undefined;
  }
}

function parseList(text: string): string[] {
  try {
    const json = JSON.parse(text) as unknown;
    return Array.isArray(json) ? json.filter((each) => typeof each === 'string') : [];
  } catch {
    return [];
  }
}

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
