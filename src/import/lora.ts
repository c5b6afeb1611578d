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

/** The same tensors, with those that are adapted replaced; they are computed as they are read. */
export function mergeAdapters(base: ReadonlyMap<string, Tensor>, adapters: readonly Adapter[]): Map<string, Tensor> {
  for (const { path, pairs } of adapters) {
    const problems = [...pairs].flatMap(([name, pair]) =>
      problemOf(base.get(name), pair).map((text) => `${name} ${text}`),
    );
    refuse(path, 'does not fit the weights', problems);
  }
  return new Map(
    [...base].map(([name, tensor]) => {
      const own = adapters.filter(({ pairs }) => pairs.has(name));
      return [name, own.length > 0 ? merged(tensor, own, name) : tensor];
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

/** The factors of one adapter, in memory; B is scaled. */
interface Factors {
  a: Float32Array;
  b: Float64Array;
  rank: number;
}

function merged(base: Tensor, adapters: readonly Adapter[], name: string): Tensor {
  const [rows = 0, columns = 0] = base.shape;
  let loaded: Promise<Factors[]> | undefined;
  return {
    ...base,
    dtype: 'F32',
    async read(from, to) {
      loaded ??= Promise.all(adapters.map((adapter) => factorsOf(adapter, adapter.pairs.get(name) as Pair)));
      const factors = await loaded;
      // Readers go from front to back; behind the end nothing is needed any more.
      if (to === rows * columns) loaded = undefined;
      const values = toFloat32(await base.read(from, to), base.dtype);
      addProducts(values, from, columns, factors);
      return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    },
  };
}

async function factorsOf({ weight, alpha: assumed }: Adapter, pair: Pair): Promise<Factors> {
  const a = toFloat32(await wholeTensor(pair.a), pair.a.dtype);
  const b = toFloat32(await wholeTensor(pair.b), pair.b.dtype);
  const rank = pair.a.shape[0] as number;
  const stored = pair.alpha && toFloat32(await wholeTensor(pair.alpha), pair.alpha.dtype)[0];
  const scale = (weight * (stored ?? assumed ?? rank)) / rank;
  return { a, b: Float64Array.from(b, (value) => scale * value), rank };
}

/** values[from..] += B A, row by row of the matrix. */
function addProducts(values: Float32Array, from: number, columns: number, factors: readonly Factors[]): void {
  const sum = new Float64Array(columns);
  for (let at = 0; at < values.length;) {
    const row = Math.floor((from + at) / columns);
    const first = from + at - row * columns;
    const count = Math.min(columns - first, values.length - at);
    sum.fill(0);
    for (const factor of factors) addRow(sum, factor, row, first, count, columns);
    for (let i = 0; i < count; i++) values[at + i] = (values[at + i] as number) + (sum[i] as number);
    at += count;
  }
}

/** Four ranks at a time, which is what keeps the sums in registers. */
function addRow(
  sum: Float64Array,
  { a, b, rank }: Factors,
  row: number,
  first: number,
  count: number,
  columns: number,
): void {
  let r = 0;
  for (; r + 4 <= rank; r += 4) {
    const f = row * rank + r;
    const [f0, f1, f2, f3] = [b[f] as number, b[f + 1] as number, b[f + 2] as number, b[f + 3] as number];
    const a0 = r * columns + first;
    const [a1, a2, a3] = [a0 + columns, a0 + 2 * columns, a0 + 3 * columns];
    for (let i = 0; i < count; i++) {
      const low = f0 * (a[a0 + i] as number) + f1 * (a[a1 + i] as number);
      sum[i] = (sum[i] as number) + low + f2 * (a[a2 + i] as number) + f3 * (a[a3 + i] as number);
    }
  }
  for (; r < rank; r++) {
    const f = b[row * rank + r] as number;
    for (let i = 0; i < count; i++) sum[i] = (sum[i] as number) + f * (a[r * columns + first + i] as number);
  }
}
