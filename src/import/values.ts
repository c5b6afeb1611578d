import { memoryBytes } from './bytes.js';
import { toFloat32 } from './convert.js';
import { readSafeTensors } from './safetensors.js';
import { wholeTensor } from './tensor.js';

/** All values of safetensors in memory, by name. */
export async function readValues(bytes: Uint8Array): Promise<Map<string, Float32Array>> {
  const tensors = await readSafeTensors(memoryBytes(bytes));
  const values = tensors.map(async (t) => [t.name, toFloat32(await wholeTensor(t), t.dtype)] as const);
  return new Map(await Promise.all(values));
}
