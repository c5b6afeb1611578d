/**
 * Matrices in 8 bits with one scale per output channel (docs/model-package.md): value = number * scale. Which matrices those
 * are is what the native core multiplies in 8 bits, and what it multiplies but once per prompt.
 */

import { printed } from '../files/printable.js';
import { toFloat32 } from './convert.js';
import { ImportError } from './errors.js';
import type { Component } from './names.js';
import { countOf, type DType, type Tensor } from './tensor.js';

export type QuantizedType = 'I8' | 'F8_E4M3';

export function isQuantizedType(dtype: DType): dtype is QuantizedType {
  return dtype === 'I8' || dtype === 'F8_E4M3';
}

const MATRICES: Record<Component, RegExp | undefined> = {
  dit: /^blocks\.\d+\.(?:(?:self|cross)_attn\.[qkvo]|ffn\.[02])\.weight$/,
  textEncoder: /^(?:token_embedding|blocks\.\d+\.(?:attn\.[qkvo]|ffn\.(?:gate\.0|fc1|fc2)))\.weight$/,
  vae: undefined,
  tinyVae: undefined,
};

/** Whether a tensor is one of those that are stored in 8 bits when a network is quantized. */
export function isQuantized(component: Component, name: string): boolean {
  return MATRICES[component]?.test(name) ?? false;
}

/** The name of the scales that belong to a quantized matrix. */
export function scaleName(matrix: string): string {
  return `${matrix}_scale`;
}

/** The largest number of each type. */
const LARGEST: Record<QuantizedType, number> = { I8: 127, F8_E4M3: 448 };

/** Whole rows of a matrix. The native core quantizes with the same arithmetic when it loads, so the bits agree. */
export function quantizeRows(
  values: Float32Array,
  columns: number,
  type: QuantizedType,
): { bytes: Uint8Array; scales: Float32Array } {
  const bytes = new Uint8Array(values.length);
  const scales = new Float32Array(values.length / columns);
  for (let row = 0; row < scales.length; row++) {
    const from = row * columns;
    const highest = absMaximum(values, from, from + columns);
    if (!Number.isFinite(highest)) throw new ImportError('It holds NaN or infinity.');
    const inverse = Math.fround(LARGEST[type] / highest);
    // Too small a row for a scale is zero.
    if (!Number.isFinite(inverse)) continue;
    scales[row] = highest / LARGEST[type];
    if (type === 'I8') roundRow(bytes, values, from, from + columns, inverse);
    else eighthRow(bytes, values, from, from + columns, inverse);
  }
  return { bytes, scales };
}

/** NaN if there is one. */
function absMaximum(values: Float32Array, from: number, to: number): number {
  let highest = 0;
  for (let i = from; i < to; i++) {
    const value = Math.abs(values[i] as number);
    if (!(value <= highest)) {
      if (Number.isNaN(value)) return NaN;
      highest = value;
    }
  }
  return highest;
}

/** Adding it leaves no bits for fractions: to nearest, ties to even. */
const WHOLE = 1.5 * 2 ** 52;

function roundRow(out: Uint8Array, values: Float32Array, from: number, to: number, inverse: number): void {
  for (let i = from; i < to; i++) {
    const whole = (values[i] as number) * inverse + WHOLE - WHOLE;
    out[i] = Math.max(-127, Math.min(127, whole));
  }
}

const SMALLEST_NORMAL = 2 ** -6;
const SUBNORMAL_STEPS = 2 ** 9;
/** Between the exponents of a double and those of E4M3, at three bits of fraction. */
const REBIAS = (1023 - 7) << 3;
const LARGEST_CODE = 0x7e;

const double = new Float64Array(1);
const [LOW, HIGH] = [0, 1];
const words = new Uint32Array(double.buffer);

/** Sign, four bits of exponent, three of fraction; no infinities. To nearest, ties to even. */
function eighthRow(out: Uint8Array, values: Float32Array, from: number, to: number, inverse: number): void {
  for (let i = from; i < to; i++) {
    const value = (values[i] as number) * inverse;
    const size = Math.abs(value);
    const code = size < SMALLEST_NORMAL ? size * SUBNORMAL_STEPS + WHOLE - WHOLE : normalCode(size);
    out[i] = value < 0 || Object.is(value, -0) ? code | 0x80 : code;
  }
}

function normalCode(size: number): number {
  double[0] = size;
  // What stands in the lower word matters only for whether the upper one is a tie.
  const high = (words[HIGH] as number) | (words[LOW] === 0 ? 0 : 1);
  const code = ((high + 0xffff + ((high >>> 17) & 1)) >>> 17) - REBIAS;
  return Math.min(code, LARGEST_CODE);
}

/** The tensors of a package's file with its quantized matrices, or those of some names, as F32, and without their scales. */
export function dequantized(stored: ReadonlyMap<string, Tensor>, matrices?: ReadonlySet<string>): Map<string, Tensor> {
  const quantized = [...stored].filter(([name, { dtype }]) => (matrices?.has(name) ?? true) && isQuantizedType(dtype));
  const scales = new Set(quantized.map(([name]) => scaleName(name)));
  const plain = new Map([...stored].filter(([name]) => !scales.has(name)));
  for (const [name, matrix] of quantized) {
    const scale = stored.get(scaleName(name));
    const [rows, ...row] = matrix.shape;
    if (scale?.dtype !== 'F32' || scale.shape.join() !== String(rows))
      throw new ImportError(printed`"${name}" is stored in 8 bits, but its scales are missing or of another shape.`);
    plain.set(name, { ...matrix, dtype: 'F32', read: (from, to) => readScaled(matrix, scale, countOf(row), from, to) });
  }
  return plain;
}

async function readScaled(
  matrix: Tensor,
  scale: Tensor,
  columns: number,
  from: number,
  to: number,
): Promise<Uint8Array> {
  const bytes = await matrix.read(from, to);
  const first = Math.floor(from / columns);
  const scales = toFloat32(await scale.read(first, Math.ceil(to / columns)), 'F32');
  const values = valuesOf(bytes, scales, columns, matrix.dtype as QuantizedType, from % columns);
  return new Uint8Array(values.buffer);
}

/** What rows in 8 bits stand for, the first of which may begin at a column of its own. */
export function valuesOf(
  bytes: Uint8Array,
  scales: Float32Array,
  columns: number,
  type: QuantizedType,
  column = 0,
): Float32Array {
  const numbers = NUMBERS[type];
  const values = new Float32Array(bytes.length);
  for (let i = 0, row = 0; i < bytes.length; i++, column++) {
    if (column === columns) [column, row] = [0, row + 1];
    values[i] = (numbers[bytes[i] as number] as number) * (scales[row] as number);
  }
  return values;
}

/** What each byte stands for. */
export function numbersOf(type: QuantizedType | 'F8_E5M2'): readonly number[] {
  return NUMBERS[type];
}

const NUMBERS: Record<QuantizedType | 'F8_E5M2', readonly number[]> = {
  I8: Array.from({ length: 256 }, (_, byte) => (byte < 128 ? byte : byte - 256)),
  F8_E4M3: Array.from({ length: 256 }, (_, byte) => {
    const exponent = (byte >> 3) & 15;
    const size = exponent === 0 ? (byte & 7) / SUBNORMAL_STEPS : 2 ** (exponent - 7) * (1 + (byte & 7) / 8);
    if ((byte & 0x7f) > LARGEST_CODE) return NaN;
    return byte & 0x80 ? -size : size;
  }),
  // The upper half of a half.
  F8_E5M2: Array.from({ length: 256 }, (_, byte) => toFloat32(Uint8Array.of(0, byte), 'F16')[0] as number),
};
