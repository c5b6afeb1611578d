/**
 * Sessions are deleted in two steps, each of which may be repeated after a crash: a tombstone takes the place of the record,
 * from when on there is no such session; then its files are removed, but for those that its forks play. The tombstone
 * stays, so that its id is never used again. Whatever is left to do is found in `deleting/`.
 */

import { storedTenant } from '../access/principal.js';
import { DomainError } from '../errors.js';
import type { Logger, SessionPolicy } from '../policy.js';
import type { Clock } from '../ports.js';
import type { Sessions } from '../sessions.js';
import type { SessionParent } from '../session.js';
import { DamagedError } from './checksum.js';
import { type ForkStore, inheritedChunks, type MarkedForks, needsMark, putMark, unmarkFork } from './forks.js';
import { inheritedByLog, Inheritance } from './inheritance.js';
import { BY_DATE, byDateKey, DELETING, idOfByDateKey, keysOf, type SessionKeys, UNFINISHED } from './keys.js';
import {
  DeletedError,
  encodeTombstone,
  type RecordOrTombstone,
  readRecordOrTombstone,
  type Tombstone,
} from './record.js';
import { OwnershipLost } from './vault.js';

/** Files that are removed at once. */
const AT_ONCE = 8;
const ATTEMPTS = 3;

/** Between two looks at what is left to remove, in milliseconds. */
const ROUND = 300_000;

export class Deletions {
  private removing: Promise<void> = Promise.resolve();
  private readonly store: MarkedForks & { logger: Logger };

  constructor({ vault, clock, logger }: ForkStore & { logger: Logger }) {
    this.store = { vault, clock, logger, inheritance: new Inheritance(vault, clock) };
  }

  /**
   * Makes that there is no such session; its files are removed in the background. Answers the same when it is asked again, and
   * works where the store is full. NOT_FOUND, CONFLICT when it was written meanwhile.
   */
  async delete(id: string): Promise<Tombstone> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.bury(id);
      } catch (error) {
        // Its owner writes the record for the last time when it lets go of it.
        if (!(error instanceof OwnershipLost)) throw error;
        if (attempt < ATTEMPTS) continue;
        throw new DomainError('CONFLICT', 'The session is changing; try to delete it again in a moment.', {
          cause: error,
        });
      }
    }
  }

  private async bury(id: string): Promise<Tombstone> {
    const keys = keysOf(id);
    const stored = await this.read(keys);
    if ('tombstone' in stored) return stored.tombstone;
    const snapshot = stored.record?.snapshot;
    const parent = snapshot ? snapshot.parent : await this.parentByLog(id);
    const whose = { ...storedTenant(snapshot?.tenant), ...(parent && { parent }) };
    const tombstone: Tombstone = { id, deletedAt: new Date(this.store.clock.now()), ...whose };
    const expendable = this.expendable(keys);
    const vault = this.store.vault.makingRoom(async () => {
      const next = await expendable.next();
      if (!next.done) await this.store.vault.delete(next.value);
      return !next.done;
    });
    await vault.put(DELETING + id, new TextEncoder().encode(snapshot && byDateKey(id, snapshot.createdAt)));
    await vault.putOwned(keys.record, encodeTombstone(tombstone), stored.etag, { contentType: 'application/json' });
    await this.unlist(id);
    void this.removeSoon(id);
    return tombstone;
  }

  /**
   * What may go of a session before its tombstone is written, where the store is full: first what can be made again, in case
   * that nothing comes of the deletion; then media, when it is noted that the deletion has to be completed. The notes are
   * empty, because those can be written on a full disk.
   */
  private async *expendable(keys: SessionKeys): AsyncGenerator<string> {
    const { vault } = this.store;
    const files: string[] = [];
    for await (const { key } of vault.list(keys.prefix)) files.push(key);
    const again = [keys.exports, keys.checkpoints, keys.video, keys.playlist, keys.timeline];
    yield* files.filter((key) => again.some((place) => key.startsWith(place)));
    await vault.put(DELETING + keys.id, new Uint8Array());
    await vault.put(keys.condemned, new Uint8Array());
    const inherited = await inheritedChunks(this.store, keys.id);
    if (inherited === 'unknown') return;
    yield* files.filter((key) => key.startsWith(keys.chunks) && key >= keys.chunk(inherited)).reverse();
  }

  private async parentByLog(id: string): Promise<SessionParent | undefined> {
    const { owners } = await inheritedByLog(this.store.vault, id);
    const [sessionId, chunk] = [...owners].at(-1) ?? [];
    return sessionId === undefined || chunk === undefined ? undefined : { sessionId, chunk };
  }

  /** Removes again and again what is left, until the signal: forks and failures make deletions wait. Never rejects. */
  async keepOn(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.store;
    while (!signal.aborted) {
      await this.sweep().catch((error: unknown) => {
        logger.warn({ error }, 'could not search for deletions that were cut short');
      });
      await clock.sleep(ROUND, signal);
    }
  }

  /** Removes what deletions have left: those that a crash cut short, and those that had to wait for a fork. */
  async sweep(): Promise<void> {
    for await (const { key } of this.store.vault.list(DELETING)) {
      const id = key.slice(DELETING.length);
      if (id.includes('-')) continue; // Not an id.
      await this.removeSoon(id);
    }
  }

  /** Resolves when nothing is being removed. */
  async settled(): Promise<void> {
    await this.removing;
  }

  /** One after another; never rejects: what fails is left for the next sweep. */
  private removeSoon(id: string, heirs: readonly string[] = []): Promise<void> {
    this.removing = this.removing
      .then(() => this.remove(id, heirs))
      .catch((error: unknown) => {
        this.store.logger.warn({ sessionId: id, error }, 'could not remove files of a deleted session yet');
      });
    return this.removing;
  }

  /** A record that cannot be read is deleted all the same; whose fork it was is lost. */
  private async read(keys: SessionKeys): Promise<RecordOrTombstone | { record: undefined; etag: string }> {
    const { vault } = this.store;
    try {
      const stored = await readRecordOrTombstone(vault, keys);
      if (stored) return stored;
    } catch (error) {
      const head = error instanceof DamagedError ? await vault.head(keys.record) : undefined;
      if (!head) throw error;
      return { record: undefined, etag: head.etag };
    }
    throw new DomainError('NOT_FOUND', 'No such session.', { field: 'sessionId' });
  }

  /** The mark says where it stands in the list, unless nobody could read its record. */
  private async unlist(id: string): Promise<void> {
    const { vault } = this.store;
    await vault.delete(UNFINISHED + id);
    const mark = await vault.read(DELETING + id);
    const listed = mark && new TextDecoder().decode(mark.bytes);
    if (listed) return vault.delete(listed);
    for await (const { key } of vault.list(BY_DATE)) if (idOfByDateKey(key) === id) await vault.delete(key);
  }

  /** `heirs`: the forks whose removal led here, through their parents. */
  private async remove(id: string, heirs: readonly string[]): Promise<void> {
    const { vault } = this.store;
    const keys = keysOf(id);
    const stored = await readRecordOrTombstone(vault, keys);
    if (!stored || !('tombstone' in stored)) {
      // The mark comes before the tombstone, which may be on its way.
      if (await vault.head(keys.condemned)) await this.delete(id);
      return;
    }
    await this.unlist(id);
    const inherited = await inheritedChunks(this.store, id);
    if (inherited === 'unknown') return;
    await this.removeFiles(keys, inherited);
    if (inherited > 0) await this.markForks(keys);
    const { parent } = stored.tombstone;
    if (parent) await this.releaseParent(parent.sessionId, [id, ...heirs], inherited > 0);
    await vault.delete(DELETING + id);
  }

  /** A mark that was lost is written anew: it says whose log tells what the remaining media must be. */
  private async markForks({ id, forks }: SessionKeys): Promise<void> {
    const { vault, clock, logger, inheritance } = this.store;
    for (const forkId of inheritance.forksOf(id)) {
      if ((await vault.head(forks + forkId)) || !(await needsMark(this.store, id, forkId))) continue;
      logger.warn({ sessionId: id, forkId }, 'a fork was not marked at its parent; it keeps what it plays');
      await putMark(vault, id, forkId, clock.now());
    }
  }

  private async removeFiles(keys: SessionKeys, inherited: number): Promise<void> {
    const { vault } = this.store;
    const needed = new Set([keys.record, ...(inherited > 0 ? [keys.init] : [])]);
    for (let chunk = 0; chunk < inherited; chunk++) needed.add(keys.chunk(chunk));
    let batch: Promise<void>[] = [];
    for await (const { key } of vault.list(keys.prefix)) {
      if (needed.has(key) || (inherited > 0 && key.startsWith(keys.forks))) continue;
      batch.push(vault.delete(key));
      if (batch.length < AT_ONCE) continue;
      await Promise.all(batch);
      batch = [];
    }
    await Promise.all(batch);
  }

  /** The parent may have been deleted before, and have kept what only this one played. */
  private async releaseParent(parentId: string, heirs: [string, ...string[]], stillNeeded: boolean): Promise<void> {
    const { vault } = this.store;
    if (!stillNeeded) await unmarkFork(vault, parentId, heirs[0]);
    if (heirs.includes(parentId)) return; // Damaged records make it its own parent: it was removed on the way here.
    const stored = await readRecordOrTombstone(vault, keysOf(parentId));
    if (!stored || !('tombstone' in stored)) return;
    await vault.put(DELETING + parentId, new Uint8Array());
    void this.removeSoon(parentId, heirs);
  }
}

const LONGEST_WAIT = 20_000;

export interface EndingParts {
  clock: Clock;
  policy: Pick<SessionPolicy, 'answerSeconds'>;
}

/**
 * Ends a session if that is not done yet, and gives its owner time to complete it, so that nothing is written behind the
 * deletion's back. A store that is full or fails lets neither happen: then the deletion ends it.
 */
export async function endFirst(sessions: Sessions, id: string, { clock, policy }: EndingParts): Promise<void> {
  const state = await sessions.session(id).catch((error: unknown) => {
    // Whether it can be deleted is for the deletion to say.
    if (error instanceof DeletedError || error instanceof DamagedError) return undefined;
    throw error;
  });
  if (!state || state.finishedAt) return;
  const [done, tooLong] = [new AbortController(), new AbortController()];
  const wait = Math.min(LONGEST_WAIT, (policy.answerSeconds * 1_000) / 2);
  const waiting = clock.sleep(wait, done.signal).then(() => tooLong.abort());
  const end = async () => {
    const { lastSequence } = await sessions.stopSession(id);
    const events = sessions.subscribe(id, { after: lastSequence, signal: tooLong.signal });
    while (!(await events.next()).done);
  };
  const ending = end();
  ending.catch(() => undefined);
  try {
    await Promise.race([ending, waiting]);
  } catch (error) {
    if (!(error instanceof DomainError) || error.code !== 'STORAGE') throw error;
  } finally {
    done.abort();
  }
}
