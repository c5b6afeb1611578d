/** What an owned session writes of itself: its log, of which it is the fold, the newest events in memory, and its record. */

import type { StoredEvent } from '../events.js';
import { EventRing } from '../read/ring.js';
import { isWaiting, type Session, type SessionState, type StateReason, type Wait } from '../session.js';
import { keysOf } from '../stored/keys.js';
import { SessionLog } from '../stored/log.js';
import type { RecordFile } from '../stored/record-file.js';
import { applyEvent } from '../stored/snapshot.js';
import { OwnershipLost } from '../stored/vault.js';
import type { Context } from './context.js';
import type { Failure } from './failure.js';

export interface TransitionDetails {
  failure?: Failure | undefined;
  commandId?: string | undefined;
  wait?: Wait | undefined;
}

export class Chronicle {
  readonly ring: EventRing;
  /** There from `open` on. */
  log!: SessionLog;
  /** The fold of the log. */
  session: Session;

  constructor(
    private readonly context: Context,
    private readonly file: RecordFile,
    private readonly onCommitted: (event: StoredEvent) => void,
  ) {
    const { ringEvents, ringBytes } = context.policy;
    this.ring = new EventRing({ events: ringEvents, bytes: ringBytes });
    this.session = file.record.snapshot;
  }

  /** Reads what the log has beyond the record. */
  async open(): Promise<void> {
    const { vault, clock } = this.context;
    const { id, lastSequence } = this.session;
    this.log = await SessionLog.open(vault, keysOf(id), clock, lastSequence, (event) => this.commit(event));
  }

  async transition(
    state: SessionState,
    reason?: StateReason,
    { failure, commandId, wait }: TransitionDetails = {},
  ): Promise<void> {
    const draft = {
      type: 'StateChanged',
      state,
      previous: this.session.state,
      ...(reason && { reason }),
      ...(failure && { failure }),
      ...(commandId !== undefined && { commandId }),
      ...(wait && { wait }),
    } as const;
    const before = this.session;
    await this.log.append(draft, { unless: () => this.session.state === state && this.session.reason === reason });
    await this.refreshRecord();
    if (before.wait && !isWaiting(this.session)) await this.leaveLine(before.id, before.wait);
  }

  /** Whoever reads the line finds out, too. */
  private async leaveLine(id: string, { since }: Wait): Promise<void> {
    const { line, logger } = this.context;
    await line.leave(id, since).catch((error: unknown) => {
      logger.warn({ sessionId: id, error }, 'could not take a session out of the line of those that wait for room');
    });
  }

  /** The log alone decides what is true; an outdated snapshot in the record merely makes loading slower. */
  async refreshRecord(changes: { owner?: null } = {}): Promise<void> {
    const { clock, logger, watching } = this.context;
    const watchedAt = new Date(clock.now() - (clock.monotonic() - watching.last(this.session.id)));
    const watched = Number.isFinite(watchedAt.getTime()) && { watchedAt: watchedAt.toISOString() };
    try {
      await this.file.update({ ...changes, ...watched, snapshot: this.session });
    } catch (error) {
      if (error instanceof OwnershipLost) throw error;
      logger.warn({ sessionId: this.session.id, error }, 'could not update session.json');
    }
  }

  private commit(event: StoredEvent): void {
    this.session = applyEvent(this.session, event);
    this.ring.push(event);
    this.onCommitted(event);
    this.context.cluster.announce(this.session.id, event.sequence);
  }
}
