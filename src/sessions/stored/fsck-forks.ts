/** Proves that every fork is marked at its parent, that no other mark is there, and that a deleted session keeps what its forks play. */

import type { Session } from '../session.js';
import { NewerFormatError, UnreadableError } from './checksum.js';
import type { Findings } from './findings.js';
import { ADDED, REMOVED } from './findings.js';
import { inheritedChunks, lineage, type MarkedForks, needsMark, NEVER_MADE, putMark } from './forks.js';
import { DELETING, keysOf, type SessionKeys } from './keys.js';
import { readRecordOrTombstone } from './record.js';
import type { Vault } from './vault.js';

/** At the fork: that it is marked at its parent, and that one at its own. */
export async function checkLineage(store: MarkedForks, { id, parent }: Session, findings: Findings): Promise<void> {
  if (!parent) return;
  const parents: string[] = [];
  const read = await findings.attempt(async () => {
    try {
      for await (const { sessionId } of lineage(store.vault, id, parent)) parents.push(sessionId);
    } catch (error) {
      // The parent is whole; whose fork it is, its own release knows.
      if (!(error instanceof NewerFormatError)) throw error;
    }
  });
  if (read === 'unreadable') return;
  for (const [i, parentId] of parents.entries()) await checkMark(store, parentId, parents[i - 1] ?? id, findings);
}

/** At the parent, which may be deleted: `files` are all that it has. */
export async function checkMarks(
  store: MarkedForks,
  keys: SessionKeys,
  files: ReadonlyMap<string, number>,
  findings: Findings,
): Promise<void> {
  await asFarAsKnown(() => store.inheritance.refresh());
  for (const forkId of store.inheritance.forksOf(keys.id)) await checkMark(store, keys.id, forkId, findings);
  for (const key of files.keys()) {
    if (!key.startsWith(keys.forks) || !(await isStale(store, keys, key.slice(keys.forks.length)))) continue;
    const problem = 'is the mark of a fork that does not exist';
    await findings.found({ key, problem }, REMOVED, () => store.vault.delete(key));
  }
}

/** Of a deleted session nothing may be left but what its forks play, unless it is being removed still. */
export async function checkRemains(
  store: MarkedForks,
  keys: SessionKeys,
  files: ReadonlyMap<string, number>,
  findings: Findings,
): Promise<void> {
  const { vault } = store;
  const mark = DELETING + keys.id;
  if (await vault.head(mark)) return;
  await checkMarks(store, keys, files, findings);
  const inherited = await asFarAsKnown(() => inheritedChunks(store, keys.id));
  if (typeof inherited !== 'number') return;
  const needed = (key: string) =>
    key === keys.record ||
    (inherited > 0 &&
      (key === keys.init ||
        key.startsWith(keys.forks) ||
        (key.startsWith(keys.chunks) && key < keys.chunk(inherited))));
  const key = [...files.keys()].find((file) => !needed(file));
  if (key === undefined) return;
  const problem = 'is left over from a deleted session';
  await findings.found({ key, problem }, 'will be removed by the service within minutes of its start', () =>
    vault.put(mark, new Uint8Array()),
  );
}

/** `undefined` while a session cannot be read that may be a fork of this one: that is told where that one is checked. */
async function asFarAsKnown<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof UnreadableError)) throw error;
    return undefined;
  }
}

async function checkMark(store: MarkedForks, parentId: string, forkId: string, findings: Findings): Promise<void> {
  const { vault, clock } = store;
  const key = keysOf(parentId).forks + forkId;
  if ((await vault.head(key)) || !(await asFarAsKnown(() => needsMark(store, parentId, forkId)))) return;
  if (await isOlderThanMarks(vault, forkId)) return;
  const problem = `is missing: the parent (${parentId}) does not know of the fork ${forkId}`;
  await findings.found({ key, problem }, ADDED, () => putMark(vault, parentId, forkId, clock.now()));
}

/** The first format's forks had none. Nothing is lost by that: before anything is removed, forks themselves are asked. */
async function isOlderThanMarks(vault: Vault, forkId: string): Promise<boolean> {
  const stored = await readRecordOrTombstone(vault, keysOf(forkId)).catch(() => undefined);
  return stored !== undefined && 'record' in stored && stored.record.since < 2;
}

async function isStale(store: MarkedForks, { id, forks }: SessionKeys, forkId: string): Promise<boolean> {
  const { vault, clock, inheritance } = store;
  if (inheritance.playedOf(id).has(forkId) && !inheritance.forksOf(id).has(forkId)) return false;
  const needed = await asFarAsKnown(() => needsMark(store, id, forkId));
  if (needed !== false || (await vault.head(DELETING + forkId))) return false;
  if (await vault.head(keysOf(forkId).record)) return true;
  const mark = await vault.read(forks + forkId);
  const log = await vault.head(keysOf(forkId).segment(0));
  return mark !== undefined && !log && clock.now() - Number(new TextDecoder().decode(mark.bytes)) >= NEVER_MADE;
}
