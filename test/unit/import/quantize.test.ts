import { describe, expect, it } from 'vitest';
import { dequantized, isQuantized, quantizeRows } from '../../../src/import/quantize.js';
import { ditShapes, textEncoderShapes } from '../../../src/import/shapes.js';
import type { Tensor } from '../../../src/import/tensor.js';

const stored = (name: string, dtype: Tensor['dtype'], shape: number[], data: Uint8Array, size = 1): Tensor => ({
  ...{ name, dtype, shape },
  read: async (from, to) => data.slice(from * size, to * size),
});

/** Values through bytes and back. */
async function roundTrip(values: Float32Array, columns: number, type: 'I8' | 'F8_E4M3') {
  const { bytes, scales } = quantizeRows(values, columns, type);
  const shape = [values.length / columns, columns];
  const file = new Map([
    ['m.weight', stored('m.weight', type, shape, bytes)],
    ['m.weight_scale', stored('m.weight_scale', 'F32', [shape[0] as number], new Uint8Array(scales.buffer), 4)],
  ]);
  const plain = dequantized(file);
  expect([...plain.keys()]).toEqual(['m.weight']);
  const back = plain.get('m.weight') as Tensor;
  expect(back.dtype).toBe('F32');
  return { bytes, scales, file, back, values: new Float32Array((await back.read(0, values.length)).buffer) };
}

/** All numbers that a byte can stand for, written down from the definition: bias 7, 3 bits of fraction, no infinities. */
const E4M3 = Array.from({ length: 0x7f }, (_, code) => {
  const exponent = code >> 3;
  return exponent === 0 ? (code / 8) * 2 ** -6 : (1 + (code % 8) / 8) * 2 ** (exponent - 7);
});

describe('weights in eight bits', () => {
  it('int8 rounds to the nearest of 255 steps, ties to even, with a scale for every row', async () => {
    const rows = Float32Array.from([127, 1.5, 2.5, -0.5, -127, 63.49, 254, 3, -5, 0.9, 1, -1.1]);
    const { bytes, scales } = await roundTrip(rows, 6, 'I8');
    expect([...scales]).toEqual([1, 2]);
    expect([...new Int8Array(bytes.buffer)]).toEqual([127, 2, 2, 0, -127, 63, 127, 2, -2, 0, 0, -1]);
  });

  it('fp8 takes the nearest number that there is, ties to even', () => {
    const random = (i: number) => Math.sin(i * 12.9898) * 43758.5453;
    const values = Float32Array.from({ length: 4_000 }, (_, i) => {
      const spread = 2 ** (-20 * ((i % 97) / 97));
      return 448 * spread * (random(i) - Math.floor(random(i))) * (i % 2 ? -1 : 1);
    });
    // Exact numbers, exact ties, and the largest, which makes the scale 1.
    const [low, high] = [E4M3[20] as number, E4M3[21] as number];
    values.set([448, low, (low + high) / 2, (high + (E4M3[22] as number)) / 2, 2 ** -10, 3 * 2 ** -10, -0, 0]);
    const { bytes, scales } = quantizeRows(values, values.length, 'F8_E4M3');
    expect(scales[0]).toBe(1);
    bytes.forEach((byte, i) => {
      const value = Math.abs(values[i] as number);
      const distances = E4M3.map((number) => Math.abs(number - value));
      const least = Math.min(...distances);
      const nearest = distances.flatMap((distance, code) => (distance === least ? [code] : []));
      const wanted = nearest.length === 1 ? nearest[0] : nearest.find((code) => code % 2 === 0);
      expect(byte & 0x7f).toBe(wanted);
      expect(byte >> 7).toBe(Object.is(values[i], -0) || (values[i] as number) < 0 ? 1 : 0);
    });
  });

  it.each([
    ['I8', 1 / 254],
    ['F8_E4M3', 1 / 16],
  ] as const)('%s comes back within its precision, also in pieces', async (type, bound) => {
    const values = Float32Array.from({ length: 7 * 33 }, (_, i) => Math.sin(i) * 2 ** (i % 9) * 1e-3);
    const { values: found, back } = await roundTrip(values, 33, type);
    for (const [i, value] of found.entries()) {
      const row = values.subarray(33 * Math.floor(i / 33), 33 * (Math.floor(i / 33) + 1));
      const highest = row.reduce((most, each) => Math.max(most, Math.abs(each)), 0);
      const error = Math.abs(value - (values[i] as number));
      const allowed = type === 'I8' ? highest : Math.max(Math.abs(values[i] as number), highest * 2 ** -9);
      expect(error).toBeLessThanOrEqual(allowed * bound * 1.001);
    }
    const part = new Float32Array((await back.read(40, 101)).buffer);
    expect(part).toEqual(found.slice(40, 101));
  });

  it('rows of nothing stay nothing, and what is no number is refused', () => {
    for (const type of ['I8', 'F8_E4M3'] as const) {
      const { bytes, scales } = quantizeRows(Float32Array.from([0, -0, 1e-42, 0]), 2, type);
      expect([...scales, ...bytes]).toEqual([0, 0, 0, 0, 0, 0]);
      expect(() => quantizeRows(Float32Array.from([1, NaN]), 2, type)).toThrow(/NaN/);
      expect(() => quantizeRows(Float32Array.from([1, -Infinity]), 2, type)).toThrow(/infinity/);
    }
  });

  it('are refused without their scales', () => {
    const matrix = stored('m.weight', 'I8', [2, 2], new Uint8Array(4));
    expect(() => dequantized(new Map([['m.weight', matrix]]))).toThrow(/"m\.weight".*scales/);
    const short = stored('m.weight_scale', 'F32', [1], new Uint8Array(4), 4);
    expect(() => dequantized(new Map([['m.weight', matrix], [short.name, short]]))).toThrow(/scales/); // prettier-ignore
  });

  it('are the matrices of the layers, and the embedding of the text', () => {
    const dit = {
      dim: 8,
      ffnDim: 16,
      numLayers: 2,
      freqDim: 4,
      inDim: 16,
      outDim: 16,
      textDim: 8,
      patchSize: [1, 2, 2],
    };
    const text = { vocabSize: 9, dim: 8, dimAttn: 8, dimFfn: 16, numHeads: 2, numLayers: 2, numBuckets: 32 };
    const names = (component: 'dit' | 'textEncoder', shapes: Map<string, readonly number[]>) =>
      [...shapes.keys()].filter((name) => isQuantized(component, name));
    expect(names('dit', ditShapes(dit))).toHaveLength(2 * 10);
    const encoder = names('textEncoder', textEncoderShapes({ ...text, maxDistance: 128, eps: 1e-6 }));
    expect(encoder).toHaveLength(2 * 7 + 1);
    expect(encoder[0]).toBe('token_embedding.weight');
    for (const component of ['vae', 'tinyVae'] as const)
      expect(isQuantized(component, 'blocks.0.ffn.0.weight')).toBe(false);
  });
});
