/** Writes small stored zip archives, well-formed unless told otherwise. */

import { crc32 } from 'node:zlib';
import { centralHeader, endRecords, localHeader } from '../../scripts/zip-records.js';

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
  const body: Uint8Array[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const { bytes, claimed, ...part } of parts) {
    const entry = { ...part, crc: crc32(bytes), bytes: bytes.length };
    const local = localHeader(entry);
    directory.push(centralHeader({ ...entry, offset: at, ...claimed }, zip64));
    body.push(local, bytes);
    at += local.length + bytes.length;
  }
  const central = Buffer.concat(directory);
  return Buffer.concat([...body, central, endRecords(at, central.length, entries, zip64)]);
}
