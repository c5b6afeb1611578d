/** A tensor that stays in its file until somebody reads it. */

import { printed } from '../files/printable.js';
import type { ByteSource } from './bytes.js';
import { ImportError, quoted } from './errors.js';

const SIZES = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  // Read past, and refused by name where a weight is one.
  F8_E8M0: 1,
  U16: 2,
  U32: 4,
  U64: 8,
  C64: 8,
  C128: 16,
} as const;

export type DType = keyof typeof SIZES;

export interface Tensor {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Little-endian bytes of the elements from..to in row-major order. */
  read(from: number, to: number): Promise<Uint8Array>;
}

/** Elements that a tensor may have: 2^36, far beyond any weight, so that every byte count is exact. */
const MOST_ELEMENTS = 2 ** 36;
export const MOST_DIMENSIONS = 16;

export function isDType(name: string): name is DType {
  return Object.hasOwn(SIZES, name);
}

export function sizeOf(dtype: DType): number {
  return SIZES[dtype];
}

/** No weights are like that. */
const DAMAGED = 'The file is damaged, or holds no weights: download it again.';

export function manyDimensions(what: string, count: number): string {
  return printed`${what} has ${count} dimensions; at most ${MOST_DIMENSIONS} are read. ${DAMAGED}`;
}

/** Number of elements; throws, with `what` they belong to, where a size is not a sensible one. */
export function countOf(shape: readonly number[], what = 'A tensor'): number {
  if (shape.length > MOST_DIMENSIONS) throw new ImportError(manyDimensions(what, shape.length));
  let count = 1;
  for (const size of shape) {
    if (!Number.isSafeInteger(size) || size < 0)
      throw new ImportError(printed`${what} has a size of ${size}. ${DAMAGED}`);
    count *= size;
    if (count > MOST_ELEMENTS)
      throw new ImportError(printed`${what} of shape [${shape.join(', ')}] is too large. ${DAMAGED}`);
  }
  return count;
}

export function wholeTensor(tensor: Tensor): Promise<Uint8Array> {
  return tensor.read(0, countOf(tensor.shape));
}

/** Where the elements of a tensor lie: bytes of a file, an offset and strides in elements. */
export interface Layout {
  bytes: ByteSource;
  /** Bytes of the storage inside the file. */
  from: number;
  to: number;
  offset: number;
  stride: readonly number[];
}

/** A view into a storage; throws when it reaches beyond it. */
export function viewTensor(name: string, dtype: DType, shape: readonly number[], layout: Layout): Tensor {
  const { bytes, from, to, offset, stride } = layout;
  const size = sizeOf(dtype);
  const last = furthest(shape, stride);
  const fits = Number.isSafeInteger(offset) && offset >= 0 && (offset + last) * size <= to - from;
  if (!fits) throw new ImportError(printed`Tensor ${quoted(name)} reaches beyond its storage of ${to - from} bytes.`);
  if (countOf(shape, `Tensor ${quoted(name)}`) * size > to - from) {
    throw new ImportError(
      printed`Tensor ${quoted(name)} repeats the elements of its storage; save a copy of it (tensor.contiguous()) instead.`,
    );
  }
  const start = from + offset * size;
  const read = isContiguous(shape, stride)
    ? (first: number, end: number) => bytes.read(start + first * size, start + end * size)
    : stridedReader(layout, start, size, shape);
  return { name, dtype, shape, read: async (first, end) => (first === end ? new Uint8Array() : read(first, end)) };
}

/** Read for a piece of a strided view: so many times its elements, or so many of them, whichever is more. */
const SPREAD = 4;
const LITTLE = 2 ** 20;

/**
 * Pieces of a strided view. Where the elements of a piece lie all over the storage, as those of a transposed matrix do, the
 * storage is read once and kept until the last piece has been taken: readers go from front to back.
 */
function stridedReader(
  { bytes, stride }: Layout,
  start: number,
  size: number,
  shape: readonly number[],
): Tensor['read'] {
  const count = countOf(shape);
  let whole: Promise<Uint8Array> | undefined;
  return async (first, end) => {
    const { low, high } = spanOf(first, end, shape, stride);
    if (high - low <= Math.max(LITTLE, SPREAD * (end - first)) || (first === 0 && end === count)) {
      return gather(await bytes.read(start + low * size, start + high * size), low, size, shape, stride, first, end);
    }
    whole ??= bytes.read(start, start + furthest(shape, stride) * size);
    const all = await whole;
    if (end === count) whole = undefined;
    return gather(all, 0, size, shape, stride, first, end);
  };
}

/** Elements from the first to one past the furthest. */
function furthest(shape: readonly number[], stride: readonly number[]): number {
  if (stride.length !== shape.length) throw new ImportError('A tensor has a different number of strides and sizes.');
  if (stride.some((step) => !Number.isSafeInteger(step) || step < 0)) {
    throw new ImportError('A tensor has a negative or fractional stride.');
  }
  if (countOf(shape) === 0) return 0;
  const furthest = shape.reduce((sum, length, i) => sum + (length - 1) * (stride[i] as number), 0);
  if (!Number.isSafeInteger(furthest)) throw new ImportError('A tensor has impossible strides.');
  return furthest + 1;
}

function isContiguous(shape: readonly number[], stride: readonly number[]): boolean {
  let expected = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== 1 && stride[i] !== expected) return false;
    expected *= shape[i] as number;
  }
  return true;
}

/** What of the storage elements first..end of a strided view lie in: the axes behind the first that differs are taken whole. */
function spanOf(
  first: number,
  end: number,
  shape: readonly number[],
  stride: readonly number[],
): { low: number; high: number } {
  const [from, to] = [indexOf(first, shape), indexOf(end - 1, shape)];
  const differing = from.findIndex((position, i) => position !== to[i]);
  const axis = differing < 0 ? shape.length : differing;
  let [low, high] = [0, 1];
  for (const [i, step] of stride.entries()) {
    if (i <= axis) low += (from[i] as number) * step;
    high += (i <= axis ? (to[i] as number) : (shape[i] as number) - 1) * step;
  }
  return { low, high };
}

/** Elements first..end of a strided view, one after another; `span` is its storage from `low` on. */
function gather(
  span: Uint8Array,
  low: number,
  size: number,
  shape: readonly number[],
  stride: readonly number[],
  first: number,
  end: number,
): Uint8Array {
  const out = new Uint8Array((end - first) * size);
  const index = indexOf(first, shape);
  let at = index.reduce((sum, position, i) => sum + position * (stride[i] as number), -low);
  for (let element = 0; element < end - first; element++) {
    for (let byte = 0; byte < size; byte++) out[element * size + byte] = span[at * size + byte] as number;
    for (let i = shape.length - 1; i >= 0; i--) {
      at += stride[i] as number;
      if ((index[i] = (index[i] as number) + 1) < (shape[i] as number)) break;
      at -= (stride[i] as number) * (shape[i] as number);
      index[i] = 0;
    }
  }
  return out;
}

function indexOf(element: number, shape: readonly number[]): number[] {
  let rest = element;
  return shape.map((_, i) => {
    const inner = shape.slice(i + 1).reduce((product, length) => product * length, 1);
    const position = Math.floor(rest / inner);
    rest -= position * inner;
    return position;
  });
}
