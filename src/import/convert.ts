/** Between the number types of checkpoints and packages. Little-endian machines only, as the native core. */

import { printed } from '../files/printable.js';
import { ImportError } from './errors.js';
import type { DType } from './tensor.js';

export type TargetType = 'F32' | 'BF16';

export function toFloat32(bytes: Uint8Array, dtype: DType): Float32Array {
  switch (dtype) {
    case 'F32':
      return new Float32Array(aligned(bytes), 0, bytes.length / 4);
    case 'F64':
      return Float32Array.from(new Float64Array(aligned(bytes), 0, bytes.length / 8));
    case 'BF16':
      return fromBf16(new Uint16Array(aligned(bytes), 0, bytes.length / 2));
    case 'F16':
      return fromHalf(new Uint16Array(aligned(bytes), 0, bytes.length / 2));
    default:
      throw new ImportError(printed`Weights of type ${dtype} cannot be used.`);
  }
}

/** Bytes of one type as bytes of another; refuses NaN and infinity, also where rounding makes one. */
export function convert(bytes: Uint8Array, from: DType, to: TargetType): Uint8Array {
  if (from === 'BF16' && to === 'BF16') return finiteBf16(bytes);
  const values = from === 'F64' && to === 'BF16' ? roundToOdd(bytes) : toFloat32(bytes, from);
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  let seen = 0;
  for (let i = 0; i < bits.length; i++) seen |= marked(bits[i] as number);
  if (seen & MARK) throw notFinite();
  if (to === 'F32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return finiteBf16(toBf16(bits));
}

/** Adding one to an exponent that is all ones, as that of NaN and infinity is, reaches the bit of the sign. */
const EXPONENT = 0x7f800000;
const MARK = 0x80000000;

function marked(bits: number): number {
  return (bits & EXPONENT) + 0x00800000;
}

/** The same for the two halves of a word. */
const EXPONENTS = 0x7f807f80;
const MARKS = 0x80008000;

function notFinite(): ImportError {
  return new ImportError('It contains NaN, infinity, or numbers too large for the requested precision.');
}

function finiteBf16(bytes: Uint8Array): Uint8Array {
  const buffer = aligned(bytes);
  const words = new Uint32Array(buffer, 0, bytes.length >> 2);
  let seen = 0;
  for (let i = 0; i < words.length; i++) seen |= ((words[i] as number) & EXPONENTS) + 0x00800080;
  if (bytes.length % 4 !== 0) {
    const last = new Uint16Array(buffer, bytes.length - 2, 1)[0] as number;
    seen |= (last & EXPONENTS) + 0x00800080;
  }
  if (seen & MARKS) throw notFinite();
  return bytes;
}

/** To nearest, ties to even. */
function toBf16(bits: Uint32Array): Uint8Array {
  const out = new Uint16Array(bits.length);
  for (let i = 0; i < bits.length; i++) {
    const value = bits[i] as number;
    out[i] = (value + 0x7fff + ((value >>> 16) & 1)) >>> 16;
  }
  return new Uint8Array(out.buffer);
}

function fromBf16(values: Uint16Array): Float32Array {
  const bits = new Uint32Array(values.length);
  for (let i = 0; i < values.length; i++) bits[i] = (values[i] as number) << 16;
  return new Float32Array(bits.buffer);
}

/**
 * Doubles to singles that remember, in their last bit, that something was cut off, so that rounding them once more gives
 * what rounding the double would have given.
 */
function roundToOdd(bytes: Uint8Array): Float32Array {
  const doubles = new Float64Array(aligned(bytes), 0, bytes.length / 8);
  const singles = Float32Array.from(doubles);
  const bits = new Uint32Array(singles.buffer);
  for (let i = 0; i < doubles.length; i++) {
    const exact = doubles[i] as number;
    const single = singles[i] as number;
    if (single === exact || !Number.isFinite(single)) continue;
    if (Math.abs(single) > Math.abs(exact)) bits[i] = (bits[i] as number) - 1;
    bits[i] = (bits[i] as number) | 1;
  }
  return singles;
}

let halves: Float32Array | undefined;

/** There are few enough halves for a table of all of them. */
function fromHalf(values: Uint16Array): Float32Array {
  halves ??= Float32Array.from({ length: 2 ** 16 }, (_, half) => halfToFloat(half));
  const out = new Float32Array(values.length);
  for (let i = 0; i < values.length; i++) out[i] = halves[values[i] as number] as number;
  return out;
}

function halfToFloat(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : sign * 2 ** -14 * (fraction / 1024);
}

/** A buffer that begins with these bytes, so that any type may look at it. */
function aligned(bytes: Uint8Array): ArrayBuffer {
  const { buffer, byteOffset } = bytes;
  return byteOffset === 0 && buffer instanceof ArrayBuffer ? buffer : new Uint8Array(bytes).buffer;
}
