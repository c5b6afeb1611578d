/**
 * The life of an owned session: it rests, generates, is stuck while the store fails, is finished, and is gone. Here is
 * what leads from one phase to the next, and the queue, log and record that this is written to.
 */

import { DomainError } from '../errors.js';
import { isSettled, type StoredEvent } from '../events.js';
import type { EventRing } from '../read/ring.js';
import type { Session, SessionState, StateReason, Wait } from '../session.js';
import { Signal } from '../signal.js';
import { DamagedError } from '../stored/checksum.js';
import { keysOf, type SessionKeys, UNFINISHED } from '../stored/keys.js';
import type { SessionLog } from '../stored/log.js';
import { OwnershipLost } from '../stored/vault.js';
import { Chronicle, type TransitionDetails } from './chronicle.js';
import type { Context } from './context.js';
import { describe, type Failure } from './failure.js';
import { finish } from './finishing.js';
import type { OwnedParts } from './holding.js';
import type { Finishing, Generating, Phase, Resting, Stuck } from './phase.js';
import { type Control, type Outcome, Producer, type ProducerHost } from './producer.js';
import type { Progress } from './prompts.js';
import { OrderedQueue } from './queue.js';
import { Viewers } from './viewers.js';

/** Chunks that may wait for encoder and store while the device goes on. */
const PIPELINE = 2;

/** Between attempts to write what a failing store has held up, in milliseconds. */
const [FIRST_RETRY, LONGEST_RETRY] = [1_000, 30_000];

export class Life implements ProducerHost {
  readonly keys: SessionKeys;
  readonly queue = new OrderedQueue(PIPELINE);
  readonly wake = new Signal();
  readonly viewers: Viewers;
  readonly askedAt = new Map<string, number>();
  readonly changing = new Set<string>();
  phase: Phase = { kind: 'resting', over: new AbortController() };

  /** When generation began last, which counts as watching; by the monotonic clock. */
  private startedAt: number;
  private producer: Producer | undefined;
  private readonly chronicle: Chronicle;
  private serial: Promise<unknown> = Promise.resolve();
  private readonly ended = new AbortController();

  constructor(
    readonly context: Context,
    private readonly parts: OwnedParts,
  ) {
    this.keys = keysOf(parts.file.record.id);
    this.viewers = new Viewers(context.clock);
    this.chronicle = new Chronicle(context, parts.file, (event) => this.noticed(event));
    this.startedAt = context.clock.monotonic();
  }

  get log(): SessionLog {
    return this.chronicle.log;
  }

  get ring(): EventRing {
    return this.chronicle.ring;
  }

  get session(): Session {
    return this.chronicle.session;
  }

  get id(): string {
    return this.session.id;
  }

  get gone(): boolean {
    return this.phase.kind === 'gone';
  }

  /** Aborted when the session is left. */
  get leaving(): AbortSignal {
    return this.ended.signal;
  }

  get control(): Control | undefined {
    if (this.phase.kind === 'gone') return { kind: 'stop' };
    return this.phase.kind === 'generating' ? this.phase.control : undefined;
  }

  get lastWatched(): number {
    return Math.max(this.startedAt, this.context.watching.last(this.id));
  }

  isByClock(): boolean {
    return this.context.watching.isByClock(this.id, this.context.policy.leaseSeconds * 1_000);
  }

  get progress(): Progress {
    return this.producer?.progress ?? { block: this.session.chunks, begun: false, decoded: false };
  }

  /** Whether the block of the request is being made: too late for another one. */
  isDecided(receiptId: string): boolean {
    return this.producer?.isDecided(receiptId) ?? false;
  }

  /** Reads what the log has beyond the record. */
  openLog(): Promise<void> {
    return this.chronicle.open();
  }

  /** Runs what must not overlap with other such work. */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    const result = this.serial.then(work, work);
    this.serial = result.catch(() => undefined);
    return result;
  }

  /** Ends generating, for a reason. */
  async interrupt(control: Control): Promise<void> {
    const { phase } = this;
    if (phase.kind !== 'generating') return;
    phase.control = control;
    this.wake.notify();
    await phase.done;
  }

  /** Begins to generate; a place has been taken. */
  start(): void {
    if (this.phase.kind === 'resting') this.phase.over.abort();
    this.startedAt = this.context.clock.monotonic();
    const generating = { kind: 'generating' as const, control: undefined, ending: false, done: Promise.resolve() };
    this.phase = generating;
    generating.done = this.drive(generating);
  }

  /** Goes on from the last checkpoint, or from memory; a place has been taken. */
  async goOn(reason?: StateReason, commandId?: string): Promise<void> {
    await this.write('LIVE', reason, { commandId });
    if (this.phase.kind === 'resting') this.start();
  }

  /** Stands in the line from now on, which needs no memory. */
  async queueUp(wait: Wait, commandId?: string): Promise<void> {
    this.letGo();
    await this.write('QUEUED', undefined, { wait, commandId });
    await this.context.line.join(this.id, wait.since);
  }

  private async write(state: SessionState, reason: StateReason | undefined, details: TransitionDetails): Promise<void> {
    this.queue.push(() => this.chronicle.transition(state, reason, details));
    try {
      await this.queue.idle();
    } catch (error) {
      await this.fail(error);
      throw error;
    }
  }

  /** Logs a pause of a session that generates nothing; never rejects. */
  async rest(reason: StateReason, details: TransitionDetails = {}): Promise<void> {
    this.queue.push(() => this.chronicle.transition('PAUSED', reason, details));
    await this.drain('rest');
  }

  /** Ends the ownership without waiting for anything. */
  leave(): void {
    this.ended.abort();
  }

  /** Finds out whether this server still owns the session, and lets go of it if not. */
  async confirm(): Promise<void> {
    try {
      await this.parts.file.confirm();
    } catch (error) {
      if (error instanceof OwnershipLost) this.lose();
      else throw error;
    }
  }

  /** What was deleted lacks its log before it is noticed that its record is another. */
  private async isLost(error: unknown): Promise<boolean> {
    if (!(error instanceof DamagedError)) return error instanceof OwnershipLost;
    return this.parts.file.confirm().then(
      () => false,
      (reason: unknown) => reason instanceof OwnershipLost,
    );
  }

  /** It was deleted, or another server owns it now: stop at once and write nothing more. */
  lose(): void {
    const { phase } = this;
    if (phase.kind === 'gone') return;
    this.context.logger.warn({ sessionId: this.id }, 'the session was deleted, or another server has taken it over');
    this.phase = { kind: 'gone' };
    this.ended.abort();
    this.wake.notify();
    this.queue.clear();
    const farewell = async () => {
      if (phase.kind === 'generating') await phase.done;
      this.letGo();
    };
    this.inBackground(this.parts.leave(farewell).then(() => this.parts.onLost()));
  }

  // ---- life ---------------------------------------------------------------------------------------------------------

  /** Generates until something ends that; never rejects. */
  private async drive(generating: Generating): Promise<void> {
    try {
      if (this.session.state === 'QUEUED') this.queue.push(() => this.chronicle.transition('STARTING'));
      this.producer ??= new Producer(this);
      await this.conclude(await this.producer.run().finally(() => (generating.ending = true)));
    } catch (error) {
      await this.fail(error);
    }
  }

  private async conclude(outcome: Outcome): Promise<void> {
    if (this.gone) return this.letGo();
    switch (outcome.kind) {
      case 'pause':
        return this.settleDown(outcome.reason, { commandId: outcome.commandId });
      case 'stop':
        return this.end('STOPPED', 'REQUESTED', { commandId: outcome.commandId });
      case 'complete':
        return this.end('COMPLETED', outcome.reason);
    }
  }

  private async settleDown(reason: StateReason, details: TransitionDetails = {}): Promise<void> {
    await this.producer?.suspend();
    this.queue.push(() => this.chronicle.transition('PAUSED', reason, details));
    if (reason === 'REQUESTED') this.parts.holding.restPlace(() => this.disposeProducer());
    else this.letGo();
    await this.drain('rest');
  }

  /** Ends the session and has its artifacts made; never rejects. */
  async end(state: SessionState, reason: StateReason, details: TransitionDetails = {}): Promise<void> {
    this.letGo();
    this.queue.push(() => this.chronicle.transition(state, reason, details));
    await this.drain('finish');
  }

  /** Writes what is queued, then rests or finishes; never rejects. */
  private async drain(next: Stuck['next']): Promise<void> {
    try {
      await this.queue.idle();
    } catch (error) {
      return this.fail(error, next);
    }
    this.enter(next);
  }

  /**
   * Something broke. A store that cannot be written pauses the session, and so does a model that cannot be loaded if there
   * is something to go on with later; everything else ends it. Never rejects.
   */
  private async fail(error: unknown, next: Stuck['next'] = 'rest'): Promise<void> {
    this.letGo();
    if (this.gone) return;
    if (error instanceof OwnershipLost) return this.lose();
    const { code, message } = describe(error);
    this.context.logger.error({ sessionId: this.id, code, error }, 'session failed');
    if (code === 'STORAGE' || next === 'finish') return this.getStuck({ code, message }, next);
    const later = code === 'AT_CAPACITY' || code === 'MODEL_UNAVAILABLE';
    if (later && this.session.chunks > 0) return this.settleDown('MODEL', { failure: { code, message } });
    return this.breakOff({ code, message });
  }

  private async breakOff(failure: Failure): Promise<void> {
    if (this.queue.stalled) this.queue.clear();
    await this.end('FAILED', failure.code === 'MEDIA' ? 'MEDIA' : 'ENGINE', { failure });
  }

  // ---- while the store fails ----------------------------------------------------------------------------------------

  private getStuck(failure: Failure, next: Stuck['next']): void {
    if (next === 'rest') this.queue.push(() => this.chronicle.transition('PAUSED', 'STORAGE', { failure }));
    const trouble = { state: 'PAUSED', reason: 'STORAGE', failure } as const;
    const stuck: Stuck = { kind: 'stuck', trouble, next, attempt: undefined };
    this.phase = stuck;
    this.inBackground(this.tryAgain(stuck));
  }

  private async tryAgain(stuck: Stuck): Promise<void> {
    for (let wait = FIRST_RETRY; this.phase === stuck; wait = Math.min(2 * wait, LONGEST_RETRY)) {
      if (this.queue.stalled) await this.context.vault.rest(wait, this.leaving);
      if (this.leaving.aborted) return;
      if (this.phase === stuck) await this.unstick(stuck).catch(() => undefined);
    }
  }

  /** Tries to write what is held up, one attempt at a time; rejects when the store still fails. */
  unstick(stuck: Stuck): Promise<void> {
    stuck.attempt ??= this.attempt(stuck).finally(() => (stuck.attempt = undefined));
    return stuck.attempt;
  }

  private async attempt(stuck: Stuck): Promise<void> {
    if (this.queue.stalled) this.queue.retry();
    try {
      do await this.queue.idle();
      while (!this.queue.empty);
    } catch (error) {
      if (await this.isLost(error)) this.lose();
      const failure = describe(error);
      if (this.phase === stuck && failure.code !== 'STORAGE') return this.breakOff(failure);
      throw error;
    }
    if (this.phase === stuck) this.enter(stuck.next);
  }

  noteStop(stuck: Stuck, commandId?: string): void {
    if (stuck.next === 'finish') return;
    stuck.next = 'finish';
    this.queue.push(() => this.chronicle.transition('STOPPED', 'REQUESTED', { commandId }));
  }

  stoppedLater(stuck: Stuck, commandId?: string): DomainError {
    this.noteStop(stuck, commandId);
    const { message } = stuck.trouble.failure;
    return new DomainError('STORAGE', `${message} The session stops once the store responds; try again to be sure.`);
  }

  // ---- rest, end and leaving ----------------------------------------------------------------------------------------

  enter(next: Stuck['next']): void {
    if (this.gone) return;
    if (next === 'finish') {
      const finishing: Finishing = { kind: 'finishing', done: Promise.resolve(), delay: undefined };
      this.phase = finishing;
      finishing.done = this.complete(finishing);
    } else {
      const resting: Resting = { kind: 'resting', over: new AbortController() };
      this.phase = resting;
      this.inBackground(this.restAWhile(resting));
    }
  }

  /** Assembles the artifacts and leaves; never rejects. */
  private async complete(finishing: Finishing): Promise<void> {
    try {
      if (await finish(this, this.leaving, (failure) => (finishing.delay = failure))) await this.release();
    } catch (error) {
      if (await this.isLost(error)) this.lose();
      else this.context.logger.error({ sessionId: this.id, error }, 'could not complete the session');
    }
  }

  /** While paused: gives the device memory back after a while, and the session itself when nobody watches. */
  private async restAWhile(resting: Resting): Promise<void> {
    const { clock, policy, watching } = this.context;
    if (policy.idleSeconds <= 0) return;
    const over = AbortSignal.any([resting.over.signal, this.leaving]);
    while (!over.aborted) {
      await clock.sleep(policy.idleSeconds * 1_000, over);
      await this.exclusively(async () => {
        if (over.aborted || this.phase !== resting) return;
        this.letGo();
        if (watching.viewers(this.id) === 0) await this.release();
      });
    }
  }

  /** Gives back the place on the device and the memory that goes with it. */
  private letGo(): void {
    this.disposeProducer();
    this.parts.holding.freePlace();
  }

  private disposeProducer(): void {
    const { producer } = this;
    this.producer = undefined;
    producer?.dispose();
  }

  async release(): Promise<void> {
    if (this.gone) return;
    this.phase = { kind: 'gone' };
    this.ended.abort();
    await this.parts.leave(async () => {
      this.letGo();
      await this.chronicle.refreshRecord({ owner: null }).catch(() => undefined);
      if (this.session.finishedAt) await this.context.vault.delete(UNFINISHED + this.id).catch(() => undefined);
    });
  }

  private noticed(event: StoredEvent): void {
    this.wake.notify();
    if (event.type === 'PromptRequested' || event.type === 'PromptMoved') void this.producer?.encodePrompts();
    if (!isSettled(event)) return;
    this.askedAt.delete(event.receiptId);
    this.producer?.forget(event.receiptId);
  }

  inBackground(work: Promise<void>): void {
    const { logger } = this.context;
    work.catch((error: unknown) => logger.error({ sessionId: this.id, error }, 'background task failed'));
  }
}
