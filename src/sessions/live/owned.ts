/** A session at the one server that owns it: how it comes to life, and how the commands are carried out. */

import type { Context } from './context.js';
import { DomainError } from '../errors.js';
import { inherit } from './fork.js';
import { describe } from './failure.js';
import type { OwnedParts } from './holding.js';
import { Life } from './life.js';
import { impossible, isOver } from './phase.js';
import { Plans } from './plans.js';
import type { EventRing } from '../read/ring.js';
import { requireModel } from './required-model.js';
import { DamagedError } from '../stored/checksum.js';
import {
  isEnded,
  isWaiting,
  type MovePromptInput,
  type Session,
  type StateReason,
  type SwitchPromptInput,
  type SwitchReceipt,
  type ViewerPosition,
} from '../session.js';
import { Switches } from './switches.js';

/** Between attempts to go on after another server's end while there is no room, in seconds, unless it is known better. */
const RETURN_RETRY = 2;

/** How long a session that waits for room stays with a server that has taken it for a command, at most, in milliseconds. */
const STEP_BACK = 1_000;

/** The session is not owned any more by whoever was asked; ask anew. */
export class SessionGone extends Error {}

/**
 * What it tells anybody is the fold of the log, so it can never claim what is not durable; the one exception is that a
 * store which cannot be written pauses the session visibly before that can be logged (`Stuck`).
 */
export class OwnedSession {
  private readonly life: Life;
  private readonly switches: Switches;
  private readonly plans: Plans;
  /** It was live when its last owner ended, and goes on before those that wait in the line. */
  returning = false;

  constructor(
    private readonly context: Context,
    private readonly parts: OwnedParts,
  ) {
    this.life = new Life(context, parts);
    this.switches = new Switches(this.life);
    this.plans = new Plans(this.life);
  }

  // ---- what others see ----------------------------------------------------------------------------------------------

  get id(): string {
    return this.life.id;
  }

  get gone(): boolean {
    return this.life.gone;
  }

  get ring(): EventRing {
    return this.life.ring;
  }

  /** The fold of the log. */
  get session(): Session {
    return this.life.session;
  }

  /** Tells a repeated request from another one under the same idempotency key. */
  get inputDigest(): string {
    return this.parts.file.record.inputDigest;
  }

  view(): Session {
    const { phase, session } = this.life;
    const trouble = phase.kind === 'stuck' ? phase.trouble : {};
    const delay = phase.kind === 'finishing' ? phase.delay : undefined;
    const { speed } = this.parts.holding;
    const viewers = this.context.watching.viewers(this.id);
    return { ...session, ...trouble, ...(delay && { delay }), viewers, ...(speed !== undefined && { speed }) };
  }

  // ---- coming to life -----------------------------------------------------------------------------------------------

  /** Reads what the log has beyond the record, and completes what a crash in the middle of creation left out. */
  async open(): Promise<void> {
    await this.life.openLog();
    const { prompts, wait } = this.parts.file.record.request;
    if (this.session.lastSequence === 0) {
      await this.life.log.append({ type: 'StateChanged', state: 'QUEUED', ...(wait && { wait }) });
    }
    await inherit(this.life);
    const { requested, inherited } = this.session.prompts;
    const missing = prompts.slice(requested - inherited);
    await Promise.all(missing.map((planned) => this.switches.plan({ ...planned, when: { block: planned.block } })));
  }

  /** Begins to generate; a place has been taken. */
  start(): void {
    this.life.start();
  }

  /** After its last owner's end: goes on, or rests, or completes what was left to do. */
  async comeBack(goesOn: boolean): Promise<void> {
    const { state, reason, finishedAt } = this.session;
    if (finishedAt) return this.life.release();
    if (isEnded(state)) return this.life.enter('finish');
    if (isWaiting(this.session)) return this.life.inBackground(this.stepBackSoon());
    if (state === 'PAUSED' && reason !== 'WORKER_LOST') return this.life.enter('rest');
    if (goesOn && state === 'QUEUED' && (await this.startIfThereIsRoom())) return;
    const why = goesOn ? 'WORKER_LOST' : 'IDLE';
    if (state === 'PAUSED' && reason === why) this.life.enter('rest');
    else await this.life.rest(why);
    if (!goesOn) return;
    this.returning = true;
    this.life.inBackground(this.returnWhenThereIsRoom().finally(() => (this.returning = false)));
  }

  // ---- commands -----------------------------------------------------------------------------------------------------

  switchPrompt(commandId: string, input: SwitchPromptInput): Promise<SwitchReceipt> {
    if (this.gone) throw new SessionGone();
    return this.switches.request(commandId, input, () => this.mustNotBeOver('accepts no more prompts'));
  }

  movePrompt(receiptId: string, input: MovePromptInput): Promise<SwitchReceipt> {
    if (this.gone) throw new SessionGone();
    return this.plans.move(receiptId, input, () => this.mustNotBeOver('has no more prompts to come'));
  }

  cancelPrompt(receiptId: string): Promise<SwitchReceipt> {
    if (this.gone) throw new SessionGone();
    return this.plans.cancel(receiptId, () => this.mustNotBeOver('has no more prompts to come'));
  }

  pause(commandId?: string, reason: StateReason = 'REQUESTED'): Promise<Session> {
    return this.life.exclusively(async () => {
      this.mustNotBeOver('cannot be paused');
      if (this.life.phase.kind === 'generating') await this.life.interrupt({ kind: 'pause', reason, commandId });
      else if (this.waits) await this.life.rest(reason, { commandId });
      return this.answer();
    });
  }

  /** Where there is no room, it stands in the line for so long at most; AT_CAPACITY when it is not to wait. */
  resume(commandId?: string, maxWaitSeconds = 0): Promise<Session> {
    return this.life.exclusively(async () => {
      this.mustNotBeOver('cannot be resumed');
      const { phase } = this.life;
      // Others see that it pauses by itself before that has come to its end.
      if (phase.kind === 'generating' && phase.ending) await phase.done;
      if (this.life.phase.kind === 'stuck') await this.life.unstick(this.life.phase);
      this.mustNotBeOver('cannot be resumed');
      if (this.life.phase.kind === 'resting' && !this.waits) await this.goOnOrWait(maxWaitSeconds, commandId);
      return this.answer();
    });
  }

  /** While the store fails it rejects with STORAGE, and the session is stopped as soon as the store can be written. */
  stop(commandId?: string): Promise<Session> {
    return this.life.exclusively(async () => {
      await this.life.interrupt({ kind: 'stop', commandId });
      // It may have ended for another reason just then, in which case it rests now, or is stuck.
      await this.endWhatRests(commandId);
      if (this.life.phase.kind === 'stuck') throw this.life.stoppedLater(this.life.phase, commandId);
      return this.answer();
    });
  }

  /** Stops a session that rests because nobody wants it any more; resolves when it is finished. */
  async abandon(): Promise<void> {
    await this.life.exclusively(async () => {
      if (this.life.phase.kind === 'resting') await this.life.end('STOPPED', 'IDLE');
    });
    if (this.life.phase.kind === 'finishing') await this.life.phase.done;
  }

  // ---- waiting for room ---------------------------------------------------------------------------------------------

  private get waits(): boolean {
    return this.life.phase.kind === 'resting' && isWaiting(this.session);
  }

  /** Who waits for room belongs to nobody, so that whichever server has some may begin it. */
  stepBack(): Promise<void> {
    return this.life.exclusively(async () => {
      if (this.waits) await this.life.release();
    });
  }

  private async stepBackSoon(): Promise<void> {
    await this.context.clock.sleep(STEP_BACK, this.life.leaving);
    await this.stepBack();
  }

  /** Without having got room: what has video may be resumed later. */
  leaveLine(reason: StateReason): Promise<void> {
    return this.life.exclusively(async () => {
      if (!this.waits) return;
      if (this.session.chunks > 0) await this.life.rest(reason);
      else await this.life.end('STOPPED', reason);
    });
  }

  private async goOnOrWait(maxWaitSeconds: number, commandId?: string): Promise<void> {
    const { line } = this.context;
    try {
      if (!this.parts.holding.holdsPlace) line.mustNotOvertake(this.session);
      await this.goOn('REQUESTED', commandId);
    } catch (error) {
      const full = error instanceof DomainError && error.code === 'AT_CAPACITY';
      if (!full || maxWaitSeconds <= 0 || this.life.phase.kind !== 'resting') throw error;
      await this.life.queueUp(line.placeFor(maxWaitSeconds), commandId);
    }
  }

  /** Leaves the session where another server can go on. */
  async shutdown(): Promise<void> {
    this.life.leave();
    if (this.life.phase.kind === 'stuck') await this.life.unstick(this.life.phase).catch(() => undefined);
    if (!this.waits) await this.pause(undefined, 'WORKER_LOST').catch(() => undefined);
    if (this.life.phase.kind === 'finishing') await this.life.phase.done;
    await this.life.release();
  }

  /** Finds out whether this server still owns the session, and lets go of it if not; without its record it cannot go on. */
  async confirm(): Promise<void> {
    try {
      await this.life.confirm();
    } catch (error) {
      if (!(error instanceof DamagedError)) throw error;
      if (!this.waits) await this.pause(undefined, 'STORAGE').catch(() => undefined);
    }
  }

  /** Another server owns the session now: stop at once and write nothing more. */
  lose(): void {
    this.life.lose();
  }

  /** Nobody has seen what is not there. */
  acknowledge(position: ViewerPosition): void {
    this.life.viewers.hear({ ...position, seconds: Math.min(position.seconds, this.session.seconds) });
    this.life.wake.notify();
  }

  // ---- how commands are carried out ---------------------------------------------------------------------------------

  /** How the session is now that a command was carried out, unless it was lost meanwhile. */
  private answer(): Session {
    if (this.gone && !isEnded(this.session.state)) throw new SessionGone();
    return this.view();
  }

  private async endWhatRests(commandId?: string): Promise<void> {
    const { phase } = this.life;
    switch (phase.kind) {
      case 'resting':
        return this.life.end('STOPPED', 'REQUESTED', { commandId });
      case 'stuck':
        this.life.noteStop(phase, commandId);
        return this.life.unstick(phase).catch(() => undefined);
      case 'generating':
      case 'finishing':
      case 'gone':
        return;
      default:
        return impossible(phase);
    }
  }

  private mustNotBeOver(consequence: string): void {
    if (this.gone) throw new SessionGone();
    if (!isOver(this.life.phase)) return;
    const what = isEnded(this.session.state) ? `is over (${this.session.state})` : 'is being ended';
    throw new DomainError('ENDED', `The session ${what}; it ${consequence}.`);
  }

  /** Takes a place and goes on. */
  private async goOn(reason?: StateReason, commandId?: string): Promise<void> {
    await requireModel(this.context, this.session);
    this.parts.holding.takePlace();
    await this.life.goOn(reason, commandId);
  }

  private async startIfThereIsRoom(): Promise<boolean> {
    try {
      await requireModel(this.context, this.session);
      this.parts.holding.takePlace();
    } catch {
      return false;
    }
    this.start();
    return true;
  }

  private async returnWhenThereIsRoom(): Promise<void> {
    for (let wait: number | undefined = 0; wait !== undefined;) {
      await this.context.clock.sleep(wait * 1_000, this.life.leaving);
      wait = await this.life.exclusively(() => this.tryToReturn());
    }
  }

  /** In how many seconds to try again, if that makes sense. */
  private async tryToReturn(): Promise<number | undefined> {
    const waits = this.session.state === 'PAUSED' && this.session.reason === 'WORKER_LOST';
    if (!waits || this.life.phase.kind !== 'resting' || this.life.leaving.aborted) return undefined;
    try {
      await this.goOn();
    } catch (error) {
      const { code, message } = describe(error);
      this.context.logger.warn({ sessionId: this.id, code, error }, 'cannot resume the session automatically');
      if (code === 'AT_CAPACITY' || code === 'RATE_LIMIT')
        return (error as DomainError).retryAfterSeconds ?? RETURN_RETRY;
      const failure = { code, message };
      if (code === 'MODEL_UNAVAILABLE') await this.life.rest('MODEL', { failure });
      if (code === 'ENCODER_UNAVAILABLE') await this.life.rest('MEDIA', { failure });
    }
    return undefined;
  }
}
