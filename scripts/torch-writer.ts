/**
 * Writes checkpoints as `torch.save` does, tensor by tensor: a zip64 archive of stored entries with a pickle of protocol 2,
 * every storage aligned to 64 bytes. What it holds of a tensor at a time is what its source yields.
 */

import { type FileHandle, open } from 'node:fs/promises';
import { basename, extname } from 'node:path';
import { crc32 } from 'node:zlib';

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
const LOCAL_BYTES = 30;
const MOST_32 = 0xffffffff;

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

interface Written {
  name: Buffer;
  crc: number;
  bytes: number;
  offset: number;
}

class Archive {
  private at = 0;
  private readonly entries: Written[] = [];

  constructor(
    private readonly file: FileHandle,
    private readonly folder: string,
  ) {}

  /** The chunks are asked for twice: for the checksum, which stands in front of them, and for the file. */
  async add(path: string, chunks: () => Iterable<Uint8Array>): Promise<void> {
    const name = Buffer.from(`${this.folder}/${path}`);
    let [crc, bytes] = [0, 0];
    for (const chunk of chunks()) [crc, bytes] = [crc32(chunk, crc), bytes + chunk.length];
    if (bytes >= MOST_32) throw new Error(`${path} is too large for one entry.`);
    const entry = { name, crc, bytes, offset: this.at };
    this.entries.push(entry);
    await this.write(localHeader(entry));
    for (const chunk of chunks()) await this.write(chunk);
  }

  async finish(): Promise<number> {
    const from = this.at;
    const directory = Buffer.concat(this.entries.map(centralHeader));
    await this.write(directory);
    await this.write(endRecords(from, directory.length, this.entries.length));
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

/** Padded so that the data behind it is aligned. */
function localHeader({ name, crc, bytes, offset }: Written): Buffer {
  const bare = LOCAL_BYTES + name.length + 4;
  const padding = (ALIGNMENT - ((offset + bare) % ALIGNMENT)) % ALIGNMENT;
  const header = Buffer.alloc(bare + padding, 'Z');
  header.fill(0, 0, LOCAL_BYTES);
  header.writeUInt32LE(0x04034b50, 0);
  header.writeUInt32LE(crc, 14);
  header.writeUInt32LE(bytes, 18);
  header.writeUInt32LE(bytes, 22);
  header.writeUInt16LE(name.length, 26);
  header.writeUInt16LE(4 + padding, 28);
  name.copy(header, LOCAL_BYTES);
  header.write('FB', LOCAL_BYTES + name.length);
  header.writeUInt16LE(padding, LOCAL_BYTES + name.length + 2);
  return header;
}

/** An offset beyond 4 GiB stands in a zip64 field. */
function centralHeader({ name, crc, bytes, offset }: Written): Buffer {
  const wide = offset >= MOST_32;
  const header = Buffer.alloc(46);
  header.writeUInt32LE(0x02014b50, 0);
  header.writeUInt32LE(crc, 16);
  header.writeUInt32LE(bytes, 20);
  header.writeUInt32LE(bytes, 24);
  header.writeUInt16LE(name.length, 28);
  header.writeUInt16LE(wide ? 12 : 0, 30);
  header.writeUInt32LE(wide ? MOST_32 : offset, 42);
  if (!wide) return Buffer.concat([header, name]);
  const extra = Buffer.alloc(12);
  extra.writeUInt16LE(1, 0);
  extra.writeUInt16LE(8, 2);
  extra.writeBigUInt64LE(BigInt(offset), 4);
  return Buffer.concat([header, name, extra]);
}

/** The zip64 end record, its locator, and the old end record. */
function endRecords(from: number, bytes: number, entries: number): Buffer {
  const record = Buffer.alloc(56 + 20 + 22);
  record.writeUInt32LE(0x06064b50, 0);
  record.writeBigUInt64LE(44n, 4);
  [entries, entries, bytes, from].forEach((field, i) => record.writeBigUInt64LE(BigInt(field), 24 + 8 * i));
  record.writeUInt32LE(0x07064b50, 56);
  record.writeBigUInt64LE(BigInt(from + bytes), 64);
  record.writeUInt32LE(1, 72);
  record.writeUInt32LE(0x06054b50, 76);
  record.writeUInt16LE(Math.min(entries, 0xffff), 84);
  record.writeUInt16LE(Math.min(entries, 0xffff), 86);
  record.writeUInt32LE(Math.min(bytes, MOST_32), 88);
  record.writeUInt32LE(Math.min(from, MOST_32), 92);
  return record;
}
