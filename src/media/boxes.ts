/** ISO base media boxes (ISO/IEC 14496-12): the few lines needed to write and to read them. */

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(parts);
}

export const u8 = (...values: number[]): Uint8Array => Uint8Array.from(values);

export function u16(...values: number[]): Uint8Array {
  const bytes = Buffer.allocUnsafe(values.length * 2);
  values.forEach((value, i) => bytes.writeUInt16BE(value, i * 2));
  return bytes;
}

export const u32 = (...values: number[]): Uint8Array => u32Table(values);

export const u64 = (...values: number[]): Uint8Array => u64Table(values);

/** Like `u32`, for tables that are too long to be an argument list. */
export function u32Table(values: readonly number[]): Uint8Array {
  const bytes = Buffer.allocUnsafe(values.length * 4);
  values.forEach((value, i) => bytes.writeUInt32BE(value, i * 4));
  return bytes;
}

export function u64Table(values: readonly number[]): Uint8Array {
  const bytes = Buffer.allocUnsafe(values.length * 8);
  values.forEach((value, i) => bytes.writeBigUInt64BE(BigInt(value), i * 8));
  return bytes;
}

export const ascii = (text: string): Uint8Array => Buffer.from(text, 'latin1');

export const zeros = (count: number): Uint8Array => new Uint8Array(count);

/** `size type payload`. */
export function box(type: string, ...payload: Uint8Array[]): Uint8Array {
  const size = payload.reduce((sum, part) => sum + part.length, 8);
  return concat([u32(size), ascii(type), ...payload]);
}

/** A box that starts with a version and 24 bits of flags. */
export function fullBox(type: string, version: number, flags: number, ...payload: Uint8Array[]): Uint8Array {
  return box(type, u32(((version << 24) | flags) >>> 0), ...payload);
}

export interface Box {
  type: string;
  /** Where the box starts in the bytes that were read. */
  offset: number;
  payload: Buffer;
}

/** The boxes that follow each other in `bytes`. Throws RangeError when they are cut off or malformed. */
export function readBoxes(bytes: Uint8Array): Box[] {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const boxes: Box[] = [];
  for (let offset = 0; offset < buffer.length;) {
    if (offset + 8 > buffer.length) throw new RangeError(`box header cut off at byte ${offset}`);
    const type = buffer.toString('latin1', offset + 4, offset + 8);
    const size = buffer.readUInt32BE(offset);
    const [header, end] =
      size === 1
        ? [16, offset + Number(buffer.readBigUInt64BE(offset + 8))]
        : [8, size === 0 ? buffer.length : offset + size];
    if (end < offset + header || end > buffer.length)
      throw new RangeError(`box ${type} at byte ${offset} has a bad size`);
    boxes.push({ type, offset, payload: buffer.subarray(offset + header, end) });
    offset = end;
  }
  return boxes;
}

/** The payload of the box at `path`, e.g. `['moov', 'trak', 'mdia']`, taking the first of each type. */
export function findBox(bytes: Uint8Array, ...path: string[]): Buffer {
  const [type, ...rest] = path;
  const found = readBoxes(bytes).find((candidate) => candidate.type === type);
  if (!found) throw new RangeError(`no ${type} box`);
  return rest.length === 0 ? found.payload : findBox(found.payload, ...rest);
}
