import { LRUCache } from 'lru-cache';
import type { MediaReader } from '../api/index.js';
import { type ObjectStore, readWhole } from '../sessions/index.js';

/**
 * Recent chunks and init segments in memory, least recently used out first. Fifty viewers of one chunk cost one read of
 * the store, also when they ask at the same moment. Only for files that never change.
 */
export class MediaCache implements MediaReader {
  private readonly files: LRUCache<string, Uint8Array>;

  constructor(
    store: Pick<ObjectStore, 'get'>,
    capacity: number,
    private readonly observe: (source: 'memory' | 'store', bytes: number) => void = () => undefined,
    /** Rejects when what was read is not what was written: nobody gets that, nor is it kept. */
    check: (key: string, bytes: Uint8Array) => Promise<void> = async () => undefined,
  ) {
    this.files = new LRUCache({
      maxSize: capacity,
      sizeCalculation: ({ byteLength }) => Math.max(1, byteLength),
      ignoreFetchAbort: true, // What is being read is read to its end, also when others take its place meanwhile.
      fetchMethod: async (key) => {
        const bytes = await readWhole(key, await store.get(key));
        await check(key, bytes);
        return bytes;
      },
    });
  }

  async read(key: string): Promise<Uint8Array> {
    const status: LRUCache.Status<Uint8Array> = {};
    const bytes = await this.files.forceFetch(key, { status });
    this.observe(status.fetch === 'miss' ? 'store' : 'memory', bytes.byteLength);
    return bytes;
  }
}
