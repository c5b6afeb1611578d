import { DomainError } from '../errors.js';
import { type Clock, type ObjectStore, type PutOptions, StoreError } from '../ports.js';

const FIRST_WAIT = 100;
const LONGEST_WAIT = 5_000;

/** Another worker has written where only the owner may: whoever sees this has lost the session and must stop. */
export class OwnershipLost extends Error {
  constructor(key: string) {
    super(`${key} was written by another worker.`);
    this.name = 'OwnershipLost';
  }
}

/** The object store with patience: transient failures are retried within limits, the rest become DomainError STORAGE. */
export class Vault {
  constructor(
    private readonly store: ObjectStore,
    private readonly clock: Clock,
    private readonly retrySeconds: number,
  ) {}

  async put(key: string, body: Uint8Array, options?: PutOptions): Promise<string> {
    return (await this.patiently(key, () => this.store.put(key, body, options))).etag;
  }

  /**
   * Writes an object of which `check` may not have changed since: `etag` is what we wrote last, or undefined if nothing
   * yet. A write that arrived although its answer got lost counts as success.
   */
  async putOwned(key: string, body: Uint8Array, etag: string | undefined, options?: PutOptions): Promise<string> {
    const condition: PutOptions = etag === undefined ? { ifNoneMatch: '*' } : { ifMatch: etag };
    try {
      return await this.put(key, body, { ...options, ...condition });
    } catch (error) {
      if (!isConflict(error)) throw error;
      const stored = await this.read(key);
      if (stored && sameBytes(stored.bytes, body)) return stored.etag;
      throw new OwnershipLost(key);
    }
  }

  /**
   * Writes an object that a predecessor may have left behind. `confirm` must reject unless we still own the session;
   * it runs between reading the old etag and replacing it, so that a late predecessor can never win.
   */
  async replace(key: string, body: Uint8Array, confirm: () => Promise<void>, options?: PutOptions): Promise<void> {
    try {
      await this.put(key, body, { ...options, ifNoneMatch: '*' });
    } catch (error) {
      if (!isConflict(error)) throw error;
      const existing = await this.patiently(key, () => this.store.head(key));
      await confirm();
      await this.putOwned(key, body, existing?.etag, options);
    }
  }

  async putStream(key: string, body: () => AsyncIterable<Uint8Array>, options?: PutOptions): Promise<void> {
    await this.patiently(key, () => this.store.putStream(key, body(), options));
  }

  /** `undefined` when there is no such object. */
  async read(key: string): Promise<{ bytes: Uint8Array; etag: string; contentType: string } | undefined> {
    return this.patiently(key, async () => {
      try {
        const { body, etag, contentType } = await this.store.get(key);
        return { bytes: await collect(body), etag, contentType };
      } catch (error) {
        if (error instanceof StoreError && error.code === 'NOT_FOUND') return undefined;
        throw error;
      }
    });
  }

  /** A body too large for memory; what has begun to arrive is not asked for again. */
  async *stream(key: string): AsyncGenerator<Uint8Array> {
    const { body } = await this.patiently(key, () => this.store.get(key));
    try {
      yield* body;
    } catch (error) {
      throw storageError(key, error);
    }
  }

  async head(key: string): ReturnType<ObjectStore['head']> {
    return this.patiently(key, () => this.store.head(key));
  }

  async *list(prefix: string): AsyncGenerator<{ key: string; size: number }> {
    try {
      yield* this.store.list(prefix);
    } catch (error) {
      throw storageError(prefix, error);
    }
  }

  async delete(key: string): Promise<void> {
    await this.patiently(key, () => this.store.delete(key));
  }

  private async patiently<T>(key: string, attempt: () => Promise<T>): Promise<T> {
    const giveUpAt = this.clock.now() + this.retrySeconds * 1_000;
    for (let wait = FIRST_WAIT; ; wait = Math.min(wait * 2, LONGEST_WAIT)) {
      try {
        return await attempt();
      } catch (error) {
        if (isConflict(error)) throw error;
        if (!isTransient(error) || this.clock.now() + wait > giveUpAt) throw storageError(key, error);
        await this.clock.sleep(wait);
      }
    }
  }
}

function isConflict(error: unknown): boolean {
  return error instanceof StoreError && error.code === 'CONFLICT';
}

function isTransient(error: unknown): boolean {
  return error instanceof StoreError && (error.code === 'UNREACHABLE' || error.code === 'NO_SPACE');
}

function storageError(key: string, error: unknown): Error {
  if (!(error instanceof StoreError)) return error instanceof Error ? error : new Error(String(error));
  return new DomainError('STORAGE', `${ADVICE[error.code]} (${key}: ${error.message})`, { cause: error });
}

const ADVICE: Record<StoreError['code'], string> = {
  NOT_FOUND: 'An object that should exist is missing from the store.',
  CONFLICT: 'Somebody else wrote the object at the same time.',
  NO_SPACE: 'The store is full: free some space, then resume the session.',
  UNREACHABLE: 'The store cannot be reached: check its address and network, then resume the session.',
  DENIED: 'The store refuses access: check the credentials and the bucket policy, then resume the session.',
  INVALID_KEY: 'The store refuses the key.',
};

export async function collect(body: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of body) parts.push(part);
  return parts.length === 1 && parts[0] ? parts[0] : Buffer.concat(parts);
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}
