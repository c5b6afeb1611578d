/** Where things are kept, said by a URL. */
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
  if (/^file:(?!\/)./.test(url)) return new FileStore(url.slice('file:'.length));
  const parsed = parse(url);
  if (parsed.protocol === 'file:' && parsed.host === '') return new FileStore(fileURLToPath(parsed));
  if (parsed.protocol === 's3:' && parsed.host !== '' && parsed.search === '') {
    const prefix = decodeURIComponent(parsed.pathname).replace(/^\/|\/$/g, '');
    requirePrefix(prefix);
    const s3 = { ...options, bucket: parsed.host, prefix: prefix && `${prefix}/` };
    return new DeferredStore(async () => new (await import('./s3-store.js')).S3Store(s3));
  }
  throw badUrl(url);
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
