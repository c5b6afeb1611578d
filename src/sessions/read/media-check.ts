import type { FrameChunk } from '../events.js';
import { DamagedError } from '../stored/checksum.js';
import { mustBeChunk, mustBeInit } from '../stored/chunks.js';
import { mediaOfKey } from '../stored/keys.js';
import type { ChunkLists } from './chunk-lists.js';
import type { EventRing } from './ring.js';

/**
 * Holds media that were read against what the log says was written. What it does not say passes: sessions of releases without
 * checksums, and those that were deleted and whose media their forks still play.
 */
export class MediaCheck {
  constructor(
    private readonly lists: ChunkLists,
    private readonly ring: (sessionId: string) => EventRing | undefined,
  ) {}

  /** Rejects with DamagedError. */
  async check(key: string, bytes: Uint8Array): Promise<void> {
    const media = mediaOfKey(key);
    if (!media) return;
    const logged = await this.logged(key, media.sessionId, media.chunk ?? 0);
    if (!logged) return;
    if (media.chunk === undefined) mustBeInit(logged, bytes);
    else if (logged.key === key) mustBeChunk(logged, bytes);
  }

  /** From memory where it is there: a live chunk costs no reading. */
  private async logged(key: string, sessionId: string, chunk: number): Promise<FrameChunk | undefined> {
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
}
