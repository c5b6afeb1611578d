/**
 * A strict reader of the zip archives that `torch.save` writes: stored entries only, so that an entry is a range of the
 * file. Everything that the central directory says is checked before anything is believed: entries lie inside the file, in
 * front of the directory, and do not overlap; the directory is bounded. Zip64 fields are read.
 */

import { printed } from '../files/printable.js';
import { type ByteSource, inPages } from './bytes.js';
import { ImportError, quoted } from './errors.js';

export interface ZipEntry {
  name: string;
  /** Range of the stored bytes in the file. */
  from: number;
  to: number;
  crc32: number;
}

const MOST_ENTRIES = 100_000;
const MOST_DIRECTORY_BYTES = 32 * 2 ** 20;
const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const END64 = 0x06064b50;
const LOCATOR64 = 0x07064b50;
const END_BYTES = 22;
const END64_BYTES = 56;
const LOCATOR_BYTES = 20;
const LOCAL_BYTES = 30;
const CENTRAL_BYTES = 46;
const LONGEST_COMMENT = 0xffff;
const ENCRYPTED = 1;

interface Directory {
  from: number;
  to: number;
  entries: number;
}

interface Record {
  name: string;
  header: number;
  bytes: number;
  crc32: number;
}

/** The entries by name. */
export async function readZip(file: ByteSource): Promise<Map<string, ZipEntry>> {
  const directory = await findDirectory(file);
  const records = readDirectory(await file.read(directory.from, directory.to), directory.entries);
  return locate(file, records, directory.from);
}

async function findDirectory(file: ByteSource): Promise<Directory> {
  const tailFrom = Math.max(0, file.size - END_BYTES - LONGEST_COMMENT);
  const tail = view(await file.read(tailFrom, file.size));
  let at = tail.byteLength - END_BYTES;
  while (
    at >= 0 &&
    !(tail.getUint32(at, true) === END && at + END_BYTES + tail.getUint16(at + 20, true) === tail.byteLength)
  )
    at--;
  if (at < 0) throw new ImportError('The archive has no end record: the file is truncated or not a zip archive.');
  const small = {
    disks: tail.getUint16(at + 4, true) + tail.getUint16(at + 6, true),
    entries: tail.getUint16(at + 10, true),
    bytes: tail.getUint32(at + 12, true),
    from: tail.getUint32(at + 16, true),
  };
  const end = tailFrom + at;
  const large = await readEnd64(file, end);
  if (!large && small.disks !== 0) throw new ImportError('The archive is spread over several files.');
  return checkDirectory(large ?? { ...small, end });
}

interface EndRecord {
  entries: number;
  bytes: number;
  from: number;
  /** Where the directory has to end at the latest. */
  end: number;
}

async function readEnd64(file: ByteSource, end: number): Promise<EndRecord | undefined> {
  if (end < LOCATOR_BYTES + END64_BYTES) return undefined;
  const locator = view(await file.read(end - LOCATOR_BYTES, end));
  if (locator.getUint32(0, true) !== LOCATOR64) return undefined;
  const at = uint64(locator, 8);
  if (at > end - LOCATOR_BYTES - END64_BYTES)
    throw new ImportError('The archive is damaged: its zip64 record is displaced.');
  const record = view(await file.read(at, at + END64_BYTES));
  if (record.getUint32(0, true) !== END64) throw new ImportError('The archive is damaged: it has no zip64 record.');
  if (record.getUint32(16, true) !== 0 || record.getUint32(20, true) !== 0) {
    throw new ImportError('The archive is spread over several files.');
  }
  return { entries: uint64(record, 32), bytes: uint64(record, 40), from: uint64(record, 48), end: at };
}

function checkDirectory({ entries, bytes, from, end }: EndRecord): Directory {
  if (entries > MOST_ENTRIES || bytes > MOST_DIRECTORY_BYTES) {
    throw new ImportError(
      printed`The archive lists ${entries} entries in ${bytes} bytes, which no real checkpoint does.`,
    );
  }
  // Between directory and end record nothing has a place.
  if (from + bytes !== end) throw new ImportError('The archive is damaged: its directory is not where it should be.');
  return { from, to: from + bytes, entries };
}

function readDirectory(bytes: Uint8Array, entries: number): Record[] {
  const directory = view(bytes);
  const records: Record[] = [];
  let at = 0;
  for (let i = 0; i < entries; i++) {
    if (at + CENTRAL_BYTES > bytes.length || directory.getUint32(at, true) !== CENTRAL) {
      throw new ImportError('The archive is damaged: its directory is truncated.');
    }
    const nameBytes = directory.getUint16(at + 28, true);
    const extraBytes = directory.getUint16(at + 30, true);
    const next = at + CENTRAL_BYTES + nameBytes + extraBytes + directory.getUint16(at + 32, true);
    if (next > bytes.length) throw new ImportError('The archive is damaged: its directory is truncated.');
    records.push(readRecord(directory, at, nameBytes, extraBytes));
    at = next;
  }
  if (at !== bytes.length) throw new ImportError('The archive is damaged: its directory has more than it says.');
  return records;
}

function readRecord(directory: DataView, at: number, nameBytes: number, extraBytes: number): Record {
  const nameAt = at + CENTRAL_BYTES;
  const name = text(new Uint8Array(directory.buffer, directory.byteOffset + nameAt, nameBytes));
  if (directory.getUint16(at + 8, true) & ENCRYPTED)
    throw new ImportError(printed`${quoted(name)} in the archive is encrypted.`);
  if (directory.getUint16(at + 10, true) !== 0) {
    throw new ImportError(
      printed`${quoted(name)} in the archive is compressed. Save it again without compression, as torch.save does.`,
    );
  }
  const extra = zip64Extra(directory, nameAt + nameBytes, extraBytes);
  const wide = (field: number) => {
    const value = directory.getUint32(at + field, true);
    return value === 0xffffffff && extra ? extra.next(name) : value;
  };
  // The order in which zip64 fields follow each other.
  const bytes = wide(24);
  const stored = wide(20);
  const header = wide(42);
  if (bytes !== stored)
    throw new ImportError(printed`The archive is damaged: ${quoted(name)} is stored with two different sizes.`);
  return { name, header, bytes, crc32: directory.getUint32(at + 16, true) };
}

/** Reads the 64-bit fields of a zip64 extra one after another. */
function zip64Extra(directory: DataView, from: number, bytes: number): { next(name: string): number } | undefined {
  for (let at = from; at + 4 <= from + bytes;) {
    const end = at + 4 + directory.getUint16(at + 2, true);
    if (end > from + bytes) return undefined;
    if (directory.getUint16(at, true) === 1) return fields(directory, at + 4, end);
    at = end;
  }
  return undefined;
}

function fields(directory: DataView, from: number, end: number): { next(name: string): number } {
  let at = from;
  return {
    next(name) {
      if (at + 8 > end) throw new ImportError(printed`The archive is damaged: ${quoted(name)} lacks a zip64 field.`);
      at += 8;
      return uint64(directory, at - 8);
    },
  };
}

/** Finds the bytes behind each local header; refuses entries that overlap or leave the file. */
async function locate(file: ByteSource, records: Record[], end: number): Promise<Map<string, ZipEntry>> {
  const entries = new Map<string, ZipEntry>();
  let free = 0;
  const pages = inPages(file);
  for (const record of [...records].sort((a, b) => a.header - b.header)) {
    if (record.header < free)
      throw new ImportError(printed`The archive is damaged: ${quoted(record.name)} overlaps another entry.`);
    const from = await dataStart(pages, record);
    free = from + record.bytes;
    if (free > end)
      throw new ImportError(printed`The archive is damaged: ${quoted(record.name)} reaches beyond its end.`);
    if (entries.has(record.name)) throw new ImportError(printed`The archive has two entries ${quoted(record.name)}.`);
    entries.set(record.name, { name: record.name, from, to: free, crc32: record.crc32 });
  }
  return entries;
}

async function dataStart(file: Pick<ByteSource, 'read'>, { name, header }: Record): Promise<number> {
  const nameBytes = Buffer.byteLength(name);
  const nameAt = LOCAL_BYTES;
  const bytes = await file.read(header, header + nameAt + nameBytes);
  const local = view(bytes);
  if (local.getUint32(0, true) !== LOCAL)
    throw new ImportError(printed`The archive is damaged: ${quoted(name)} has no header.`);
  if (local.getUint16(26, true) !== nameBytes || Buffer.from(name).compare(bytes, nameAt) !== 0) {
    throw new ImportError(printed`The archive is damaged: ${quoted(name)} has a different name in its header.`);
  }
  return header + nameAt + nameBytes + local.getUint16(28, true);
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function uint64(data: DataView, at: number): number {
  const value = data.getBigUint64(at, true);
  if (value > BigInt(Number.MAX_SAFE_INTEGER))
    throw new ImportError('The archive is damaged: it has an impossible size.');
  return Number(value);
}

const UTF8 = new TextDecoder('utf-8', { fatal: true });

function text(bytes: Uint8Array): string {
  try {
    return UTF8.decode(bytes);
  } catch {
    throw new ImportError('The archive is damaged: the name of an entry is not UTF-8.');
  }
}
