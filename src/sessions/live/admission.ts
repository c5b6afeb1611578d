/**
 * Who waits for room gets it: a server that has some begins the first in the line that it can, one after another, so nobody
 * is overtaken by what came later. It also sends those away whose time is over, or for whom nobody waits any more.
 */

import { DomainError } from '../errors.js';
import { findSession } from '../read/stored-sessions.js';
import { isWaiting, type Session, type StateReason } from '../session.js';
import { Signal } from '../signal.js';
import { isLasting } from '../stored/checksum.js';
import { DeletedError } from '../stored/record.js';
import type { Context } from './context.js';
import type { Directory } from './directory.js';
import type { Waiting } from './line.js';
import type { Ownership } from './ownership.js';
import type { Placement } from './placement.js';
import { goesOn } from './recovery.js';
import { requireModel } from './required-model.js';

/** How long a server with room leaves a session to another that is better for it, in milliseconds. */
const POLITENESS = 1_000;

/** Looks at the line per lease, besides those that somebody asks for. */
const LOOKS = 3;

type Outcome = 'gone' | 'left' | 'full';

export class Admission {
  private readonly over = new AbortController();
  private readonly stirred = new Signal();
  private stirring = true;
  private begun = false;
  private loop: Promise<void> = Promise.resolve();

  constructor(
    private readonly context: Context,
    private readonly directory: Pick<Directory, 'owned'>,
    private readonly ownership: Pick<Ownership, 'admit' | 'adopt'>,
    private readonly placement: Pick<Placement, 'mayTakeUp' | 'hosts'>,
  ) {}

  /** There may be room, or somebody new in the line. */
  stir(): void {
    this.stirring = true;
    this.stirred.notify();
  }

  /** After so many milliseconds. */
  begin(delay: number): void {
    if (this.begun) return;
    this.begun = true;
    const { line } = this.context;
    const unlisten = line.onChange(() => this.stir());
    this.loop = this.keepOn(delay).finally(unlisten);
  }

  async close(): Promise<void> {
    this.over.abort();
    await this.loop;
  }

  private async keepOn(delay: number): Promise<void> {
    const { clock, policy, logger } = this.context;
    const period = (policy.leaseSeconds * 1_000) / LOOKS;
    const beginsAt = clock.monotonic() + delay;
    let lookedAt = -Infinity;
    while (!this.over.signal.aborted) {
      this.stirring = false;
      const due = clock.monotonic() - lookedAt >= period;
      if (due) lookedAt = clock.monotonic();
      try {
        await this.context.line.look(due);
        if (this.placement.hosts && clock.monotonic() >= beginsAt) await this.turn();
      } catch (error) {
        logger.warn({ error }, 'could not look after the sessions that wait for room; trying again');
      }
      const wait = this.context.line.length > 0 ? Math.min(POLITENESS, period) : period;
      if (!this.stirring) await this.stirred.wait(clock, wait, this.over.signal);
    }
  }

  /** From the first on, until there is no room for one: those behind it wait for it. */
  private async turn(): Promise<void> {
    if (this.directory.owned().some(({ returning }) => returning)) return;
    for (const waiting of [...this.context.line.all()]) {
      if (this.over.signal.aborted) return;
      if ((await this.serve(waiting)) === 'full') return;
    }
  }

  private async serve(waiting: Waiting): Promise<Outcome> {
    const { context } = this;
    const { line } = context;
    const session = waiting.session ?? (await this.read(waiting));
    if (!session) {
      await line.leave(waiting.id, waiting.since);
      return 'gone';
    }
    const why = this.whyNotAnyLonger(waiting, session);
    if (why) return this.sendAway(waiting, why);
    if (waiting.notHere || !line.fits(session)) return 'left';
    const another = !this.placement.mayTakeUp(session, true);
    if (another && context.clock.monotonic() - waiting.knownAt < POLITENESS) return 'full';
    return this.start(waiting, session);
  }

  /** Undefined when it waits no more, or cannot be read. */
  private async read(waiting: Waiting): Promise<Session | undefined> {
    const { vault } = this.context;
    const found = await findSession(vault, waiting.id).catch((error: unknown) => {
      if (isLasting(error) || error instanceof DeletedError) return undefined;
      throw error;
    });
    if (!found || !isWaiting(found.session) || found.session.wait?.since !== waiting.since) return undefined;
    waiting.session = found.session;
    return found.session;
  }

  private whyNotAnyLonger({ knownAt }: Waiting, session: Session): StateReason | undefined {
    const { context } = this;
    const { clock, policy, watching } = context;
    if (clock.now() >= (session.wait?.until ?? Infinity)) return 'CAPACITY';
    const watchedAt = Math.max(knownAt, watching.last(session.id));
    const watched = clock.monotonic() - watchedAt <= policy.idleSeconds * 1_000;
    return goesOn(context, session, watched) ? undefined : 'IDLE';
  }

  private async sendAway({ id }: Waiting, reason: StateReason): Promise<Outcome> {
    try {
      const owned = await this.ownership.adopt(id);
      await owned?.leaveLine(reason);
      return 'gone';
    } catch (error) {
      return this.notNow(id, error);
    }
  }

  private async start(waiting: Waiting, session: Session): Promise<Outcome> {
    const { context, ownership } = this;
    waiting.held = false;
    try {
      await requireModel(context, session);
      await ownership.admit(session);
      return 'gone';
    } catch (error) {
      const code = error instanceof DomainError ? error.code : undefined;
      if (code === 'AT_CAPACITY') return 'full';
      // Its tenant has as many as it may: those of others go first.
      if (code === 'RATE_LIMIT') {
        waiting.held = true;
        return 'left';
      }
      // An adapter or the encoder of it is not here: another server may have it.
      if (code === 'MODEL_UNAVAILABLE' || code === 'ENCODER_UNAVAILABLE') waiting.notHere = true;
      return this.notNow(waiting.id, error);
    }
  }

  /** It is in the hands of another server for a moment, or cannot be read just now: tried again with the next look. */
  private notNow(id: string, error: unknown): Outcome {
    const code = error instanceof DomainError ? error.code : undefined;
    const usual = code === 'OWNED_ELSEWHERE' || code === 'CONFLICT' || code === 'SHUTTING_DOWN';
    if (!usual) this.context.logger.warn({ sessionId: id, error }, 'could not begin a session that waits for room');
    return 'left';
  }
}
