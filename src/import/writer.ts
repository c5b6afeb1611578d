/** Writes safetensors without holding more than a piece of one tensor. */

import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { convert, type TargetType } from './convert.js';
import { ImportError } from './errors.js';
import { countOf, type Tensor } from './tensor.js';

export interface WrittenFile {
  bytes: number;
  sha256: string;
}

/** Bytes that are worth a write of their own. */
const TOGETHER = 2 ** 20;
/** Elements converted at a time. */
const PIECE = 4 * 2 ** 20;
/** So that whoever maps the file finds the first tensor aligned. */
const ALIGNMENT = 64;
const BYTES: Record<TargetType, number> = { F32: 4, BF16: 2 };

/** Matrices in the precision asked for; vectors and modulation tables, which are small, stay F32 if they are. */
export function targetType({ shape, dtype }: Tensor, name: string, precision: TargetType): TargetType {
  const small = shape.filter((size) => size > 1).length <= 1 || name.endsWith('modulation');
  return small && dtype !== 'BF16' ? 'F32' : precision;
}

/** Bytes of a file with these tensors, but for the header. */
export function bodyBytes(tensors: ReadonlyMap<string, Tensor>, precision: TargetType): number {
  return [...tensors].reduce(
    (sum, [name, tensor]) => sum + countOf(tensor.shape) * BYTES[targetType(tensor, name, precision)],
    0,
  );
}

export async function writeSafeTensors(
  path: string,
  tensors: ReadonlyMap<string, Tensor>,
  precision: TargetType,
  onBytes: (bytes: number) => void,
): Promise<WrittenFile> {
  const typed = [...tensors].map(([name, tensor]) => ({ name, tensor, type: targetType(tensor, name, precision) }));
  // Wider types first keeps every tensor aligned.
  const ordered = [...typed.filter(({ type }) => type === 'F32'), ...typed.filter(({ type }) => type === 'BF16')];
  const file = await open(path, 'w');
  try {
    const sink = new Sink(file);
    await sink.write(header(ordered));
    for (const { name, tensor, type } of ordered) {
      for await (const bytes of pieces(name, tensor, type)) {
        await sink.write(bytes);
        onBytes(bytes.length);
      }
    }
    return await sink.finish();
  } finally {
    await file.close();
  }
}

interface Typed {
  name: string;
  tensor: Tensor;
  type: TargetType;
}

function header(tensors: readonly Typed[]): Uint8Array {
  let at = 0;
  const entries = tensors.map(({ name, tensor, type }) => {
    const from = at;
    at += countOf(tensor.shape) * BYTES[type];
    return [name, { dtype: type, shape: tensor.shape, data_offsets: [from, at] }] as const;
  });
  const json = JSON.stringify(Object.fromEntries([['__metadata__', { format: 'pt' }], ...entries]));
  const length = Math.ceil((8 + Buffer.byteLength(json)) / ALIGNMENT) * ALIGNMENT - 8;
  const bytes = Buffer.alloc(8 + length, ' ');
  bytes.writeBigUInt64LE(BigInt(length));
  bytes.write(json, 8);
  return bytes;
}

async function* pieces(name: string, tensor: Tensor, type: TargetType): AsyncGenerator<Uint8Array> {
  const count = countOf(tensor.shape);
  for (let from = 0; from < count; from += PIECE) {
    const bytes = await tensor.read(from, Math.min(count, from + PIECE));
    try {
      yield convert(bytes, tensor.dtype, type);
    } catch (error) {
      throw error instanceof ImportError ? new ImportError(`"${name}" cannot be used. ${error.message}`) : error;
    }
  }
}

/** A file and the checksum of what went into it. Small pieces are written together. */
class Sink {
  private readonly hash = createHash('sha256');
  private pending: Uint8Array[] = [];
  private waiting = 0;
  private bytes = 0;

  constructor(private readonly file: FileHandle) {}

  async write(bytes: Uint8Array): Promise<void> {
    this.hash.update(bytes);
    this.pending.push(bytes);
    this.waiting += bytes.length;
    this.bytes += bytes.length;
    if (this.waiting >= TOGETHER) await this.flush();
  }

  async finish(): Promise<WrittenFile> {
    await this.flush();
    await this.file.sync();
    return { bytes: this.bytes, sha256: this.hash.digest('hex') };
  }

  private async flush(): Promise<void> {
    const bytes = this.pending.length === 1 ? (this.pending[0] as Uint8Array) : Buffer.concat(this.pending);
    this.pending = [];
    this.waiting = 0;
    for (let done = 0; done < bytes.length;) {
      done += (await this.file.write(bytes, done, bytes.length - done)).bytesWritten;
    }
  }
}
