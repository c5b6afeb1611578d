/** Matrices that some trainers and exporters keep as one: queries, keys and values of an attention, rows one after another. */

import { printed } from '../files/printable.js';
import { ImportError } from './errors.js';
import { FUSED } from './layouts.js';
import { countOf, type Tensor } from './tensor.js';

/** The names of the parts, in the order of their rows; nothing where a name is that of one matrix. */
export function partsOfFused(name: string): string[] | undefined {
  const [, attention, letters, end] = FUSED.exec(name) ?? [];
  return letters === undefined ? undefined : [...letters].map((letter) => `${attention}.${letter}.${end}`);
}

/** Equal shares of a tensor's rows. */
export function rowsOf(tensor: Tensor, share: number, shares: number): Tensor {
  const [rows = 0, ...row] = tensor.shape;
  if (rows % shares !== 0)
    throw new ImportError(
      printed`"${tensor.name}" has ${rows} rows, which are not ${shares} equal parts; save queries, keys and values apart.`,
    );
  const skipped = (share * rows * countOf(row)) / shares;
  return {
    ...tensor,
    shape: [rows / shares, ...row],
    read: (from, to) => tensor.read(from + skipped, to + skipped),
  };
}

/** The same tensors with those that are several as several; refuses what would then be there twice. */
export function unfused(tensors: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
  const found = new Map<string, Tensor>();
  for (const [name, tensor] of tensors) {
    const parts = partsOfFused(name) ?? [name];
    for (const [share, part] of parts.entries()) {
      if (found.has(part) || (parts.length > 1 && tensors.has(part)))
        throw new ImportError(printed`The weights have "${part}" twice, once in "${tensor.name}". Remove one of them.`);
      found.set(part, parts.length > 1 ? rowsOf(tensor, share, parts.length) : tensor);
    }
  }
  return found;
}
