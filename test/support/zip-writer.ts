/** Writes small stored zip archives, well-formed unless told otherwise. */

import { crc32 } from 'node:zlib';

export interface ZipPart {
  name: string;
  bytes: Uint8Array;
  method?: number;
  flags?: number;
  /** Lies of the central directory. */
  claimed?: { offset?: number; bytes?: number; name?: string };
}

export interface ZipOptions {
  zip64?: boolean;
  entries?: number;
}

export function writeZip(
  parts: readonly ZipPart[],
  { zip64 = false, entries = parts.length }: ZipOptions = {},
): Buffer {
  const body: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const part of parts) {
    const local = localHeader(part);
    directory.push(centralHeader(part, part.claimed?.offset ?? at, zip64));
    body.push(local, Buffer.from(part.bytes));
    at += local.length + part.bytes.length;
  }
  const central = Buffer.concat(directory);
  return Buffer.concat([
    ...body,
    central,
    ...(zip64 ? [end64(at, central.length, entries)] : []),
    end(at, central.length, entries, zip64),
  ]);
}

function localHeader({ name, bytes, method = 0, flags = 0 }: ZipPart): Buffer {
  const header = Buffer.alloc(30);
  header.writeUInt32LE(0x04034b50, 0);
  header.writeUInt16LE(flags, 6);
  header.writeUInt16LE(method, 8);
  header.writeUInt32LE(crc32(bytes), 14);
  header.writeUInt32LE(bytes.length, 18);
  header.writeUInt32LE(bytes.length, 22);
  header.writeUInt16LE(Buffer.byteLength(name), 26);
  return Buffer.concat([header, Buffer.from(name)]);
}

function centralHeader(part: ZipPart, offset: number, zip64: boolean): Buffer {
  const name = Buffer.from(part.claimed?.name ?? part.name);
  const bytes = part.claimed?.bytes ?? part.bytes.length;
  const header = Buffer.alloc(46);
  header.writeUInt32LE(0x02014b50, 0);
  header.writeUInt16LE(part.flags ?? 0, 8);
  header.writeUInt16LE(part.method ?? 0, 10);
  header.writeUInt32LE(crc32(part.bytes), 16);
  header.writeUInt32LE(zip64 ? 0xffffffff : bytes, 20);
  header.writeUInt32LE(zip64 ? 0xffffffff : bytes, 24);
  header.writeUInt16LE(name.length, 28);
  header.writeUInt16LE(zip64 ? 28 : 0, 30);
  header.writeUInt32LE(zip64 ? 0xffffffff : offset, 42);
  if (!zip64) return Buffer.concat([header, name]);
  const extra = Buffer.alloc(28);
  extra.writeUInt16LE(1, 0);
  extra.writeUInt16LE(24, 2);
  [bytes, bytes, offset].forEach((value, i) => extra.writeBigUInt64LE(BigInt(value), 4 + 8 * i));
  return Buffer.concat([header, name, extra]);
}

function end64(from: number, bytes: number, entries: number): Buffer {
  const record = Buffer.alloc(76);
  record.writeUInt32LE(0x06064b50, 0);
  record.writeBigUInt64LE(44n, 4);
  [entries, entries, bytes, from].forEach((value, i) => record.writeBigUInt64LE(BigInt(value), 24 + 8 * i));
  record.writeUInt32LE(0x07064b50, 56);
  record.writeBigUInt64LE(BigInt(from + bytes), 64);
  record.writeUInt32LE(1, 72);
  return record;
}

function end(from: number, bytes: number, entries: number, zip64: boolean): Buffer {
  const record = Buffer.alloc(22);
  record.writeUInt32LE(0x06054b50, 0);
  record.writeUInt16LE(zip64 ? 0xffff : entries, 8);
  record.writeUInt16LE(zip64 ? 0xffff : entries, 10);
  record.writeUInt32LE(zip64 ? 0xffffffff : bytes, 12);
  record.writeUInt32LE(zip64 ? 0xffffffff : from, 16);
  return record;
}
