/**
 * Writes checkpoints as `torch.save` does, tensor by tensor: a zip64 archive of stored entries with a pickle of protocol 2,
 * every storage aligned to 64 bytes. What it holds of a tensor at a time is what its source yields.
 */

import { type FileHandle, open } from 'node:fs/promises';
import { basename, extname } from 'node:path';
import { crc32 } from 'node:zlib';
import { centralHeader, endRecords, LOCAL_BYTES, localHeader, type ZipEntry } from './zip-records.js';

export type StorageType = 'F32' | 'F16' | 'BF16';

export interface SourceTensor {
  name: string;
  shape: readonly number[];
  type: StorageType;
  /** The little-endian bytes, the same every time it is called. */
  chunks(): Iterable<Uint8Array>;
}

/** Dicts of dicts end in tensors; numbers stay numbers. */
export interface Contents {
  [key: string]: Contents | readonly SourceTensor[] | number;
}

export const BYTES: Record<StorageType, number> = { F32: 4, F16: 2, BF16: 2 };
const STORAGES: Record<StorageType, string> = { F32: 'FloatStorage', F16: 'HalfStorage', BF16: 'BFloat16Storage' };
const ALIGNMENT = 64;

export async function writeTorch(path: string, contents: Contents | readonly SourceTensor[]): Promise<number> {
  const tensors: SourceTensor[] = [];
  const pickle = pickleOf(contents, tensors);
  const archive = new Archive(await open(path, 'w'), basename(path, extname(path)));
  try {
    await archive.add('data.pkl', () => [pickle]);
    await archive.add('byteorder', () => [Buffer.from('little')]);
    for (const [key, tensor] of tensors.entries()) await archive.add(`data/${key}`, () => tensor.chunks());
    await archive.add('version', () => [Buffer.from('3\n')]);
    return await archive.finish();
  } finally {
    await archive.close();
  }
}

// -- the pickle

function pickleOf(contents: Contents | readonly SourceTensor[], tensors: SourceTensor[]): Buffer {
  return Buffer.concat([Buffer.from([0x80, 2]), ...value(contents, tensors), Buffer.from('.')]);
}

function value(item: Contents | readonly SourceTensor[] | number, tensors: SourceTensor[]): Buffer[] {
  if (typeof item === 'number') return [int(item)];
  if (isTensors(item)) return dict(item.map((tensor) => [tensor.name, tensorOf(tensor, tensors.push(tensor) - 1)]));
  return dict(Object.entries(item).map(([key, inner]) => [key, value(inner, tensors)]));
}

function isTensors(item: Contents | readonly SourceTensor[]): item is readonly SourceTensor[] {
  return Array.isArray(item);
}

/** An OrderedDict, filled. */
function dict(entries: readonly (readonly [string, Buffer[]])[]): Buffer[] {
  const items = entries.flatMap(([key, inner]) => [text(key), ...inner]);
  return [Buffer.from('ccollections\nOrderedDict\n)R('), ...items, Buffer.from('u')];
}

function tensorOf({ shape, type }: SourceTensor, key: number): Buffer[] {
  const count = shape.reduce((product, size) => product * size, 1);
  const stride = shape.map((_, i) => shape.slice(i + 1).reduce((product, size) => product * size, 1));
  const storage = [
    Buffer.from('('),
    text('storage'),
    Buffer.from(`ctorch\n${STORAGES[type]}\n`),
    ...[text(String(key)), text('cpu'), int(count), Buffer.from('tQ')],
  ];
  return [
    Buffer.from('ctorch._utils\n_rebuild_tensor_v2\n('),
    ...[...storage, int(0), tuple(shape), tuple(stride)],
    // requires_grad is false, and there are no backward hooks.
    Buffer.from('\x89ccollections\nOrderedDict\n)RtR', 'latin1'),
  ];
}

function tuple(sizes: readonly number[]): Buffer {
  return Buffer.concat([Buffer.from('('), ...sizes.map(int), Buffer.from('t')]);
}

function text(characters: string): Buffer {
  const bytes = Buffer.from(characters);
  const head = Buffer.from('X\0\0\0\0');
  head.writeUInt32LE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

function int(number: number): Buffer {
  const bytes = Buffer.alloc(5, 'J');
  bytes.writeInt32LE(number, 1);
  return bytes;
}

// -- the archive

class Archive {
  private at = 0;
  private readonly entries: ZipEntry[] = [];

  constructor(
    private readonly file: FileHandle,
    private readonly folder: string,
  ) {}

  /** The chunks are asked for twice: for the checksum, which stands in front of them, and for the file. */
  async add(path: string, chunks: () => Iterable<Uint8Array>): Promise<void> {
    const name = `${this.folder}/${path}`;
    let [crc, bytes] = [0, 0];
    for (const chunk of chunks()) [crc, bytes] = [crc32(chunk, crc), bytes + chunk.length];
    const entry = { name, crc, bytes, offset: this.at };
    this.entries.push(entry);
    await this.write(localHeader(entry, padding(entry)));
    for (const chunk of chunks()) await this.write(chunk);
  }

  async finish(): Promise<number> {
    const from = this.at;
    const directory = Buffer.concat(this.entries.map((entry) => centralHeader(entry)));
    await this.write(directory);
    await this.write(endRecords(from, directory.length, this.entries.length, true));
    await this.file.sync();
    return this.at;
  }

  close(): Promise<void> {
    return this.file.close();
  }

  private async write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      done += (await this.file.write(bytes, done, bytes.length - done)).bytesWritten;
    }
    this.at += bytes.length;
  }
}

/** An extra field as torch writes it, so that the data behind it is aligned. */
function padding({ name, offset }: ZipEntry): Buffer {
  const bare = LOCAL_BYTES + Buffer.byteLength(name) + 4;
  const length = (ALIGNMENT - ((offset + bare) % ALIGNMENT)) % ALIGNMENT;
  const field = Buffer.alloc(4 + length, 'Z');
  field.write('FB');
  field.writeUInt16LE(length, 2);
  return field;
}
