import { createHash } from 'node:crypto';
import {
  type ListOptions,
  type ObjectStore,
  type PutOptions,
  StoreError,
  type StoredObject,
} from '../../src/sessions/index.js';

interface Entry {
  bytes: Uint8Array;
  etag: string;
  contentType: string;
}

/** What `fault` may do to an operation: fail before it, or after it has taken effect (the answer got lost). */
export type Fault = { when: 'before' | 'after'; error: StoreError } | undefined;

export type Operation = 'put' | 'get' | 'list' | 'delete';

/** An object store in memory with conditional writes, and faults on demand. */
export class MemoryStore implements ObjectStore {
  readonly objects = new Map<string, Entry>();
  readonly puts: string[] = [];
  fault: (operation: Operation, key: string) => Fault = () => undefined;
  /** Keys that listings have given. */
  listed = 0;
  private version = 0;

  async put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<{ etag: string }> {
    const fault = this.fault('put', key);
    if (fault?.when === 'before') throw fault.error;
    this.condition(key, options);
    const hash = createHash('sha256').update(body).digest('hex').slice(0, 12);
    const etag = `"${hash}-${++this.version}"`;
    this.objects.set(key, {
      bytes: body.slice(),
      etag,
      contentType: options.contentType ?? 'application/octet-stream',
    });
    this.puts.push(key);
    if (fault) throw fault.error;
    return { etag };
  }

  async putStream(key: string, body: AsyncIterable<Uint8Array>, options?: PutOptions): Promise<{ etag: string }> {
    const parts: Uint8Array[] = [];
    for await (const part of body) parts.push(part);
    return this.put(key, Buffer.concat(parts), options);
  }

  async get(key: string, range?: { start: number; end: number }): Promise<StoredObject> {
    const fault = this.fault('get', key);
    if (fault) throw fault.error;
    const entry = this.objects.get(key);
    if (!entry) throw new StoreError('NOT_FOUND', `${key} does not exist.`);
    const bytes = range ? entry.bytes.subarray(range.start, range.end + 1) : entry.bytes;
    return { size: bytes.length, etag: entry.etag, contentType: entry.contentType, body: once(bytes) };
  }

  async head(key: string): ReturnType<ObjectStore['head']> {
    const entry = this.objects.get(key);
    return entry && { size: entry.bytes.length, etag: entry.etag, contentType: entry.contentType };
  }

  async *list(prefix: string, { after = '' }: ListOptions = {}): AsyncGenerator<{ key: string; size: number }> {
    const fault = this.fault('list', prefix);
    if (fault) throw fault.error;
    const names = [...this.objects.keys()].filter((name) => name.startsWith(prefix) && name > after);
    for (const key of names.sort()) {
      this.listed++;
      yield { key, size: this.objects.get(key)?.bytes.length ?? 0 };
    }
  }

  async delete(key: string): Promise<void> {
    const fault = this.fault('delete', key);
    if (fault?.when === 'before') throw fault.error;
    this.objects.delete(key);
    if (fault) throw fault.error;
  }

  async presign(): Promise<undefined> {
    return undefined;
  }

  async check(): Promise<void> {
    const fault = this.fault('get', '');
    if (fault) throw fault.error;
  }

  text(key: string): string {
    return new TextDecoder().decode(this.objects.get(key)?.bytes);
  }

  private condition(key: string, { ifMatch, ifNoneMatch }: PutOptions): void {
    const existing = this.objects.get(key);
    if (ifNoneMatch && existing) throw new StoreError('CONFLICT', `${key} exists.`);
    if (ifMatch !== undefined && existing?.etag !== ifMatch) throw new StoreError('CONFLICT', `${key} has changed.`);
  }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
