/**
 * LoRA adapters, merged into the weights once and for all: W' = W + sum of weight * (alpha / rank) * B A. Sums are kept in
 * double and rounded to float32 at the end.
 */

import { toFloat32 } from './convert.js';
import { ImportError } from './errors.js';
import { pickTensors, referenceName } from './names.js';
import { type Tensor, wholeTensor } from './tensor.js';

export interface AdapterOptions {
  /** How strongly it is applied; 1 is as trained. */
  weight: number;
  /** For files that do not say; without either, alpha equals the rank. */
  alpha?: number;
}

interface Pair {
  a: Tensor;
  b: Tensor;
  alpha?: Tensor;
}

export interface Adapter extends AdapterOptions {
  path: string;
  /** By the reference name of the weight that each adapts. */
  pairs: Map<string, Pair>;
}

const LORA_KEYS = ['generator_lora', 'lora', 'lora_state_dict'];
const PART = /^(.+?)\.(?:(lora_A|lora_down)(?:\.default)?\.weight|(lora_B|lora_up)(?:\.default)?\.weight|(alpha))$/;
const KOHYA = /^lora_(?:unet|transformer)_blocks_(\d+)_(self_attn|cross_attn|ffn)_([qkvo02])$/;

export function isAdapter(tensors: readonly Tensor[]): boolean {
  return tensors.some(({ name }) => /\.lora_(A|down)\b/.test(name));
}

/** Whether a checkpoint that holds a network has an adapter beside it is for `readAdapter` to find. */
export function readAdapter(path: string, tensors: readonly Tensor[], options: AdapterOptions): Adapter {
  const found = pickTensors(tensors, LORA_KEYS).tensors;
  const partial = new Map<string, Partial<Pair>>();
  const strange: string[] = [];
  for (const [name, tensor] of found) {
    const [, module, a, b, alpha] = PART.exec(name) ?? [];
    if (module === undefined) {
      strange.push(name);
      continue;
    }
    const target = targetOf(module);
    const pair = partial.get(target) ?? {};
    partial.set(target, { ...pair, ...(a && { a: tensor }), ...(b && { b: tensor }), ...(alpha && { alpha: tensor }) });
  }
  const pairs = new Map([...partial].filter((entry): entry is [string, Pair] => Boolean(entry[1].a && entry[1].b)));
  const incomplete = [...partial.keys()].filter((target) => !pairs.has(target));
  refuse(path, 'has tensors that are not those of a LoRA', strange);
  refuse(path, 'has only half of the pair for', incomplete);
  if (pairs.size === 0) throw new ImportError(`${path} has no LoRA.`);
  return { path, ...options, pairs };
}

function targetOf(module: string): string {
  const plain = module.replace(KOHYA, 'blocks.$1.$2.$3');
  return referenceName('dit', `${plain}.weight`);
}

function refuse(path: string, problem: string, names: readonly string[]): void {
  if (names.length === 0) return;
  throw new ImportError(`${path} ${problem}:\n${names.map((name) => `    ${name}`).join('\n')}`);
}

/** values [rows, columns] += b [rows, rank] a [rank, columns], summed in double and rounded once. */
export type AddProduct = (values: Float32Array, b: Float64Array, a: Float32Array, rank: number) => Promise<void>;

/** The same tensors, with those that are adapted replaced; they are computed as they are read. */
export function mergeAdapters(
  base: ReadonlyMap<string, Tensor>,
  adapters: readonly Adapter[],
  addProduct: AddProduct,
): Map<string, Tensor> {
  for (const { path, pairs } of adapters) {
    const problems = [...pairs].flatMap(([name, pair]) =>
      problemOf(base.get(name), pair).map((text) => `${name} ${text}`),
    );
    refuse(path, 'does not fit the weights', problems);
  }
  return new Map(
    [...base].map(([name, tensor]) => {
      const own = adapters.filter(({ pairs }) => pairs.has(name));
      return [name, own.length > 0 ? merged(tensor, own, name, addProduct) : tensor];
    }),
  );
}

function problemOf(base: Tensor | undefined, { a, b }: Pair): string[] {
  if (!base) return ['is not in the network'];
  const [rank, ...inner] = a.shape;
  const fits =
    base.shape.length === 2 && inner[0] === base.shape[1] && b.shape[0] === base.shape[0] && b.shape[1] === rank;
  if (fits && a.shape.length === 2 && b.shape.length === 2) return [];
  return [`[${base.shape.join(', ')}] cannot take [${b.shape.join(', ')}] x [${a.shape.join(', ')}]`];
}

/** Those of all adapters of a matrix as one, in memory: their ranks one after another, B scaled. */
interface Factors {
  /** [rank, columns] */
  a: Float32Array;
  /** [rows, rank] */
  b: Float64Array;
  rank: number;
}

function merged(base: Tensor, adapters: readonly Adapter[], name: string, addProduct: AddProduct): Tensor {
  const [rows = 0, columns = 0] = base.shape;
  let loaded: Promise<Factors> | undefined;
  return {
    ...base,
    dtype: 'F32',
    async read(from, to) {
      loaded ??= factorsOf(adapters, name, rows, columns);
      const { a, b, rank } = await loaded;
      // Readers go from front to back; behind the end nothing is needed any more.
      if (to === rows * columns) loaded = undefined;
      const [first, last] = [Math.floor(from / columns), Math.ceil(to / columns)];
      const start = first * columns;
      const values = toFloat32(await base.read(start, last * columns), base.dtype);
      await addProduct(values, b.subarray(first * rank, last * rank), a, rank);
      const asked = values.subarray(from - start, to - start);
      return new Uint8Array(asked.buffer, asked.byteOffset, asked.byteLength);
    },
  };
}

async function factorsOf(adapters: readonly Adapter[], name: string, rows: number, columns: number): Promise<Factors> {
  const pairs = adapters.map(({ pairs }) => pairs.get(name) as Pair);
  const ranks = pairs.map(({ a }) => a.shape[0] as number);
  const rank = ranks.reduce((sum, own) => sum + own, 0);
  const factors = { a: new Float32Array(rank * columns), b: new Float64Array(rows * rank), rank };
  let before = 0;
  for (const [i, pair] of pairs.entries()) {
    const own = ranks[i] as number;
    const scale = await scaleOf(adapters[i] as Adapter, pair, own);
    factors.a.set(toFloat32(await wholeTensor(pair.a), pair.a.dtype), before * columns);
    const b = toFloat32(await wholeTensor(pair.b), pair.b.dtype);
    for (let at = 0; at < b.length; at++) {
      factors.b[Math.floor(at / own) * rank + before + (at % own)] = scale * (b[at] as number);
    }
    before += own;
  }
  return factors;
}

async function scaleOf({ weight, alpha: assumed }: Adapter, { alpha }: Pair, rank: number): Promise<number> {
  const stored = alpha && toFloat32(await wholeTensor(alpha), alpha.dtype)[0];
  return (weight * (stored ?? assumed ?? rank)) / rank;
}
