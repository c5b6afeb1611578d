/** Writes safetensors without holding more than a piece of one tensor. */

import { printed } from '../files/printable.js';
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { convert, type TargetType, toFloat32 } from './convert.js';
import { ImportError } from './errors.js';
import { type QuantizedType, quantizeRows, scaleName } from './quantize.js';
import { countOf, sizeOf, type Tensor } from './tensor.js';

export interface WrittenFile {
  bytes: number;
  sha256: string;
}

/** How a tensor is stored; the 8-bit types come with scales (quantize.ts). */
export type StoredType = TargetType | QuantizedType;
/** Rows that were just quantized, and where in their tensor they begin. */
export interface QuantizedRows {
  name: string;
  type: QuantizedType;
  from: number;
  columns: number;
  values: Float32Array;
  bytes: Uint8Array;
  scales: Float32Array;
}
export type OnQuantized = (rows: QuantizedRows) => Promise<void>;

export type TypeOf = (name: string, tensor: Tensor) => StoredType;

/** Bytes that are worth a write of their own. */
const TOGETHER = 2 ** 20;
/** Elements converted at a time; of matrices, whole rows. */
const PIECE = 2 ** 20;
/** So that whoever maps the file finds the first tensor aligned. */
const ALIGNMENT = 64;
/** Wider types first keeps tensors aligned. */
const ORDER: readonly StoredType[] = ['F32', 'BF16', 'I8', 'F8_E4M3'];

/** Vectors and modulation tables, which are small and stay as precise as they are. */
export function isSmall(name: string, { shape }: Tensor): boolean {
  return shape.filter((size) => size > 1).length <= 1 || name.endsWith('modulation');
}

/** Bytes of a file with these tensors, but for the header. */
export function bodyBytes(tensors: ReadonlyMap<string, Tensor>, typeOf: TypeOf): number {
  return entriesOf(tensors, typeOf).reduce((sum, { type, shape }) => sum + countOf(shape) * sizeOf(type), 0);
}

export async function writeSafeTensors(
  path: string,
  tensors: ReadonlyMap<string, Tensor>,
  typeOf: TypeOf,
  onBytes: (bytes: number) => void,
  onQuantized?: OnQuantized,
): Promise<WrittenFile> {
  const entries = entriesOf(tensors, typeOf, onQuantized);
  const file = await open(path, 'w');
  try {
    const sink = new Sink(file);
    await sink.write(header(entries));
    for (const { write } of entries) {
      for await (const bytes of ahead(write())) {
        await sink.write(bytes);
        onBytes(bytes.length);
      }
    }
    return await sink.finish();
  } finally {
    await file.close();
  }
}

interface Entry {
  name: string;
  type: StoredType;
  shape: readonly number[];
  write: () => AsyncGenerator<Uint8Array>;
}

/**
 * In the order of the file. The scales of a matrix are known when it has been quantized, so they come last; those of one that
 * is so already are among the tensors.
 */
function entriesOf(tensors: ReadonlyMap<string, Tensor>, typeOf: TypeOf, onQuantized?: OnQuantized): Entry[] {
  const entries: Entry[] = [];
  const scales: Entry[] = [];
  for (const [name, tensor] of tensors) {
    const type = typeOf(name, tensor);
    const { shape } = tensor;
    if (type === 'F32' || type === 'BF16') {
      entries.push({ name, type, shape, write: () => converted(name, tensor, type) });
      continue;
    }
    if (tensor.dtype === type) {
      entries.push({ name, type, shape, write: () => unchanged(tensor) });
      continue;
    }
    const rows = shape[0] ?? 1;
    const scale = new Float32Array(rows);
    entries.push({ name, type, shape, write: () => quantized(name, tensor, type, scale, onQuantized) });
    scales.push({ name: scaleName(name), type: 'F32', shape: [rows], write: () => bytesOf(scale) });
  }
  return [...entries.sort((a, b) => ORDER.indexOf(a.type) - ORDER.indexOf(b.type)), ...scales];
}

function header(entries: readonly Entry[]): Uint8Array {
  let at = 0;
  const described = entries.map(({ name, type, shape }) => {
    const from = at;
    at += countOf(shape) * sizeOf(type);
    return [name, { dtype: type, shape, data_offsets: [from, at] }] as const;
  });
  const json = JSON.stringify(Object.fromEntries([['__metadata__', { format: 'pt' }], ...described]));
  const length = Math.ceil((8 + Buffer.byteLength(json)) / ALIGNMENT) * ALIGNMENT - 8;
  const bytes = Buffer.alloc(8 + length, ' ');
  bytes.writeBigUInt64LE(BigInt(length));
  bytes.write(json, 8);
  return bytes;
}

async function* converted(name: string, tensor: Tensor, type: TargetType): AsyncGenerator<Uint8Array> {
  for await (const { bytes } of pieces(tensor)) yield usable(name, () => convert(bytes, tensor.dtype, type));
}

async function* unchanged(tensor: Tensor): AsyncGenerator<Uint8Array> {
  for await (const { bytes } of pieces(tensor)) yield bytes;
}

async function* quantized(
  name: string,
  tensor: Tensor,
  type: QuantizedType,
  scale: Float32Array,
  onQuantized?: OnQuantized,
): AsyncGenerator<Uint8Array> {
  const columns = rowOf(tensor.shape);
  if (columns > PIECE) throw new ImportError(printed`"${name}" is too wide to be quantized.`);
  for await (const { from, bytes } of pieces(tensor)) {
    const values = toFloat32(bytes, tensor.dtype);
    const part = usable(name, () => quantizeRows(values, columns, type));
    scale.set(part.scales, from / columns);
    await onQuantized?.({ name, type, from, columns, values, ...part });
    yield part.bytes;
  }
}

async function* bytesOf(values: Float32Array): AsyncGenerator<Uint8Array> {
  yield new Uint8Array(values.buffer);
}

/** One after another, as many whole rows as fit; parts of a row only where it is longer. */
async function* pieces(tensor: Tensor): AsyncGenerator<{ from: number; bytes: Uint8Array }> {
  const count = countOf(tensor.shape);
  const row = rowOf(tensor.shape);
  const step = row <= PIECE ? Math.floor(PIECE / row) * row : PIECE;
  for (let from = 0; from < count; from += step) {
    yield { from, bytes: await tensor.read(from, Math.min(count, from + step)) };
  }
}

function rowOf([, ...row]: readonly number[]): number {
  return Math.max(1, countOf(row));
}

function usable<T>(name: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw error instanceof ImportError ? new ImportError(printed`"${name}" cannot be used. ${error.message}`) : error;
  }
}

/** The same items, each asked for while its predecessor is being used: the disk reads while the processor works. */
async function* ahead<T>(items: AsyncGenerator<T>): AsyncGenerator<T> {
  let next = items.next();
  for (;;) {
    const item = await next;
    if (item.done) return;
    next = items.next();
    // A failure is thrown when its turn comes.
    next.catch(() => undefined);
    yield item.value;
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
