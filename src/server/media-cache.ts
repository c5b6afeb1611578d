import type { MediaReader } from '../api/index.js';
import type { ObjectStore } from '../sessions/index.js';

/**
 * Recent chunks and init segments in memory, least recently used out first. Fifty viewers of one chunk cost one read of
 * the store, also when they ask at the same moment. Only for files that never change.
 */
export class MediaCache implements MediaReader {
  private readonly files = new Map<string, Promise<Uint8Array>>();
  private readonly sizes = new Map<string, number>();
  private bytes = 0;

  constructor(
    private readonly store: Pick<ObjectStore, 'get'>,
    private readonly capacity: number,
    private readonly observe: (source: 'memory' | 'store', bytes: number) => void = () => undefined,
    /** Rejects when what was read is not what was written: nobody gets that, nor is it kept. */
    private readonly check: (key: string, bytes: Uint8Array) => Promise<void> = async () => undefined,
  ) {}

  async read(key: string): Promise<Uint8Array> {
    const known = this.files.get(key);
    const file = known ?? this.fetch(key);
    this.files.delete(key);
    this.files.set(key, file);
    const bytes = await file;
    this.observe(known ? 'memory' : 'store', bytes.byteLength);
    return bytes;
  }

  private async fetch(key: string): Promise<Uint8Array> {
    try {
      const bytes = await collect((await this.store.get(key)).body);
      await this.check(key, bytes);
      this.sizes.set(key, bytes.byteLength);
      this.bytes += bytes.byteLength;
      this.evict();
      return bytes;
    } catch (error) {
      this.files.delete(key);
      throw error;
    }
  }

  private evict(): void {
    for (const key of this.files.keys()) {
      if (this.bytes <= this.capacity) return;
      const size = this.sizes.get(key);
      if (size === undefined) continue; // Still being read.
      this.bytes -= size;
      this.sizes.delete(key);
      this.files.delete(key);
    }
  }
}

async function collect(body: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of body) parts.push(part);
  return parts.length === 1 && parts[0] ? parts[0] : Buffer.concat(parts);
}
