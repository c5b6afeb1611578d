/**
 * Adapters into the weights, once and for all: W' = W + sum of weight * strength * B A, and where an adapter has plain
 * differences, + weight * difference. Sums are kept in double and rounded to float32 at the end.
 */

import { toFloat32 } from './convert.js';
import { printed } from '../files/printable.js';
import { refuse } from './errors.js';
import type { Adapter, Pair } from './lora.js';
import { countOf, type Tensor, wholeTensor } from './tensor.js';

/** values [rows, columns] += b [rows, rank] a [rank, columns], summed in double and rounded once. */
export type AddProduct = (values: Float32Array, b: Float64Array, a: Float32Array, rank: number) => Promise<void>;

/** The same tensors, with those that are adapted replaced; they are computed as they are read. */
export function mergeAdapters(
  base: ReadonlyMap<string, Tensor>,
  adapters: readonly Adapter[],
  addProduct: AddProduct,
): Map<string, Tensor> {
  for (const { path, pairs, differences } of adapters) {
    const factors = [...pairs].flatMap(([name, pair]) =>
      problemOf(base.get(name), pair).map((text) => `${name} ${text}`),
    );
    const whole = [...differences].flatMap(([name, { shape }]) =>
      misshapen(base.get(name), shape).map((text) => `${name} ${text}`),
    );
    refuse(path, 'does not fit the weights', [...factors, ...whole], adviceFor(base, [...pairs.keys()]));
  }
  return new Map(
    [...base].map(([name, tensor]) => {
      const own = adapters.filter(({ pairs }) => pairs.has(name));
      const changed = own.length > 0 ? merged(tensor, own, name, addProduct) : tensor;
      const added = adapters.filter(({ differences }) => differences.has(name));
      return [name, added.length > 0 ? raised(changed, added, name) : changed];
    }),
  );
}

/** Factors of a convolution are those of the matrix that it is. */
function problemOf(base: Tensor | undefined, { a, b, rank }: Pair): string[] {
  if (!base) return [NOT_THERE];
  const [rows = 0, ...inner] = base.shape;
  const fits =
    inner.length > 0 &&
    countOf(a.shape) === rank * countOf(inner) &&
    b.shape[0] === rows &&
    countOf(b.shape) === rows * rank &&
    (a.shape.length === 2 || a.shape.slice(1).join() === inner.join() || a.shape[1] === inner[0]);
  if (fits && a.shape.length >= 2 && b.shape.length >= 2) return [];
  return [`[${base.shape.join(', ')}] cannot take [${b.shape.join(', ')}] x [${a.shape.join(', ')}]`];
}

const NOT_THERE = 'is not in the network';
const FIT = 'It was trained for another model; take one for this model, such as the text-to-video one of this size.';

/** Names that would fit without what stands in front of them are a trainer's that nobody here knows. */
function adviceFor(base: ReadonlyMap<string, Tensor>, names: readonly string[]): string {
  for (const name of names) {
    const segments = name.split('.');
    const from = segments.findIndex((_, i) => i > 0 && base.has(segments.slice(i).join('.')));
    if (!base.has(name) && from > 0)
      return printed`Its names begin with "${segments.slice(0, from).join('.')}.", which is not known. Save it with names like "${segments.slice(from).join('.')}".`;
  }
  return FIT;
}

function misshapen(base: Tensor | undefined, shape: readonly number[]): string[] {
  if (!base) return [NOT_THERE];
  const sizes = (of: readonly number[]) => of.filter((size) => size !== 1).join();
  return sizes(base.shape) === sizes(shape)
    ? []
    : [`[${base.shape.join(', ')}] cannot take a difference [${shape.join(', ')}]`];
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
  const [rows = 0, ...inner] = base.shape;
  const columns = countOf(inner);
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

/** With differences added. */
function raised(base: Tensor, adapters: readonly Adapter[], name: string): Tensor {
  return {
    ...base,
    dtype: 'F32',
    async read(from, to) {
      const sums = Float64Array.from(toFloat32(await base.read(from, to), base.dtype));
      for (const { weight, differences } of adapters) {
        const difference = differences.get(name) as Tensor;
        const values = toFloat32(await difference.read(from, to), difference.dtype);
        for (let i = 0; i < sums.length; i++) sums[i] = (sums[i] as number) + weight * (values[i] as number);
      }
      return new Uint8Array(Float32Array.from(sums).buffer);
    },
  };
}

async function factorsOf(adapters: readonly Adapter[], name: string, rows: number, columns: number): Promise<Factors> {
  const pairs = adapters.map(({ pairs }) => pairs.get(name) as Pair);
  const rank = pairs.reduce((sum, pair) => sum + pair.rank, 0);
  const factors = { a: new Float32Array(rank * columns), b: new Float64Array(rows * rank), rank };
  let before = 0;
  for (const [i, pair] of pairs.entries()) {
    const own = pair.rank;
    const scale = (adapters[i] as Adapter).weight * pair.strength.factor;
    factors.a.set(toFloat32(await wholeTensor(pair.a), pair.a.dtype), before * columns);
    const b = toFloat32(await wholeTensor(pair.b), pair.b.dtype);
    for (let at = 0; at < b.length; at++) {
      factors.b[Math.floor(at / own) * rank + before + (at % own)] = scale * (b[at] as number);
    }
    before += own;
  }
  return factors;
}
