/** What is asked of pictures: luma planes of I420. */

import type { Frames } from '../../sessions/ports.js';

/** One after the other, over all blocks. */
export function lumaOf(blocks: readonly Frames[]): Uint8Array[] {
  return blocks.flatMap(({ i420, count, width, height }) =>
    Array.from({ length: count }, (_, i) => {
      const start = (i * width * height * 3) / 2;
      return i420.subarray(start, start + width * height);
    }),
  );
}

export interface Spread {
  mean: number;
  deviation: number;
}

export function spread(values: Uint8Array): Spread {
  let [sum, squares] = [0, 0];
  for (const value of values) {
    sum += value;
    squares += value * value;
  }
  const mean = sum / values.length;
  return { mean, deviation: Math.sqrt(Math.max(0, squares / values.length - mean * mean)) };
}

/** Of neighbours in a row: 1 where they are alike, 0 where they know nothing of each other, as in noise. */
export function smoothness(luma: Uint8Array, width: number): number {
  const { mean, deviation } = spread(luma);
  if (deviation === 0) return 1;
  let [sum, count] = [0, 0];
  for (let i = 0; i + 1 < luma.length; i++) {
    if ((i + 1) % width === 0) continue;
    sum += (luma[i]! - mean) * (luma[i + 1]! - mean);
    count++;
  }
  return sum / count / (deviation * deviation);
}

/** Mean absolute difference of two pictures, 0 to 255. */
export function difference(a: Uint8Array, b: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += Math.abs(a[i]! - b[i]!);
  return sum / a.length;
}

/** In decibels; infinite where they are the same. */
export function psnr(a: Uint8Array, b: Uint8Array): number {
  let squares = 0;
  for (let i = 0; i < a.length; i++) squares += (a[i]! - b[i]!) ** 2;
  return 10 * Math.log10((255 ** 2 * a.length) / squares);
}

/** Luma, BT.709 in limited range, of RGB pictures of three bytes per pixel. */
export function lumaOfRgb(rgb: Uint8Array): Uint8Array {
  const luma = new Uint8ClampedArray(rgb.length / 3);
  for (let i = 0; i < luma.length; i++) {
    const [r, g, b] = [rgb[3 * i]!, rgb[3 * i + 1]!, rgb[3 * i + 2]!];
    luma[i] = 16 + (219 / 255) * (0.2126 * r + 0.7152 * g + 0.0722 * b);
  }
  return new Uint8Array(luma.buffer);
}
