import { join } from 'node:path';
import type { Tensor } from '../import/index.js';

const NAMES: Partial<Record<Tensor['dtype'], string>> = {
  F32: 'fp32',
  F16: 'fp16',
  BF16: 'bf16',
  I8: 'int8',
  F8_E4M3: 'fp8',
};

/** What most of the video network's weights are stored as; `null` when the file cannot be read. */
export async function storedPrecision(directory: string): Promise<string | null> {
  const { openSource } = await import('../import/index.js');
  const source = await openSource(join(directory, 'dit.safetensors')).catch(() => undefined);
  if (!source) return null;
  const counts = new Map<Tensor['dtype'], number>();
  for (const { dtype, shape } of source.tensors) {
    counts.set(dtype, (counts.get(dtype) ?? 0) + shape.reduce((product, size) => product * size, 1));
  }
  await source.close();
  const [most] = [...counts].sort(([, a], [, b]) => b - a);
  return most ? (NAMES[most[0]] ?? most[0]) : null;
}
