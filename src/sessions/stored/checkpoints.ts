/** Where a session can go on from. */

import type { Context } from '../live/context.js';
import { DamagedError, sealBytes, unsealBytes } from './checksum.js';
import { checkpointBlocksOf, type SessionKeys } from './keys.js';

export interface Checkpoint {
  /** Blocks that were complete when it was taken. */
  blocks: number;
  bytes: Uint8Array;
}

/** Those of at most so many blocks, the latest first; what is damaged is left out, and the log of the service says so. */
export async function* checkpointsBefore(
  { vault, logger }: Context,
  keys: SessionKeys,
  mostBlocks: number,
): AsyncGenerator<Checkpoint> {
  for (const { blocks, key } of (await listCheckpoints({ vault }, keys)).reverse()) {
    if (blocks > mostBlocks) continue;
    try {
      const stored = await vault.read(key);
      if (stored) yield { blocks, bytes: unsealBytes(stored.bytes, key).bytes };
    } catch (error) {
      if (!(error instanceof DamagedError)) throw error;
      logger.error({ key, error }, 'checkpoint damaged; using the one before it');
    }
  }
}

/** The latest good one of at most so many blocks. */
export async function latestCheckpoint(
  context: Context,
  keys: SessionKeys,
  mostBlocks: number,
): Promise<Checkpoint | undefined> {
  for await (const checkpoint of checkpointsBefore(context, keys, mostBlocks)) return checkpoint;
  return undefined;
}

/** Stores it, and removes those that are not needed any more. `confirm` as of Vault.replace. */
export async function storeCheckpoint(
  { vault, policy }: Context,
  keys: SessionKeys,
  { blocks, bytes }: Checkpoint,
  confirm: () => Promise<void>,
): Promise<void> {
  await vault.replace(keys.checkpoint(blocks), sealBytes(bytes), confirm);
  const there = await listCheckpoints({ vault }, keys);
  const needless = needlessOf(
    there.map((checkpoint) => checkpoint.blocks),
    policy.keptCheckpoints,
  );
  for (const checkpoint of there) if (needless.has(checkpoint.blocks)) await vault.delete(checkpoint.key);
}

/** The newest are for resuming, also when one of them is damaged. */
const NEWEST = 4;

/**
 * Of checkpoints at these blocks, ascending, those to remove so that so many are left: the newest ones, and of the others as
 * many as may be that lie evenly, for forks to go on from. Which lie evenly is decided by powers of two, so that what is
 * kept stays kept until there are twice as many blocks.
 */
export function needlessOf(blocks: readonly number[], kept: number): Set<number> {
  const newest = Math.min(NEWEST, kept);
  const older = blocks.slice(0, -newest);
  let even: readonly number[] = kept > newest ? older : [];
  for (let spacing = 2; even.length > kept - newest; spacing *= 2) {
    even = older.filter((at, i) => i === 0 || slot(at, spacing) !== slot(older[i - 1] as number, spacing));
  }
  return new Set(older.filter((at) => !even.includes(at)));
}

const slot = (block: number, spacing: number): number => Math.floor(block / spacing);

/** Ascending. */
export async function listCheckpoints(
  { vault }: Pick<Context, 'vault'>,
  keys: SessionKeys,
): Promise<{ blocks: number; key: string }[]> {
  const found: { blocks: number; key: string }[] = [];
  for await (const { key } of vault.list(keys.checkpoints)) {
    const blocks = checkpointBlocksOf(key);
    if (blocks !== undefined) found.push({ blocks, key });
  }
  return found.sort((a, b) => a.blocks - b.blocks);
}

/** A safetensors file that ends where its header says: all that can be told of a checkpoint without a checksum. */
export function isWholeTensorFile(bytes: Uint8Array): boolean {
  try {
    const file = Buffer.from(bytes);
    const header = Number(file.readBigUInt64LE(0));
    const tensors = JSON.parse(file.toString('utf8', 8, 8 + header)) as Record<
      string,
      { data_offsets?: [number, number] }
    >;
    const ends = Object.values(tensors).flatMap(({ data_offsets }) => data_offsets?.[1] ?? []);
    return file.length === 8 + header + Math.max(...ends);
  } catch {
    return false;
  }
}
