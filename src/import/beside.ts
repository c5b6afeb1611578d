/** What JSON files beside weights say: config.json of networks, adapter_config.json of adapters. */

import { printed } from '../files/printable.js';
import { lstat, readdir, readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ImportError } from './errors.js';
import { MOST_CONFIG_BYTES } from './limits.js';
import type { Hints } from './sizes.js';
import type { Json } from './strength.js';

const STRING_OR_NO_NUMBER = /"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity)\b/g;

/** Nothing where there is no such file; one that cannot be read is refused by name. */
export async function jsonBeside(path: string, name: string): Promise<Json | undefined> {
  const file = await fileBeside(dirname(path), name);
  if (file === undefined) return undefined;
  // Not "remove it": without it weights might be merged at another strength.
  const unreadable = (why: string) =>
    new ImportError(printed`${file} cannot be read: ${why}. Repair it, or download it again.`);
  const found = await stat(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw unreadable(error.message);
  });
  if (!found) {
    if (await isLink(file)) throw unreadable('it is a link to a file that is not there');
    return undefined;
  }
  if (!found.isFile()) throw unreadable('it is not a file');
  if (found.size > MOST_CONFIG_BYTES) throw unreadable(`it has ${found.size} bytes`);
  const bytes = await readFile(file).catch((error: Error) => {
    throw unreadable(error.message);
  });
  let json: unknown;
  try {
    json = parseJson(bytes);
  } catch {
    throw unreadable('it is not JSON');
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw unreadable('it is not a JSON object');
  return json as Json;
}

/** Whatever its capitals: file systems that do not tell them apart hand out either. */
async function fileBeside(directory: string, name: string): Promise<string | undefined> {
  const names = await readdir(directory).catch(() => [name]);
  const alike = names.filter((each) => each.toLowerCase() === name);
  const chosen = alike.includes(name) ? name : alike[0];
  return chosen === undefined ? undefined : join(directory, chosen);
}

async function isLink(path: string): Promise<boolean> {
  const found = await lstat(path).catch(() => undefined);
  return found?.isSymbolicLink() ?? false;
}

/**
 * With any mark of byte order (a shell on Windows writes UTF-16), and with the numbers that only Python writes, as texts. Throws
 * what JSON.parse does.
 */
export function parseJson(bytes: Uint8Array): unknown {
  const [first, second] = bytes;
  const encoding =
    first === 0xff && second === 0xfe ? 'utf-16le' : first === 0xfe && second === 0xff ? 'utf-16be' : 'utf-8';
  const text = new TextDecoder(encoding, { fatal: true }).decode(bytes);
  return JSON.parse(text.replace(STRING_OR_NO_NUMBER, (part) => (part.startsWith('"') ? part : `"${part}"`)));
}

/** What a config.json says that the shapes of the weights do not, in Wan's, in Diffusers' or in a model package's words. */
export function hintsIn(config: Json, file = 'config.json'): Hints {
  const inner = (key: string) => (isObject(config[key]) ? config[key] : {});
  const [dit, text, vae] = [inner('dit'), inner('textEncoder'), inner('vae')];
  const read = <T>(
    name: string,
    values: readonly unknown[],
    check: (value: unknown) => value is T,
    what: string,
  ): T | undefined => {
    const value = values.find((each) => each !== undefined && each !== null);
    if (value === undefined || check(value)) return value;
    throw new ImportError(printed`${file}: ${name} is ${shown(value)}; it should be ${what}.`);
  };
  const count = (name: string, ...values: unknown[]) => read(name, values, isCount, 'a whole number above 0');
  const positive = (name: string, ...values: unknown[]) => read(name, values, isPositive, 'a number above 0');
  const row = (name: string, ...values: unknown[]) => read(name, values, isRow, 'a list of numbers');
  const object = (name: string, value: unknown) => read(name, [value], isObject, 'an object');
  // Other networks have the same words: only where it is Wan's or a package's are these believed.
  const wan = /wan/i.test(`${String(config._class_name)} ${String(config.model_type)}`);
  const hints: Hints = {
    numHeads: count(
      'num_heads',
      config.num_attention_heads,
      config.model_type === 'umt5' ? undefined : config.num_heads,
      dit.numHeads,
    ),
    textLen: count('text_len', config.text_len, dit.textLen),
    ropeTableLength: count('rope_max_seq_len', wan ? config.rope_max_seq_len : undefined, dit.ropeTableLength),
    ropeTheta: positive('ropeTheta', dit.ropeTheta),
    eps: positive('eps', dit.eps, wan ? config.eps : undefined),
    maxDistance: count('relative_attention_max_distance', config.relative_attention_max_distance, text.maxDistance),
    textEps: positive('layer_norm_epsilon', config.layer_norm_epsilon, text.eps),
    mean: row('latents_mean', config.latents_mean, vae.mean),
    std: row('latents_std', config.latents_std, vae.std),
    sampling: object('sampling', config.sampling),
    video: object('video', config.video),
  };
  return Object.fromEntries(Object.entries(hints).filter(([, value]) => value !== undefined));
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value > 0;
}

function isPositive(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value > 0;
}

function isRow(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((number) => Number.isFinite(number));
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
