/** How this server comes to own sessions: it makes them, takes them over from servers that are no more, and lets go. */

import type { Context } from './context.js';
import type { Directory } from './directory.js';
import { DomainError } from '../errors.js';
import { Holding } from './holding.js';
import { OwnedSession } from './owned.js';
import { untilDone } from './persistence.js';
import type { Loss, Presence } from './presence.js';
import type { Placement } from './placement.js';
import { goesOn, wasWatched } from './recovery.js';
import type { CommandHandler } from '../ports.js';
import { findRecord, loadSession, type StoredSession } from '../read/stored-sessions.js';
import { isWaiting, type Session } from '../session.js';
import { markFork } from '../stored/forks.js';
import { isLasting } from '../stored/checksum.js';
import { byDateKey, DELETING, keysOf, UNFINISHED, waitingKey } from '../stored/keys.js';
import { RecordFile } from '../stored/record-file.js';
import { DeletedError, type SessionRecord } from '../stored/record.js';
import { OwnershipLost, type Vault } from '../stored/vault.js';

/** Sessions looked at or taken over at once. */
const AT_ONCE = 8;

/** How long a server waits for others that are better for sessions to take them up, in milliseconds. */
const POLITENESS = 2_000;

/** Between attempts to take over what a dead server left while the store fails, in milliseconds. */
const RETRY = 5_000;

export class Ownership {
  private readonly sweeping = new Map<string, Promise<void>>();
  private readonly over = new AbortController();
  /** Sessions were found whose owners may have just died: they go on before those that wait for room. */
  suspicious = false;

  constructor(
    private readonly context: Context,
    private readonly directory: Directory,
    private readonly presence: Presence,
    /** For what may as well be done later. */
    private readonly impatient: Vault,
    private readonly handler: (sessionId: string) => CommandHandler,
    private readonly placement: Pick<Placement, 'mayTakeUp'>,
  ) {}

  /** No session is taken over from now on. */
  close(): void {
    this.over.abort();
  }

  /** Makes a session, and starts it unless it is to wait for room; `undefined` when another server has made one with this id. */
  create(record: SessionRecord): Promise<OwnedSession | undefined> {
    const { id, snapshot } = record;
    const holding = this.holding(id, snapshot);
    return this.directory.open(id, holding, async () => {
      this.mustBeOpen();
      const { wait } = record.request;
      if (!wait) {
        this.context.line.mustNotOvertake(snapshot);
        holding.takePlace();
      }
      await this.presence.begin();
      try {
        const file = await this.register(record);
        if (!file) return undefined;
        const session = await this.own(file, holding);
        await session.open();
        if (wait) await this.context.line.join(id, wait.since);
        else session.start();
        return session;
      } catch (error) {
        await this.discard(record);
        throw error instanceof OwnershipLost ? changingHands() : error;
      }
    });
  }

  /**
   * Makes this server the owner of an unfinished session that no living server owns; `undefined` when it is finished.
   * Rejects with OWNED_ELSEWHERE.
   */
  adopt(id: string, wanted = false): Promise<OwnedSession | undefined> {
    const holding = this.holding(id);
    return this.directory.open(id, holding, () => this.take(id, holding, wanted));
  }

  /** Begins a session that waits for room; AT_CAPACITY when there is still none, OWNED_ELSEWHERE. */
  admit(waiting: Session): Promise<OwnedSession | undefined> {
    const { id } = waiting;
    const holding = this.holding(id, waiting);
    return this.directory.open(id, holding, () => {
      holding.takePlace();
      return this.take(id, holding, true);
    });
  }

  private async take(id: string, holding: Holding, wanted: boolean): Promise<OwnedSession | undefined> {
    const { vault, cluster } = this.context;
    this.mustBeOpen();
    await this.presence.begin();
    const loaded = await loadSession(vault, id);
    if (loaded.session.finishedAt) {
      await vault.delete(UNFINISHED + id);
      return undefined;
    }
    await this.mustNotLiveElsewhere(loaded.record);
    const watched = wanted || (await wasWatched(this.context, this.presence, loaded));
    const epoch = (loaded.record.epoch ?? 0) + 1;
    const mine = { ...knownToLog(loaded), owner: cluster.serverId, ownedSince: this.now(), epoch };
    const session = await this.own(await RecordFile.sign(vault, mine, loaded.etag), holding);
    // Whoever made it may not have come to the end of that.
    if (loaded.session.state === 'QUEUED') await vault.put(byDateKey(id, loaded.session.createdAt), NOTHING);
    await session.open();
    if (holding.holdsPlace && isWaiting(session.session)) {
      session.start();
    } else {
      holding.freePlace();
      await session.comeBack(goesOn(this.context, session.session, watched));
    }
    return session;
  }

  /** Takes up the sessions that nobody owns, or that a server which is no more did. Tries again while the store fails. */
  async sweep(lost: Loss | undefined): Promise<void> {
    const key = lost?.serverId ?? '';
    const sweeping = this.sweeping.get(key) ?? this.sweepNow(lost).finally(() => this.sweeping.delete(key));
    this.sweeping.set(key, sweeping);
    return sweeping;
  }

  /** Lets go of those sessions that others have taken over. */
  async confirmAll(): Promise<void> {
    await Promise.all(this.directory.owned().map((session) => session.confirm()));
  }

  private mustBeOpen(): void {
    if (!this.over.signal.aborted) return;
    throw new DomainError('SHUTTING_DOWN', 'This server is shutting down; try again in a moment.');
  }

  // ---- making -------------------------------------------------------------------------------------------------------

  /** Makes the session known; `undefined` when a request with the same idempotency key was faster. */
  private async register(record: SessionRecord): Promise<RecordFile | undefined> {
    const { vault } = this.context;
    const { id, snapshot } = record;
    await markFork(this.context, record);
    await vault.put(UNFINISHED + id, NOTHING);
    const file = await RecordFile.create(vault, record);
    if (file) await vault.put(byDateKey(id, snapshot.createdAt), NOTHING);
    return file;
  }

  /** Removes a session of which nobody was told. What the store does not let go of, a retry takes up. */
  private async discard({ id, snapshot, owner, ownedSince }: SessionRecord): Promise<void> {
    const vault = this.impatient;
    const keys = keysOf(id);
    try {
      const stored = await findRecord(vault, id);
      if (!stored) return await this.forgetUnfinished(id);
      if (stored.record.owner !== owner || stored.record.ownedSince !== ownedSince) return;
      const files: string[] = [];
      for await (const { key } of vault.list(keys.prefix)) if (key !== keys.record) files.push(key);
      const waiting = snapshot.wait ? [waitingKey(id, snapshot.wait.since)] : [];
      for (const key of [...files, ...waiting, byDateKey(id, snapshot.createdAt), keys.record, UNFINISHED + id]) {
        await vault.delete(key);
      }
    } catch (error) {
      this.context.logger.warn({ sessionId: id, error }, 'could not remove a session whose creation failed');
    }
  }

  /** Of what came to no record, unless a retry at another server is faster. */
  private async forgetUnfinished(id: string): Promise<void> {
    const vault = this.impatient;
    await vault.delete(UNFINISHED + id);
    if (await findRecord(vault, id)) await vault.put(UNFINISHED + id, NOTHING);
  }

  private async own(file: RecordFile, holding: Holding): Promise<OwnedSession> {
    const { id, epoch = 1 } = file.record;
    const claim = await this.context.cluster.claim(id, epoch, this.handler(id));
    if (!claim) throw changingHands();
    await holding.keep(claim);
    const session: OwnedSession = new OwnedSession(this.context, {
      file,
      holding,
      leave: (farewell) => this.directory.leave(id, session, farewell),
      onLost: () => this.lookAgain(id),
    });
    claim.lost.addEventListener('abort', () => session.lose(), { once: true });
    return session;
  }

  private holding(id: string, snapshot?: Session): Holding {
    return new Holding(() =>
      this.context.capacity.enter(() => this.directory.at(id)?.session ?? (snapshot as Session)),
    );
  }

  // ---- taking over --------------------------------------------------------------------------------------------------

  private async mustNotLiveElsewhere({ owner, ownedSince }: SessionRecord): Promise<void> {
    if (owner === null || !(await this.presence.lives(owner))) return;
    const since = ownedSince === undefined ? undefined : new Date(ownedSince);
    throw new DomainError(
      'OWNED_ELSEWHERE',
      `The session belongs to server ${owner}${since ? ` since ${since.toISOString()}` : ''}, which this server cannot reach; send the request to that server.`,
      { owner: { serverId: owner, ...(since && { since }) }, retryAfterSeconds: this.context.policy.leaseSeconds },
    );
  }

  private async sweepNow(lost: Loss | undefined): Promise<void> {
    const { clock, vault, logger } = this.context;
    for (let politely = true; !this.over.signal.aborted; politely = false) {
      try {
        if (await this.sweepOnce(lost, politely)) return;
      } catch (error) {
        logger.warn({ error, serverId: lost?.serverId }, 'could not search for unfinished sessions; trying again');
      }
      if (politely) await clock.sleep(POLITENESS, this.over.signal);
      else await vault.rest(RETRY, this.over.signal);
    }
  }

  /** False when some could not be taken over, or, done politely, are left to others for the time being. */
  private async sweepOnce(lost: Loss | undefined, politely: boolean): Promise<boolean> {
    const ids: string[] = [];
    for await (const { key } of this.context.vault.list(UNFINISHED)) ids.push(key.slice(UNFINISHED.length));
    let complete = true;
    const next = ids.values();
    const takeNext = async () => {
      for (const id of next) {
        if (this.over.signal.aborted) return;
        complete = (await this.takeUp(id, lost, politely)) && complete;
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, takeNext));
    if (complete && lost) await this.presence.bury(lost.serverId);
    return complete;
  }

  private async takeUp(id: string, lost: Loss | undefined, politely: boolean): Promise<boolean> {
    const { vault, logger } = this.context;
    try {
      const found = await findRecord(vault, id);
      if (!found) return true;
      if (!this.mayBeTaken(found.record, lost)) return true;
      if (isWaiting(found.record.snapshot) && (await this.keepsWaiting(id))) return true;
      if (!this.placement.mayTakeUp(found.record.snapshot, politely)) return !politely;
      await this.adopt(id);
      return true;
    } catch (error) {
      const code = error instanceof DomainError ? error.code : undefined;
      if (code === 'OWNED_ELSEWHERE') {
        this.suspect((error as DomainError).owner?.serverId);
        return true;
      }
      logger.warn({ sessionId: id, error }, 'could not take over an unfinished session');
      return isLasting(error) || (code !== 'STORAGE' && !(error instanceof OwnershipLost));
    }
  }

  /** Owners of which only the store tells may be no more. */
  private suspect(serverId: string | undefined): void {
    if (!this.context.cluster.peers().some((peer) => peer.serverId === serverId)) this.suspicious = true;
  }

  /** Whether it still waits for room: then it has its place in the line, though whoever owned it is no more. */
  private async keepsWaiting(id: string): Promise<boolean> {
    const { session } = await loadSession(this.context.vault, id);
    if (!isWaiting(session) || !session.wait) return false;
    await this.context.line.join(id, session.wait.since);
    return true;
  }

  /** Sessions that rest stay where they are until somebody asks for them. */
  private mayBeTaken({ id, owner, snapshot }: SessionRecord, lost: Loss | undefined): boolean {
    if (this.directory.at(id)) return false;
    if (owner !== null) return lost === undefined || owner === lost.serverId;
    return snapshot.state !== 'PAUSED' || snapshot.reason === 'WORKER_LOST';
  }

  /** After it turned out that somebody else has written: if nobody owns the session after all, it is taken up again. */
  private lookAgain(id: string): void {
    const { clock, vault, logger } = this.context;
    const look = async () => {
      try {
        await this.adopt(id);
      } catch (error) {
        // What was written behind the deletion's back goes with the next look at what is left of deletions.
        if (error instanceof DeletedError) return void (await this.context.vault.put(DELETING + id, NOTHING));
        const code = error instanceof DomainError ? error.code : undefined;
        const settled = code === 'OWNED_ELSEWHERE' || code === 'NOT_FOUND' || isLasting(error);
        if (!settled && !this.over.signal.aborted) throw error;
      }
    };
    const what = `could not take back the lost session ${id}`;
    const { signal } = this.over;
    void clock.sleep(RETRY, signal).then(() => untilDone(look, { vault, logger, what, signal }));
  }

  private now(): string {
    return new Date(this.context.clock.now()).toISOString();
  }
}

/** The record, unless it tells of more than the log. */
function knownToLog({ record, session }: StoredSession): SessionRecord {
  return record.snapshot.lastSequence > session.lastSequence ? { ...record, snapshot: session } : record;
}

const NOTHING = new Uint8Array();

function changingHands(): DomainError {
  return new DomainError('CONFLICT', 'The session is moving to another server; try again.');
}
