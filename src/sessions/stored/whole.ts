import type { StoredObject } from '../ports.js';
import { DamagedError } from './checksum.js';

/** More than anything has that is read into memory: a checkpoint of the largest model, a chunk of 240 Mbit/s. */
const MOST_BYTES = 256 << 20;
/** Records, pieces of logs and whatever else is text. */
const MOST_TEXT_BYTES = 32 << 20;

/** An object's bytes; DamagedError, and the rest left unread, when they are more than the service ever writes. */
export async function readWhole(
  key: string,
  { body }: Pick<StoredObject, 'body'>,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const most = /\.jsonl?$/.test(key) ? MOST_TEXT_BYTES : MOST_BYTES;
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of body) {
    signal?.throwIfAborted();
    bytes += part.length;
    if (bytes > most) throw new DamagedError(key, `has more than ${most} bytes, which the service never writes`);
    parts.push(part);
  }
  return parts.length === 1 && parts[0] ? parts[0] : Buffer.concat(parts);
}
