/**
 * Which forks there are of a session: a small object each under the parent's prefix, because a fork plays its parent's media,
 * which a deletion must not take away. It is written before the fork's record, so that whoever deletes the parent sees it.
 */

import { DamagedError } from './checksum.js';
import { BY_DATE, DELETING, idOfByDateKey, keysOf } from './keys.js';
import { LogReader } from './log.js';
import { type RecordOrTombstone, readRecord, readRecordOrTombstone, type SessionRecord } from './record.js';
import { applyEvent } from './snapshot.js';
import type { Clock } from '../ports.js';
import type { Session, SessionParent } from '../session.js';
import type { Vault } from './vault.js';

/** A fork whose record does not come for so long after its mark was never made: whoever made it has gone. */
const NEVER_MADE = 3_600_000;

/** Says that every fork made by releases without marks has one now. */
const MARKED = `${DELETING}forks-are-marked`;

export interface ForkStore {
  vault: Vault;
  clock: Clock;
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
export async function inheritedChunks(store: ForkStore, sessionId: string): Promise<number | 'unknown'> {
  await markOldForks(store);
  return playedChunks(store, sessionId, new Set([sessionId]));
}

/** `counted`: what was looked at already, so that records which make a session its own parent are no endless task. */
async function playedChunks(store: ForkStore, sessionId: string, counted: Set<string>): Promise<number | 'unknown'> {
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
  store: ForkStore,
  parentId: string,
  forkId: string,
  counted: Set<string>,
): Promise<number | 'unknown'> {
  const { vault } = store;
  const stored = await readRecordOrTombstone(vault, keysOf(forkId));
  if (!stored) return (await neverMade(store, parentId, forkId)) ? 0 : 'unknown';
  const parent = parentOf(stored);
  if (parent?.sessionId !== parentId) return 0;
  if ('record' in stored) {
    const { chunks } = await foldLog(vault, stored.record);
    // Its log is still being copied from its parent's.
    return chunks < parent.chunk ? 'unknown' : parent.chunk;
  }
  if (counted.has(forkId)) return 0;
  const needed = await playedChunks(store, forkId, counted.add(forkId));
  return needed === 'unknown' ? 'unknown' : Math.min(needed, parent.chunk);
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
    if (met.has(sessionId)) throw new DamagedError(record, 'says that the session is its own ancestor');
    met.add(sessionId);
    yield at;
    const stored = await readRecordOrTombstone(vault, keysOf(sessionId));
    const next = stored && parentOf(stored);
    at = next && { ...next, chunk: Math.min(next.chunk, chunk) };
  }
}

function parentOf(stored: RecordOrTombstone): Session['parent'] {
  return 'tombstone' in stored ? stored.tombstone.parent : stored.record.snapshot.parent;
}

async function neverMade({ vault, clock }: ForkStore, parentId: string, forkId: string): Promise<boolean> {
  const mark = await vault.read(keysOf(parentId).forks + forkId);
  if (!mark) return true;
  if (clock.now() - Number(new TextDecoder().decode(mark.bytes)) < NEVER_MADE) return false;
  await unmarkFork(vault, parentId, forkId);
  return true;
}

async function putMark(vault: Vault, parentId: string, forkId: string, now: number): Promise<void> {
  await vault.put(keysOf(parentId).forks + forkId, new TextEncoder().encode(String(now)), {
    contentType: 'text/plain',
  });
}

/** Once per store. A record that cannot be read may be a fork's: it rejects with DamagedError, and nothing is deleted. */
async function markOldForks({ vault, clock }: ForkStore): Promise<void> {
  if (await vault.head(MARKED)) return;
  for await (const { key } of vault.list(BY_DATE)) {
    const id = idOfByDateKey(key);
    const stored = await readRecordOrTombstone(vault, keysOf(id));
    const parent = stored && parentOf(stored);
    if (parent) await putMark(vault, parent.sessionId, id, clock.now());
  }
  await vault.put(MARKED, new Uint8Array());
}

/** The session as it is stored: its record's snapshot and what the log has beyond it. */
export async function foldLog(vault: Vault, { id, snapshot }: SessionRecord): Promise<Session> {
  if (snapshot.finishedAt) return snapshot;
  let session = snapshot;
  for await (const event of new LogReader(vault, keysOf(id)).all(session.lastSequence))
    session = applyEvent(session, event);
  return session;
}
