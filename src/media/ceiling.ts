/**
 * A ceiling for the bytes of a chunk. A chunk that passes it is encoded again, coarser, and the pictures that pass it even at the
 * coarsest (noise does) are softened as well. Nothing is remembered from chunk to chunk: the same frames give the same bytes.
 */
import type { Sample } from './cmaf.js';

export interface Pictures {
  width: number;
  height: number;
  /** Planar I420, one picture after the other. */
  frames: Uint8Array;
}

const COARSEST = 51;
/** Encodings of a chunk that look for its quantizer, the first included: each costs as much as the chunk itself. */
const ATTEMPTS = 4;
/** Steps of the quantizer that halve a chunk, as long as nothing better is known. */
const HALVING = 8;
/** Of the ceiling: what an estimate aims at, so that one that is a little off still fits, and what is good enough. */
const AIM = 0.9;
const ENOUGH = 0.7;
/** Sides of the squares that are averaged. */
const SOFTER = [2, 4, 8, 16];

/** `T`: what an encoder makes of pictures. */
type Encode<T> = (frames: Uint8Array, quantizer: number) => Promise<T>;

interface Attempt<T> {
  quantizer: number;
  bytes: number;
  made: T;
}

export async function encodeWithin<T extends { samples: Sample[] }>(
  ceiling: number,
  quantizer: number,
  pictures: Pictures,
  encode: Encode<T>,
): Promise<T> {
  const attempt = async (at: number, frames = pictures.frames): Promise<Attempt<T>> => {
    const made = await encode(frames, at);
    return { quantizer: at, bytes: made.samples.reduce((sum, { bytes }) => sum + bytes.length, 0), made };
  };
  const over: Attempt<T>[] = []; // the coarsest last
  let fits: Attempt<T> | undefined;
  for (let tries = 0, next = quantizer; tries < ATTEMPTS; tries++) {
    const tried = await attempt(next);
    if (tried.bytes <= ceiling) fits = tried;
    else over.push(tried);
    if (fits && (over.length === 0 || fits.bytes >= ceiling * ENOUGH)) break;
    const [finest, coarsest] = [over.at(-1)!.quantizer + 1, fits ? fits.quantizer - 1 : COARSEST];
    if (finest > coarsest) break;
    const last = !fits && tries === ATTEMPTS - 2;
    next = last ? COARSEST : clamp(estimate(over, fits, ceiling * AIM), finest, coarsest);
  }
  if (fits) return fits.made;
  let soft: Attempt<T> | undefined;
  for (const side of SOFTER) {
    soft = await attempt(COARSEST, soften(pictures, side));
    if (soft.bytes <= ceiling) break;
  }
  return soft!.made; // when none fits: the last is nearly flat, as small as a picture gets
}

const clamp = (value: number, least: number, most: number): number => Math.min(most, Math.max(least, value));

/** Where the line through the last two attempts, in the logarithm of their bytes, meets `bytes`. */
function estimate(over: readonly Attempt<unknown>[], fits: Attempt<unknown> | undefined, bytes: number): number {
  const last = over.at(-1)!;
  const other = fits ?? over.at(-2);
  const halvings = other ? Math.log2(last.bytes / other.bytes) : 0;
  const halving = other && halvings !== 0 ? (other.quantizer - last.quantizer) / halvings : HALVING;
  return last.quantizer + Math.ceil(Math.max(0, halving) * Math.log2(last.bytes / bytes));
}

/** The pictures with squares of `side` samples averaged, in every plane. */
export function soften({ width, height, frames }: Pictures, side: number): Uint8Array {
  const out = new Uint8Array(frames.length);
  const chroma = [width / 2, height / 2] as const;
  const planes = [[width, height], chroma, chroma] as const;
  for (let at = 0; at < frames.length;) {
    for (const [columns, rows] of planes) {
      const end = at + columns * rows;
      average(frames.subarray(at, end), out.subarray(at, end), columns, side);
      at = end;
    }
  }
  return out;
}

function average(plane: Uint8Array, out: Uint8Array, columns: number, side: number): void {
  const rows = plane.length / columns;
  for (let top = 0; top < rows; top += side) {
    for (let left = 0; left < columns; left += side) {
      const [bottom, right] = [Math.min(rows, top + side), Math.min(columns, left + side)];
      let sum = 0;
      for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) sum += plane[y * columns + x]!;
      const mean = Math.round(sum / ((bottom - top) * (right - left)));
      for (let y = top; y < bottom; y++) out.fill(mean, y * columns + left, y * columns + right);
    }
  }
}
