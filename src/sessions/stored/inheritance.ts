/**
 * How much of each session its forks play, as the forks themselves tell it: their records name their parents, and their
 * logs what they play. Marks at the parent say the same sooner (forks.ts), but may be lost, so nothing is removed before
 * every record was read once. That takes a while in a large store; afterwards only what is new is read.
 */

import type { Clock } from '../ports.js';
import type { SessionParent } from '../session.js';
import { DamagedError, NewerFormatError, UnreadableError } from './checksum.js';
import { lineage, parentOf } from './forks.js';
import { BY_DATE, byDateKey, idOfByDateKey, keysOf, mediaOfKey, UNFINISHED } from './keys.js';
import { readDamagedLog } from './log-repair.js';
import { readRecordOrTombstone } from './record.js';
import type { Vault } from './vault.js';

/** Records read at once. */
const AT_ONCE = 16;

/** Clocks of servers differ, and a session is listed a moment after it was made: what is younger is looked at again. */
const RECENT = 3_600_000;

export class Inheritance {
  /** Of a session, how many of its chunks each fork plays, forks of forks included. */
  private readonly played = new Map<string, Map<string, number>>();
  /** The forks that were made of a session itself. */
  private readonly children = new Map<string, Set<string>>();
  /** Those that were read already and may be met again. */
  private known = new Set<string>();
  /** Those of which nobody could tell: they are looked at again. */
  private unread = new Set<string>();
  private readUpTo: string | undefined;
  private reading: Promise<void> = Promise.resolve();

  constructor(
    private readonly vault: Vault,
    private readonly clock: Clock,
  ) {}

  /** Each fork that plays something of the session, or did, with how many chunks. */
  playedOf(sessionId: string): ReadonlyMap<string, number> {
    return this.played.get(sessionId) ?? new Map<string, number>();
  }

  /** The forks that have to be marked at the session. */
  forksOf(sessionId: string): ReadonlySet<string> {
    return this.children.get(sessionId) ?? new Set();
  }

  /** Reads all that can be read; rejects with UnreadableError while there is a session of which nobody can tell whether it is a fork. */
  refresh(): Promise<void> {
    const next = this.reading.then(() => this.readNew());
    this.reading = next.catch(() => undefined);
    return next;
  }

  /** Looks at one session, which may be in no list. */
  async read(id: string): Promise<void> {
    const keys = keysOf(id);
    try {
      const stored = await readRecordOrTombstone(this.vault, keys);
      if (!stored) return await this.readLog(id);
      const parent = parentOf(stored);
      // What a deleted one played, its own forks tell.
      if ('tombstone' in stored || !parent) return;
      const parents: SessionParent[] = [];
      for await (const ancestor of lineage(this.vault, id, parent)) parents.push(ancestor);
      for (const [i, { sessionId, chunk }] of parents.entries()) {
        note(this.children, sessionId, () => new Set<string>()).add(parents[i - 1]?.sessionId ?? id);
        note(this.played, sessionId, () => new Map<string, number>()).set(id, chunk);
      }
    } catch (error) {
      if (!(error instanceof UnreadableError)) throw error;
      const own = error.key === keys.record;
      await this.readLog(id, own && error instanceof NewerFormatError ? error : undefined);
    }
  }

  private async readNew(): Promise<void> {
    const began = this.clock.now();
    const listed = new Set(this.unread);
    // The newest come first.
    for await (const { key } of this.vault.list(BY_DATE)) {
      if (this.readUpTo !== undefined && key > this.readUpTo) break;
      listed.add(idOfByDateKey(key));
    }
    for await (const { key } of this.vault.list(UNFINISHED)) listed.add(key.slice(UNFINISHED.length));
    const left = [...listed].filter((id) => !this.known.has(id)).values();
    const unreadable = new Map<string, UnreadableError>();
    const readNext = async () => {
      for (const id of left) {
        try {
          await this.read(id);
          this.known.add(id);
        } catch (error) {
          if (!(error instanceof UnreadableError)) throw error;
          unreadable.set(id, error);
        }
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, readNext));
    this.readUpTo = byDateKey('', new Date(began - RECENT));
    this.unread = new Set(unreadable.keys());
    this.known = new Set([...listed].filter((id) => !unreadable.has(id)));
    for (const error of unreadable.values()) throw error;
  }

  /** Where the record says nothing. A later release may keep elsewhere what its log does not say. */
  private async readLog(id: string, newer?: NewerFormatError): Promise<void> {
    const { owners, whole, begun } = await inheritedByLog(this.vault, id);
    for (const [owner, chunks] of owners) note(this.played, owner, () => new Map<string, number>()).set(id, chunks);
    if (newer ? begun : whole) return;
    throw (
      newer ??
      new DamagedError(keysOf(id).log, 'is damaged: the chunks that the session shares with others are unknown')
    );
  }
}

/**
 * Whose chunks a session plays by its log, its parent's last, and up to which; `whole` unless there may be more; `begun` when
 * it has one of its own, behind which nothing is inherited.
 */
export async function inheritedByLog(
  vault: Vault,
  id: string,
): Promise<{ owners: Map<string, number>; whole: boolean; begun: boolean }> {
  const keys = keysOf(id);
  let newest = -1;
  for await (const { key } of vault.list(keys.log)) newest = Number(/(\d+)\.jsonl$/.exec(key)?.[1] ?? newest);
  const { events, cut } = await readDamagedLog(vault, keys, newest);
  const owners = new Map<string, number>();
  for (const event of events) {
    if (event.type !== 'FrameChunk') continue;
    const owner = mediaOfKey(event.key)?.sessionId;
    if (owner === undefined || owner === id) return { owners, whole: true, begun: true };
    owners.set(owner, event.chunk + 1);
  }
  return { owners, whole: !cut, begun: false };
}

function note<Value>(all: Map<string, Value>, key: string, make: () => Value): Value {
  const value = all.get(key) ?? make();
  all.set(key, value);
  return value;
}
