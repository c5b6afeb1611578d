import type { Tensor } from '../../src/import/index.js';

/** A tensor of F32 values. */
export function memoryTensor(name: string, shape: readonly number[], values: Float32Array): Tensor {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return { name, dtype: 'F32', shape, read: async (from, to) => bytes.slice(4 * from, 4 * to) };
}
