import type { FrameChunk } from '../events.js';
import { DamagedError } from '../stored/checksum.js';
import { mustBeChunk, mustBeInit } from '../stored/chunks.js';
import { forkIds } from '../stored/forks.js';
import { mediaOfKey } from '../stored/keys.js';
import type { Vault } from '../stored/vault.js';
import type { ChunkLists } from './chunk-lists.js';
import type { EventRing } from './ring.js';

/**
 * Holds media that were read against what the log says was written; of a session that was deleted, the logs of the forks that
 * play them. What none says passes: sessions of releases without checksums.
 */
export class MediaCheck {
  constructor(
    private readonly vault: Vault,
    private readonly lists: ChunkLists,
    private readonly ring: (sessionId: string) => EventRing | undefined,
  ) {}

  /** Rejects with DamagedError. */
  async check(key: string, bytes: Uint8Array): Promise<void> {
    const media = mediaOfKey(key);
    if (!media) return;
    const [at, keyOf] = media.chunk === undefined ? [0, initKeyOf] : [media.chunk, chunkKeyOf];
    const isIt = (chunk: FrameChunk | undefined) => chunk !== undefined && keyOf(chunk) === key;
    const logged = (await this.own(key, media.sessionId, at)) ?? (await this.inherited(media.sessionId, at, isIt));
    if (!logged || !isIt(logged)) return;
    if (media.chunk === undefined) mustBeInit(logged, bytes);
    else mustBeChunk(logged, bytes);
  }

  /** From memory where it is there: a live chunk costs no reading. */
  private async own(key: string, sessionId: string, chunk: number): Promise<FrameChunk | undefined> {
    const owned = this.ring(sessionId)?.chunk(chunk);
    if (owned) return owned;
    const known = this.lists.remembered(sessionId)?.chunks[chunk];
    if (known) return known;
    try {
      return (await this.lists.read(sessionId)).chunks[chunk];
    } catch (error) {
      if (error instanceof DamagedError && error.key !== key) return undefined; // The log is what is damaged.
      throw error;
    }
  }

  /** A fork's log has what it plays of others, and a deleted fork's marks lead to its own forks. */
  private async inherited(
    sessionId: string,
    at: number,
    isIt: (chunk: FrameChunk | undefined) => boolean,
  ): Promise<FrameChunk | undefined> {
    for await (const forkId of forkIds(this.vault, sessionId)) {
      const { chunks } = this.lists.remembered(forkId) ?? (await this.lists.read(forkId));
      if (isIt(chunks[at])) return chunks[at];
      const further = chunks.length > 0 ? undefined : await this.inherited(forkId, at, isIt);
      if (further) return further;
    }
    return undefined;
  }
}

const chunkKeyOf = ({ key }: FrameChunk): string => key;
const initKeyOf = ({ initKey }: FrameChunk): string => initKey;
