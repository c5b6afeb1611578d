/** Where things are kept, said by a URL. */
import { type Stats, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { ObjectStore } from '../sessions/ports.js';
import { FileStore } from './file-store.js';
import { requirePrefix } from './keys.js';
import { DeferredStore } from './deferred-store.js';
import type { S3Options } from './s3-client.js';

export type StoreOptions = Omit<S3Options, 'bucket' | 'prefix'>;

/**
 * `file:///absolute/path`, `file:relative/path` or `s3://bucket/prefix`; the options are for S3 alone.
 * Throws TypeError when the URL is none of these.
 */
export function openStore(url: string, options: StoreOptions = {}): ObjectStore {
  const directory = directoryOf(url);
  if (directory !== undefined) return fileStore(directory);
  const parsed = parse(url);
  if (parsed.protocol === 's3:' && parsed.host !== '' && parsed.search === '') {
    const prefix = decodeURIComponent(parsed.pathname).replace(/^\/|\/$/g, '');
    requirePrefix(prefix);
    const s3 = { ...options, bucket: parsed.host, prefix: prefix && `${prefix}/` };
    return new DeferredStore(async () => new (await import('./s3-store.js')).S3Store(s3));
  }
  throw badUrl(url);
}

/** Of a store that is one. Throws TypeError when it is no URL. */
export function directoryOf(url: string): string | undefined {
  if (/^file:(?!\/)./.test(url)) return url.slice('file:'.length);
  const parsed = parse(url);
  return parsed.protocol === 'file:' && parsed.host === '' ? fileURLToPath(parsed) : undefined;
}

/** What is known at once: later it would be each session's trouble. */
function fileStore(directory: string): FileStore {
  let is: Stats | undefined;
  try {
    is = statSync(directory, { throwIfNoEntry: false });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOTDIR') throw error;
    throw new TypeError(`${directory} is under a file; use a directory`);
  }
  if (is && !is.isDirectory()) throw new TypeError(`${directory} is a file; use a directory`);
  return new FileStore(directory);
}

function parse(url: string): URL {
  try {
    return new URL(url);
  } catch {
    throw badUrl(url);
  }
}

const badUrl = (url: string): TypeError =>
  new TypeError(`${JSON.stringify(url)} is not a store: use file:///path, file:path or s3://bucket/prefix`);
