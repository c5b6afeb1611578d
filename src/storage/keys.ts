/** What a key may look like, the same for every store, so that data can move between them. */
import { StoreError } from '../sessions/ports.js';

const MOST_BYTES = 900;
const MOST_SEGMENT_BYTES = 200;
/** No separators of other systems, no control characters, and no leading dot: `.`, `..`, and names the stores keep for themselves. */
// eslint-disable-next-line no-control-regex
const BAD_SEGMENT = /^$|^\.|[\\\u0000-\u001f\u007f]/;

/** Whether it is a plain relative path. */
export function isKey(key: string): boolean {
  const bad = key
    .split('/')
    .some((segment) => BAD_SEGMENT.test(segment) || Buffer.byteLength(segment) > MOST_SEGMENT_BYTES);
  return !bad && Buffer.byteLength(key) <= MOST_BYTES;
}

/** Throws StoreError INVALID_KEY unless it is one. */
export function requireKey(key: string): void {
  if (!isKey(key)) {
    throw new StoreError(
      'INVALID_KEY',
      `${JSON.stringify(key.slice(0, 100))} is not a valid key: use relative paths without empty, hidden or overlong parts`,
    );
  }
}

/** A prefix is the beginning of a key; it may be empty or end within a name or after a `/`. */
export function requirePrefix(prefix: string): void {
  if (prefix !== '') requireKey(prefix.endsWith('/') ? prefix.slice(0, -1) : prefix);
}

const CONTENT_TYPES: Readonly<Record<string, string>> = {
  m4s: 'video/iso.segment',
  mp4: 'video/mp4',
  m3u8: 'application/vnd.apple.mpegurl',
  webp: 'image/webp',
  json: 'application/json',
  jsonl: 'application/x-ndjson',
  txt: 'text/plain; charset=utf-8',
};

/** The content type of a key that was stored without one. */
export function contentTypeOf(key: string): string {
  return CONTENT_TYPES[key.slice(key.lastIndexOf('.') + 1).toLowerCase()] ?? 'application/octet-stream';
}
