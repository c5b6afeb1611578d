/** The records of a zip archive of entries that are stored as they are. */

/** What a field of 32 bits says when the value stands in a field of 64. */
const MOST_32 = 0xffffffff;
const MOST_16 = 0xffff;
export const LOCAL_BYTES = 30;

export interface ZipEntry {
  name: string;
  crc: number;
  bytes: number;
  /** Of its local header. */
  offset: number;
  method?: number;
  flags?: number;
}

/** In front of the data; `extra` may align that. */
export function localHeader(
  { name, crc, bytes, method = 0, flags = 0 }: Omit<ZipEntry, 'offset'>,
  extra: Uint8Array = Buffer.alloc(0),
): Buffer {
  if (bytes >= MOST_32) throw new Error(`${name} is too large for one entry.`);
  const header = Buffer.alloc(LOCAL_BYTES);
  header.writeUInt32LE(0x04034b50, 0);
  header.writeUInt16LE(flags, 6);
  header.writeUInt16LE(method, 8);
  header.writeUInt32LE(crc, 14);
  header.writeUInt32LE(bytes, 18);
  header.writeUInt32LE(bytes, 22);
  header.writeUInt16LE(Buffer.byteLength(name), 26);
  header.writeUInt16LE(extra.length, 28);
  return Buffer.concat([header, Buffer.from(name), extra]);
}

/** With fields of 64 bits where they are needed, or asked for. */
export function centralHeader(
  { name, crc, bytes, offset, method = 0, flags = 0 }: ZipEntry,
  zip64 = offset >= MOST_32,
): Buffer {
  const extra = zip64 ? wideFields(bytes, offset) : Buffer.alloc(0);
  const header = Buffer.alloc(46);
  header.writeUInt32LE(0x02014b50, 0);
  header.writeUInt16LE(flags, 8);
  header.writeUInt16LE(method, 10);
  header.writeUInt32LE(crc, 16);
  header.writeUInt32LE(zip64 ? MOST_32 : bytes, 20);
  header.writeUInt32LE(zip64 ? MOST_32 : bytes, 24);
  header.writeUInt16LE(Buffer.byteLength(name), 28);
  header.writeUInt16LE(extra.length, 30);
  header.writeUInt32LE(zip64 ? MOST_32 : offset, 42);
  return Buffer.concat([header, Buffer.from(name), extra]);
}

function wideFields(bytes: number, offset: number): Buffer {
  const extra = Buffer.alloc(28);
  extra.writeUInt16LE(1, 0);
  extra.writeUInt16LE(24, 2);
  [bytes, bytes, offset].forEach((value, i) => extra.writeBigUInt64LE(BigInt(value), 4 + 8 * i));
  return extra;
}

/** Behind the central directory, which begins at `from`: the end record, and for zip64 its wide one and that one's locator. */
export function endRecords(from: number, bytes: number, entries: number, zip64: boolean): Buffer {
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(zip64 ? MOST_16 : entries, 8);
  end.writeUInt16LE(zip64 ? MOST_16 : entries, 10);
  end.writeUInt32LE(zip64 ? MOST_32 : bytes, 12);
  end.writeUInt32LE(zip64 ? MOST_32 : from, 16);
  if (!zip64) return end;
  const wide = Buffer.alloc(56 + 20);
  wide.writeUInt32LE(0x06064b50, 0);
  wide.writeBigUInt64LE(44n, 4);
  [entries, entries, bytes, from].forEach((value, i) => wide.writeBigUInt64LE(BigInt(value), 24 + 8 * i));
  wide.writeUInt32LE(0x07064b50, 56);
  wide.writeBigUInt64LE(BigInt(from + bytes), 64);
  wide.writeUInt32LE(1, 72);
  return Buffer.concat([wide, end]);
}
