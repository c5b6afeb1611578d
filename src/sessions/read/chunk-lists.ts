import { LRUCache } from 'lru-cache';
import type { Context } from '../live/context.js';
import { type KnownChunks, readChunks } from '../stored/artifacts.js';
import { keysOf } from '../stored/keys.js';

/** Sessions whose lists are remembered. */
const MOST = 32;

/** Which chunks the logs have, remembered, so that whoever asks again reads only the end of a log. */
export class ChunkLists {
  private readonly known = new LRUCache<string, KnownChunks>({ max: MOST });

  constructor(private readonly context: Pick<Context, 'vault'>) {}

  /** What was read last. */
  remembered(sessionId: string): KnownChunks | undefined {
    return this.known.peek(sessionId);
  }

  /** All that there are now. */
  async read(sessionId: string): Promise<KnownChunks> {
    const known = await readChunks(this.context, keysOf(sessionId), this.known.get(sessionId));
    this.known.set(sessionId, known);
    return known;
  }
}
