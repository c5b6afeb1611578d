/** Where a session can go on from. */

import type { Context } from '../live/context.js';
import { checkpointBlocksOf, type SessionKeys } from './keys.js';

export interface Checkpoint {
  /** Blocks that were complete when it was taken. */
  blocks: number;
  bytes: Uint8Array;
}

/** The latest one of at most so many blocks. */
export async function latestCheckpoint(
  { vault }: Context,
  keys: SessionKeys,
  mostBlocks: number,
): Promise<Checkpoint | undefined> {
  let best: { blocks: number; key: string } | undefined;
  for await (const { key } of vault.list(keys.checkpoints)) {
    const blocks = checkpointBlocksOf(key) ?? 0;
    if (blocks > (best?.blocks ?? 0) && blocks <= mostBlocks) best = { blocks, key };
  }
  const stored = best && (await vault.read(best.key));
  return best && stored && { blocks: best.blocks, bytes: stored.bytes };
}
