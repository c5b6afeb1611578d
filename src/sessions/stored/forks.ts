/**
 * Which forks there are of a session: a small object each under the parent's prefix, because a fork plays its parent's media,
 * which a deletion must not take away. It is written before the fork's record, so that whoever deletes the parent sees it.
 */

import { DamagedError, UnreadableError } from './checksum.js';
import { foldLog } from './fold.js';
import type { Inheritance } from './inheritance.js';
import { keysOf } from './keys.js';
import { type RecordOrTombstone, readRecord, readRecordOrTombstone, type SessionRecord } from './record.js';
import type { Clock } from '../ports.js';
import type { Session, SessionParent } from '../session.js';
import type { Vault } from './vault.js';

/** A fork whose record does not come for so long after its mark was never made: whoever made it has gone. */
export const NEVER_MADE = 3_600_000;

export interface ForkStore {
  vault: Vault;
  clock: Clock;
}

/** The same, and what the forks say themselves. */
export interface MarkedForks extends ForkStore {
  inheritance: Inheritance;
}

/** To be called before a fork's record is written. Rejects with DeletedError when its parent is being deleted. */
export async function markFork({ vault, clock }: ForkStore, { id, request }: SessionRecord): Promise<void> {
  const { parent } = request;
  if (!parent) return;
  await putMark(vault, parent.sessionId, id, clock.now());
  // Whoever deletes the parent writes its tombstone first and then looks for marks: one of the two sees the other.
  await readRecord(vault, keysOf(parent.sessionId)).catch(async (error: unknown) => {
    await unmarkFork(vault, parent.sessionId, id);
    throw error;
  });
}

export async function unmarkFork(vault: Vault, parentId: string, forkId: string): Promise<void> {
  await vault.delete(keysOf(parentId).forks + forkId);
}

/** Those that are marked, deleted ones with forks of their own included. */
export async function* forkIds(vault: Vault, sessionId: string): AsyncGenerator<string> {
  const { forks } = keysOf(sessionId);
  for await (const { key } of vault.list(forks)) yield key.slice(forks.length);
}

/** Of a session's chunks, how many its forks play; `unknown` while one of them is being made. */
export async function inheritedChunks(store: MarkedForks, sessionId: string): Promise<number | 'unknown'> {
  await store.inheritance.refresh();
  const marked = await playedChunks(store, sessionId, new Set([sessionId]));
  return marked === 'unknown' ? marked : Math.max(marked, await playedByLiving(store, sessionId));
}

/** Whether a fork has to be marked at its parent: it lives, or forks of it do. */
export async function needsMark(store: MarkedForks, parentId: string, forkId: string): Promise<boolean> {
  const stored = await readReadable(store.vault, forkId);
  if (stored === undefined || stored === 'unreadable') return stored === 'unreadable';
  if (parentOf(stored)?.sessionId !== parentId) return false;
  return 'record' in stored || (await inheritedChunks(store, forkId)) !== 0;
}

/** As the forks themselves say, whether they are marked or not. */
async function playedByLiving({ vault, inheritance }: MarkedForks, sessionId: string): Promise<number> {
  let most = 0;
  for (const [forkId, chunks] of inheritance.playedOf(sessionId)) {
    if (chunks > most && !(await isDeleted(vault, forkId))) most = chunks;
  }
  return most;
}

async function isDeleted(vault: Vault, id: string): Promise<boolean> {
  const stored = await readReadable(vault, id);
  return stored !== undefined && stored !== 'unreadable' && 'tombstone' in stored;
}

async function readReadable(vault: Vault, id: string): Promise<RecordOrTombstone | undefined | 'unreadable'> {
  try {
    return await readRecordOrTombstone(vault, keysOf(id));
  } catch (error) {
    if (error instanceof UnreadableError) return 'unreadable';
    throw error;
  }
}

/** `counted`: what was looked at already, so that records which make a session its own parent are no endless task. */
async function playedChunks(store: MarkedForks, sessionId: string, counted: Set<string>): Promise<number | 'unknown'> {
  let most = 0;
  const ids: string[] = [];
  for await (const id of forkIds(store.vault, sessionId)) ids.push(id);
  for (const id of ids) {
    const chunks = await chunksFor(store, sessionId, id, counted);
    if (chunks === 'unknown') return 'unknown';
    most = Math.max(most, chunks);
  }
  return most;
}

async function chunksFor(
  store: MarkedForks,
  parentId: string,
  forkId: string,
  counted: Set<string>,
): Promise<number | 'unknown'> {
  const { vault, inheritance } = store;
  const stored = await readReadable(vault, forkId);
  if (stored === undefined || stored === 'unreadable') {
    await inheritance.read(forkId);
    const played = inheritance.playedOf(parentId).get(forkId);
    return played ?? (stored === 'unreadable' || (await neverMade(store, parentId, forkId)) ? 0 : 'unknown');
  }
  const parent = parentOf(stored);
  if (parent?.sessionId !== parentId) return 0;
  // Its log may still be on its way from its parent's.
  if ('record' in stored) return (await countChunks(vault, stored.record)) < parent.chunk ? 'unknown' : parent.chunk;
  if (counted.has(forkId)) return 0;
  const needed = await playedChunks(store, forkId, counted.add(forkId));
  return needed === 'unknown' ? 'unknown' : Math.min(needed, parent.chunk);
}

/** More than any fork has where they cannot be counted. */
async function countChunks(vault: Vault, record: SessionRecord): Promise<number> {
  try {
    return (await foldLog(vault, record)).chunks;
  } catch (error) {
    if (error instanceof DamagedError) return Infinity;
    throw error;
  }
}

/**
 * The parent of a session, its own parent and so on, each with how many of its chunks may be played. DamagedError where a session comes
 * again: no service writes such records.
 */
export async function* lineage(vault: Vault, id: string, parent: SessionParent): AsyncGenerator<SessionParent> {
  const met = new Set([id]);
  let at: SessionParent | undefined = parent;
  while (at) {
    const { sessionId, chunk }: SessionParent = at;
    const { record } = keysOf(sessionId);
    if (met.has(sessionId)) throw new DamagedError(record, 'names the session as its own ancestor');
    met.add(sessionId);
    yield at;
    const stored = await readRecordOrTombstone(vault, keysOf(sessionId));
    const next = stored && parentOf(stored);
    at = next && { ...next, chunk: Math.min(next.chunk, chunk) };
  }
}

export function parentOf(stored: RecordOrTombstone): Session['parent'] {
  return 'tombstone' in stored ? stored.tombstone.parent : stored.record.snapshot.parent;
}

async function neverMade({ vault, clock }: ForkStore, parentId: string, forkId: string): Promise<boolean> {
  const mark = await vault.read(keysOf(parentId).forks + forkId);
  if (!mark) return true;
  if (clock.now() - Number(new TextDecoder().decode(mark.bytes)) < NEVER_MADE) return false;
  await unmarkFork(vault, parentId, forkId);
  return true;
}

/** `now`: a fork whose record does not come for long after it was never made. */
export async function putMark(vault: Vault, parentId: string, forkId: string, now: number): Promise<void> {
  await vault.put(keysOf(parentId).forks + forkId, new TextEncoder().encode(String(now)), {
    contentType: 'text/plain',
  });
}
