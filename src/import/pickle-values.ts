/** What a pickle is made of (pickle.ts): plain containers, names that are only words, and numbers. */

import { printed } from '../files/printable.js';
import { ImportError } from './errors.js';

/** A name of the pickle, as `module.name`. */
export class Global {
  constructor(readonly path: string) {}
}

export class Tuple {
  constructor(readonly items: readonly unknown[]) {}
}

/** Of a list or tuple. */
export function itemsOf(value: unknown): readonly unknown[] | undefined {
  return value instanceof Tuple ? value.items : Array.isArray(value) ? (value as unknown[]) : undefined;
}

/** What a list of one holds, as `(16,)`; others stay. */
export function alone(value: unknown): unknown {
  const items = itemsOf(value);
  return items?.length === 1 ? items[0] : value;
}

/** A dict, OrderedDict or defaultdict. */
export class Dict {
  readonly entries = new Map<Key, unknown>();
}

export type Key = string | number | bigint | boolean | null;

/** Bytes of memory, roughly, that values take. */
export const COST = { reference: 8, view: 128, container: 128, entry: 48, character: 2 };

/** A dict from keys and values in turn. */
export function fill(dict: Dict, items: readonly unknown[]): void {
  if (items.length % 2 !== 0) throw new ImportError('The pickle is damaged: a dict has a key without a value.');
  for (let i = 0; i < items.length; i += 2) dict.entries.set(asKey(items[i]), items[i + 1]);
}

export function asKey(value: unknown): Key {
  if (value === null || ['string', 'number', 'bigint', 'boolean'].includes(typeof value)) return value as Key;
  throw new ImportError('The pickle has a dict whose keys are neither texts nor numbers.');
}

const LONGEST_INTEGER = 16;

/** Little-endian two's complement. */
export function integer(bytes: Uint8Array): number | bigint {
  if (bytes.length > LONGEST_INTEGER)
    throw new ImportError(printed`The pickle has an integer of ${bytes.length} bytes.`);
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i] as number);
  return narrow(BigInt.asIntN(8 * bytes.length, value));
}

function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

export function decimal(line: string): number | bigint | boolean {
  if (line === '00') return false;
  if (line === '01') return true;
  if (!/^[+-]?\d{1,39}L?$/.test(line)) throw new ImportError('The pickle is damaged: an integer has no digits.');
  return narrow(BigInt(line.replace(/L$/, '').replace(/^\+/, '')));
}
