/** What a PyTorch checkpoint says of an adapter beside its tensors, as the metadata of a safetensors file would have it. */

import type { Allowance } from './limits.js';
import { COST, Dict } from './pickle-values.js';
import { OF_ADAPTER } from './metadata.js';
import type { Metadata } from './strength.js';

/** Words that nothing but an adapter has: a training run's `rank` is its place among others, and its `alpha` of 0 is nothing. */
const OF_ADAPTERS =
  /^(?:lora_alpha|lora_rank|lora_dim|network_alpha|network_dim|use_rslora|use_dora|alpha_pattern|rank_pattern|ss_network_(?:alpha|dim))$/;

/** A whole configuration under one key, and the patterns in it. */
const DEEPEST = 4;

export function metadataOf(checkpoint: unknown, allowance: Allowance): Metadata {
  const said = new Map<string, string>();
  if (!(checkpoint instanceof Dict)) return said;
  for (const [key, item] of checkpoint.entries) {
    const own = OF_ADAPTERS.test(String(key)) || (key === 'alpha' && Number(item) > 0);
    if (!own && !(item instanceof Dict && isConfiguration(String(key), item, DEEPEST))) continue;
    const plain = plainOf(item, allowance, DEEPEST);
    if (plain !== undefined) said.set(String(key), typeof plain === 'object' ? JSON.stringify(plain) : String(plain));
  }
  return said;
}

/** One that says lora_alpha, or alpha where its key tells that it is an adapter's; also inside of others, as of a whole run. */
function isConfiguration(key: string, { entries }: Dict, depth: number): boolean {
  if (entries.has('lora_alpha') || (OF_ADAPTER.test(key) && entries.has('alpha'))) return true;
  return (
    depth > 0 &&
    [...entries].some(([name, item]) => item instanceof Dict && isConfiguration(String(name), item, depth - 1))
  );
}

/** Texts, numbers and dicts of them; nothing else. The same dict may stand in many places: each of them counts. */
function plainOf(item: unknown, allowance: Allowance, depth: number): string | number | boolean | object | undefined {
  allowance.spend(COST.entry + (typeof item === 'string' ? COST.character * item.length : 0));
  if (typeof item === 'bigint') return Number(item);
  if (typeof item === 'string' || typeof item === 'number' || typeof item === 'boolean') return item;
  if (!(item instanceof Dict) || depth === 0) return undefined;
  return Object.fromEntries(
    [...item.entries].map(([key, inner]) => [key, plainOf(inner, allowance, depth - 1)]),
  ) as object;
}
