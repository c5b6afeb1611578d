/**
 * A set of checkpoints with the names, shapes, types and nesting of the released LongLive-1.3B and of what it needs of Wan2.1
 * and TAEHV, and random numbers: 20 GB for a dress rehearsal of the import without the weights. Needs little memory.
 *
 *     npx tsx scripts/synthetic-checkpoints.ts --out FOLDER [--layers 30]
 *
 * `--layers` keeps that many layers of the video network and of the text encoder, for a smaller set.
 */

import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { convertSentencePiece } from '../src/import/index.js';
import { type Contents, type SourceTensor, type StorageType, writeTorch } from './torch-writer.js';

interface Listed {
  name: string;
  shape: number[];
}

type Network = 'generator' | 'lora' | 'umt5' | 'vae' | 'taehv';

export interface Checkpoint {
  file: string;
  bytes: number;
  type: string;
  tensors: number;
}

const MANIFEST = new URL('../test/golden/manifest_1.3b.json', import.meta.url);
const SENTENCE_PIECE = new URL('../test/unit/engine/fixtures/umt5_like.model', import.meta.url);
/** Pieces of google/umt5-xxl; its embedding has some rows more. */
const PIECES = 256_300;

/** Writes the set; the files in the order in which an import command names them, the tokenizer last. */
export async function writeSynthetic(out: string, layers = Infinity): Promise<Checkpoint[]> {
  const manifest = JSON.parse(readFileSync(MANIFEST, 'utf8')) as Record<Network, Listed[]>;
  const listed = (network: Network) => manifest[network].filter(({ name }) => !(layerOf(name) >= layers));
  const tensors = (network: Network, type: StorageType, prefix = '') =>
    listed(network).map(({ name, shape }) => randomTensor(`${prefix}${name}`, shape, type));
  const files: Record<string, { type: StorageType; contents: () => Contents | SourceTensor[] }> = {
    'longlive_base.pt': { type: 'F32', contents: () => ({ generator: tensors('generator', 'F32', 'model.') }) },
    'lora.pt': {
      type: 'F32',
      contents: () => ({ generator_lora: tensors('lora', 'F32'), critic_lora: tensors('lora', 'F32'), step: 3_000 }),
    },
    'models_t5_umt5-xxl-enc-bf16.pth': { type: 'BF16', contents: () => tensors('umt5', 'BF16') },
    'Wan2.1_VAE.pth': { type: 'F32', contents: () => tensors('vae', 'F32') },
    'taew2_1.pth': { type: 'F16', contents: () => tensors('taehv', 'F16') },
  };
  await mkdir(out, { recursive: true });
  const written: Checkpoint[] = [];
  for (const [file, { type, contents }] of Object.entries(files)) {
    const made = contents();
    written.push({ file, type, tensors: countOf(made), bytes: await writeTorch(join(out, file), made) });
  }
  return [...written, await writeTokenizer(out)];
}

function layerOf(name: string): number {
  return Number(/(?:^|\.)blocks\.(\d+)\./.exec(name)?.[1] ?? -1);
}

function countOf(contents: Contents | readonly SourceTensor[] | number): number {
  if (typeof contents === 'number') return 0;
  if (Array.isArray(contents)) return contents.length;
  return Object.values(contents as Contents).reduce((sum: number, inner) => sum + countOf(inner), 0);
}

// -- the tokenizer

/** The small one of the tests, with made-up words up to the size of umT5's. */
async function writeTokenizer(out: string): Promise<Checkpoint> {
  const tokenizer = convertSentencePiece(readFileSync(SENTENCE_PIECE)) as { model: { vocab: [string, number][] } };
  const { vocab } = tokenizer.model;
  const random = randomFrom(7);
  for (let i = vocab.length; i < PIECES; i++) vocab.push([`${i % 2 ? '▁' : ''}${word(i)}`, -8 - 6 * random()]);
  const text = JSON.stringify(tokenizer);
  await writeFile(join(out, 'tokenizer.json'), text);
  return { file: 'tokenizer.json', bytes: Buffer.byteLength(text), type: 'JSON', tensors: 0 };
}

/** Different for every number. */
function word(number: number): string {
  const syllable = (n: number) => 'bcdfghklmnprstvz'.charAt(n & 15) + 'aeiou'.charAt((n >> 4) % 5);
  return number === 0 ? '' : syllable(number % 80) + word(Math.floor(number / 80));
}

// -- random tensors

/** Numbers that all tensors are cut from; its length has no part in common with any width. */
const POOL = 4_194_319;

function randomTensor(name: string, shape: readonly number[], type: StorageType): SourceTensor {
  const count = shape.reduce((product, size) => product * size, 1);
  const pool = poolOf(type, ...distributionOf(name, shape));
  const size = pool.length / POOL;
  return {
    ...{ name, shape, type },
    *chunks() {
      let at = hashOf(name) % POOL;
      for (let left = count; left > 0;) {
        const taken = Math.min(left, POOL - at);
        yield pool.subarray(at * size, (at + taken) * size);
        left -= taken;
        at = 0;
      }
    },
  };
}

/** Middle and deviation, such that activations stay in the range of trained networks. */
function distributionOf(name: string, shape: readonly number[]): [number, number] {
  if (/\bnorm|gamma$|norm\d?\.weight$/.test(name) && !name.endsWith('bias')) return [1, 0.1];
  if (name.includes('lora_B')) return [0, 0.01];
  if (shape.length < 2 || name.endsWith('modulation') || name.includes('pos_embedding')) return [0, 0.1];
  if (name.includes('token_embedding')) return [0, 1];
  const inputs = shape.slice(1).reduce((product, size) => product * size, 1);
  // umT5 does not divide the products of queries and keys by the root of the width of a head.
  return [0, (/attn\.q\.weight/.test(name) && !name.includes('_attn') ? 0.125 : 1) / Math.sqrt(inputs)];
}

const pools = new Map<string, Uint8Array>();

function poolOf(type: StorageType, middle: number, deviation: number): Uint8Array {
  // To powers of two, so that there are few of them.
  const scale = 2 ** Math.round(Math.log2(deviation));
  const key = `${type} ${middle} ${scale}`;
  const known = pools.get(key);
  if (known) return known;
  const values = basePool().slice();
  for (let i = 0; i < values.length; i++) values[i] = middle + scale * (values[i] as number);
  const pool = bytesOf(values, type);
  pools.set(key, pool);
  return pool;
}

let base: Float32Array | undefined;

/** Even between -√3 and √3: middle 0, deviation 1. */
function basePool(): Float32Array {
  if (base) return base;
  const random = randomFrom(1);
  base = new Float32Array(POOL);
  for (let i = 0; i < POOL; i++) base[i] = Math.sqrt(3) * (2 * random() - 1);
  return base;
}

function bytesOf(values: Float32Array, type: StorageType): Uint8Array {
  if (type === 'F32') return new Uint8Array(values.buffer);
  const bits = new Uint32Array(values.buffer);
  const halves = new Uint16Array(bits.length);
  for (let i = 0; i < bits.length; i++) {
    halves[i] = type === 'BF16' ? (bits[i] as number) >>> 16 : halfOf(bits[i] as number);
  }
  return new Uint8Array(halves.buffer);
}

/** Cut off, not rounded; what is too small for a half is zero. */
function halfOf(bits: number): number {
  const exponent = ((bits >>> 23) & 255) - 112;
  const sign = (bits >>> 16) & 0x8000;
  return exponent <= 0 ? sign : sign | (exponent << 10) | ((bits >>> 13) & 1023);
}

function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

function hashOf(name: string): number {
  let hash = 2_166_136_261;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 16_777_619);
  return hash >>> 0;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { values } = parseArgs({ options: { out: { type: 'string' }, layers: { type: 'string' } } });
  if (!values.out) throw new Error('Say where: --out FOLDER');
  for (const { file, bytes } of await writeSynthetic(values.out, values.layers ? Number(values.layers) : undefined)) {
    process.stdout.write(`${(bytes / 1e9).toFixed(3)} GB  ${file}\n`);
  }
}
