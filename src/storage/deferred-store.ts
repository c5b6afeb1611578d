import type { ListOptions, ObjectStore, PutOptions, StoredObject } from '../sessions/ports.js';

/** A store that is opened when it is first used: its client library takes longer to load than a small model. */
export class DeferredStore implements ObjectStore {
  #store: Promise<ObjectStore> | undefined;

  constructor(private readonly open: () => Promise<ObjectStore>) {}

  async put(key: string, body: Uint8Array, options?: PutOptions): Promise<{ etag: string }> {
    return (await this.#opened()).put(key, body, options);
  }

  async putStream(key: string, body: AsyncIterable<Uint8Array>, options?: PutOptions): Promise<{ etag: string }> {
    return (await this.#opened()).putStream(key, body, options);
  }

  async get(key: string, range?: { start: number; end: number }): Promise<StoredObject> {
    return (await this.#opened()).get(key, range);
  }

  async head(key: string): Promise<{ size: number; etag: string; contentType: string } | undefined> {
    return (await this.#opened()).head(key);
  }

  async *list(prefix: string, options?: ListOptions): AsyncGenerator<{ key: string; size: number }> {
    yield* (await this.#opened()).list(prefix, options);
  }

  async delete(key: string): Promise<void> {
    return (await this.#opened()).delete(key);
  }

  async presign(
    key: string,
    options: { expiresInSeconds: number; downloadName?: string },
  ): Promise<string | undefined> {
    return (await this.#opened()).presign(key, options);
  }

  async check(): Promise<void> {
    return (await this.#opened()).check();
  }

  #opened(): Promise<ObjectStore> {
    return (this.#store ??= this.open());
  }
}
