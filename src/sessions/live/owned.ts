/**
 * A session at the one worker that owns it: carries out commands, runs the producer, writes the log and the record.
 * What it tells anybody is the fold of the log, so it can never claim what is not durable; the one exception is that a
 * store which cannot be written pauses the session visibly before that can be logged (`trouble`).
 */

import { randomUUID } from 'node:crypto';
import { storeArtifacts } from '../stored/artifacts.js';
import type { Context } from './context.js';
import { DomainError } from '../errors.js';
import type { StoredEvent } from '../events.js';
import { inherit } from './fork.js';
import { keysOf, type SessionKeys, UNFINISHED } from '../stored/keys.js';
import { SessionLog } from '../stored/log.js';
import type { Claim } from '../ports.js';
import { type Control, type Outcome, Producer, type ProducerHost } from './producer.js';
import { expectedBlock, mustHaveRoom, type Progress } from './prompts.js';
import { OrderedQueue } from './queue.js';
import { encodeRecord, readRecord, type SessionRecord } from '../stored/record.js';
import { requireModel } from './required-model.js';
import { EventRing } from '../read/ring.js';
import {
  isEnded,
  type Session,
  type SessionState,
  type StateReason,
  type SwitchPromptInput,
  type SwitchReceipt,
} from '../session.js';
import { Signal } from '../signal.js';
import { applyEvent } from '../stored/snapshot.js';
import { checkSwitch, type SwitchRequest } from '../validation.js';
import { OwnershipLost } from '../stored/vault.js';

/** Chunks that may wait for encoder and store while the device goes on. */
const PIPELINE = 2;

/** Between attempts to assemble the artifacts of an ended session while the store fails. */
const FINISH_RETRY = 30_000;

const JSON_OBJECT = { contentType: 'application/json' };

interface Trouble {
  state: SessionState;
  reason: StateReason;
  error: { code: string; message: string };
}

export interface OwnedParts {
  record: SessionRecord;
  /** Of the stored record. */
  etag: string;
  claim: Claim;
  /** Called when this worker no longer owns the session. */
  onReleased: () => void;
}

export class OwnedSession implements ProducerHost {
  readonly keys: SessionKeys;
  readonly queue = new OrderedQueue(PIPELINE);
  readonly wake = new Signal();
  readonly ring: EventRing;
  control: Control | undefined;
  /** The fold of the log. */
  session: Session;

  private openLog: SessionLog | undefined;
  private etag: string;
  private producer: Producer | undefined;
  private driving: Promise<void> | undefined;
  private finishing: Promise<void> | undefined;
  private trouble: Trouble | undefined;
  private serial: Promise<unknown> = Promise.resolve();
  private watchedAt: number;
  private ending = false;
  private released = false;
  private readonly leaving = new AbortController();
  private resting = new AbortController();
  private readonly requests = new Map<string, Promise<SwitchReceipt>>();
  /** Requests for prompts that are being logged. */
  private readonly asked = new Set<Pick<SwitchReceipt, 'status' | 'when'>>();

  constructor(
    readonly context: Context,
    private readonly parts: OwnedParts,
  ) {
    const { policy, clock } = context;
    this.keys = keysOf(parts.record.id);
    this.ring = new EventRing({ events: policy.ringEvents, bytes: policy.ringBytes });
    this.session = parts.record.snapshot;
    this.etag = parts.etag;
    this.watchedAt = clock.now();
    parts.claim.lost.addEventListener('abort', () => this.abandon(), { once: true });
  }

  // ---- what others see ----------------------------------------------------------------------------------------------

  get id(): string {
    return this.session.id;
  }

  get log(): SessionLog {
    if (!this.openLog) throw new Error('The log is not open.');
    return this.openLog;
  }

  get lastWatched(): number {
    return this.context.viewers(this.id) > 0 ? this.context.clock.now() : this.watchedAt;
  }

  view(): Session {
    return { ...this.session, ...this.trouble, viewers: this.context.viewers(this.id) };
  }

  touch(): void {
    this.watchedAt = this.context.clock.now();
  }

  // ---- coming to life -----------------------------------------------------------------------------------------------

  /** Reads what the log has beyond the record, and completes what a crash in the middle of creation left out. */
  async open(): Promise<void> {
    const { vault, clock } = this.context;
    this.openLog = await SessionLog.open(vault, this.keys, clock, this.session.lastSequence, (event) =>
      this.commit(event),
    );
    if (this.session.lastSequence === 0) {
      await this.log.append({ type: 'StateChanged', state: 'QUEUED' });
    }
    await inherit(this);
    const { prompts } = this.parts.record.request;
    const { requested, inherited } = this.session.prompts;
    const missing = prompts.slice(requested - inherited);
    await Promise.all(missing.map((planned) => this.request({ ...planned, when: { block: planned.block } })));
  }

  /** Begins to generate; the caller has found a place for it. */
  start(): void {
    this.control = undefined;
    this.watchedAt = this.context.clock.now();
    this.resting.abort();
    this.driving = this.drive().finally(() => (this.driving = undefined));
  }

  /** After another worker's end: notes that generation stopped, or completes what was left to do. */
  async takeOver(): Promise<void> {
    const { state, finishedAt } = this.session;
    if (finishedAt) return this.release();
    if (isEnded(state)) {
      this.ending = true;
      this.finishing = this.finish();
    } else {
      if (state !== 'PAUSED') await this.transition('PAUSED', 'WORKER_LOST');
      this.inBackground(this.rest());
    }
  }

  // ---- commands -----------------------------------------------------------------------------------------------------

  async switchPrompt(input: SwitchPromptInput): Promise<SwitchReceipt> {
    const key = input.idempotencyKey;
    const known = key === undefined ? undefined : this.knownRequest(key);
    if (known) return sameRequest(await known, input);
    this.mustNotBeEnded('takes no more prompts');
    const request = checkSwitch(input, expectedBlock('NEXT_BLOCK', this.progress()));
    mustHaveRoom(request.when, [...this.session.receipts, ...this.asked], this.context.policy.maxPendingPrompts);
    const receipt = this.request(request);
    if (key === undefined) return receipt;
    this.requests.set(key, receipt);
    return receipt.finally(() => this.requests.delete(key));
  }

  pause(reason: StateReason = 'REQUESTED'): Promise<Session> {
    return this.exclusively(async () => {
      this.mustNotBeEnded('cannot be paused');
      await this.interrupt({ kind: 'pause', reason });
      if (!this.over && this.view().state !== 'PAUSED') await this.transition('PAUSED', reason);
      return this.view();
    });
  }

  resume(): Promise<Session> {
    return this.exclusively(async () => {
      this.mustNotBeEnded('cannot be resumed');
      if (this.driving) return this.view();
      await requireModel(this.context.engine, this.session);
      this.context.capacity.enter(this.id, () => this.session);
      await this.leaveTrouble();
      if (this.ending) return this.view();
      await this.transition('LIVE', 'REQUESTED');
      this.start();
      return this.view();
    }).catch((error: unknown) => {
      if (!this.driving) this.context.capacity.leave(this.id);
      throw error;
    });
  }

  stop(): Promise<Session> {
    return this.exclusively(async () => {
      if (this.over) return this.view();
      await this.interrupt({ kind: 'stop' });
      if (!this.ending) {
        await this.leaveTrouble();
        if (!this.ending) await this.conclude({ kind: 'stop' });
      }
      return this.view();
    });
  }

  /** Leaves the session where another worker can go on. */
  async shutdown(): Promise<void> {
    this.leaving.abort();
    if (this.queue.stalled) this.queue.retry();
    if (!this.over) await this.pause('WORKER_LOST').catch(() => undefined);
    await this.finishing;
    await this.release();
  }

  // ---- how commands are carried out ---------------------------------------------------------------------------------

  private exclusively<T>(work: () => Promise<T>): Promise<T> {
    const result = this.serial.then(work, work);
    this.serial = result.catch(() => undefined);
    return result;
  }

  private async interrupt(control: Control): Promise<void> {
    if (!this.driving) return;
    this.control = control;
    this.wake.notify();
    await this.driving;
  }

  /** Ended, or about to be with nothing in the way. */
  private get over(): boolean {
    return isEnded(this.session.state) || (this.ending && !this.trouble);
  }

  private mustNotBeEnded(consequence: string): void {
    if (this.over) throw new DomainError('ENDED', `The session is over (${this.session.state}); it ${consequence}.`);
  }

  private knownRequest(key: string): Promise<SwitchReceipt> | SwitchReceipt | undefined {
    return this.requests.get(key) ?? this.session.receipts.find(({ idempotencyKey }) => idempotencyKey === key);
  }

  private async request({ prompt, mode, when, idempotencyKey }: SwitchRequest): Promise<SwitchReceipt> {
    const requestId = randomUUID();
    const asked = { status: 'PENDING', when } as const;
    this.asked.add(asked);
    const draft = {
      ...({ type: 'PromptRequested', requestId, prompt, mode, when } as const),
      expectedBlock: expectedBlock(when, this.progress()),
      ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
    };
    await this.log.append(draft).finally(() => this.asked.delete(asked));
    return this.session.receipts.find(({ id }) => id === requestId) as SwitchReceipt;
  }

  private progress(): Progress {
    return this.producer?.progress ?? { block: this.session.chunks, begun: false, decoded: false };
  }

  // ---- life ---------------------------------------------------------------------------------------------------------

  /** Generates until something ends that; never rejects. */
  private async drive(): Promise<void> {
    try {
      if (this.session.state === 'QUEUED') this.queue.push(() => this.transition('STARTING'));
      this.producer ??= new Producer(this);
      await this.conclude(await this.producer.run());
    } catch (error) {
      await this.fail(error).catch((next: unknown) => this.fail(next));
    }
  }

  private async conclude(outcome: Outcome): Promise<void> {
    if (this.released) return this.freeGeneration();
    if (outcome.kind === 'pause') return this.settleDown(outcome.reason);
    await this.end(outcome.kind === 'stop' ? 'STOPPED' : 'COMPLETED', ENDING_REASON[outcome.kind]);
  }

  private async settleDown(reason: StateReason, error?: Trouble['error']): Promise<void> {
    await this.producer?.suspend();
    if (reason !== 'REQUESTED') this.freeGeneration();
    this.queue.push(() => this.transition('PAUSED', reason, error));
    this.context.capacity.leave(this.id);
    await this.queue.idle();
    this.inBackground(this.rest());
  }

  private async end(state: SessionState, reason: StateReason, error?: Trouble['error']): Promise<void> {
    this.ending = true;
    this.freeGeneration();
    this.context.capacity.leave(this.id);
    this.queue.push(() => this.transition(state, reason, error));
    await this.queue.idle();
    this.finishing = this.finish();
  }

  /**
   * Something broke. A store that cannot be written pauses the session, and so does a model that cannot be loaded if there
   * is something to go on with later; everything else ends it.
   */
  private async fail(error: unknown): Promise<void> {
    this.context.capacity.leave(this.id);
    if (this.released) return;
    if (error instanceof OwnershipLost) return this.abandon();
    const { code, message } = describe(error);
    this.context.logger.error({ sessionId: this.id, code, error }, 'session failed');
    if (code === 'STORAGE') {
      this.trouble = { state: 'PAUSED', reason: 'STORAGE', error: { code, message } };
      if (!this.ending) this.queue.push(() => this.transition('PAUSED', 'STORAGE', { code, message }));
      return;
    }
    const later = code === 'AT_CAPACITY' || code === 'MODEL_UNAVAILABLE';
    if (later && this.session.chunks > 0) return this.settleDown('MODEL', { code, message });
    if (this.queue.stalled) this.queue.clear();
    await this.end('FAILED', code === 'MEDIA' ? 'MEDIA' : 'ENGINE', { code, message });
  }

  /** Writes what a failing store has held up; rejects when it still fails. */
  private async leaveTrouble(): Promise<void> {
    if (this.queue.stalled) this.queue.retry();
    await this.queue.idle();
    this.trouble = undefined;
    if (this.ending) this.finishing ??= this.finish();
  }

  private async transition(state: SessionState, reason?: StateReason, error?: Trouble['error']): Promise<void> {
    const draft = {
      type: 'StateChanged',
      state,
      previous: this.session.state,
      ...(reason && { reason }),
      ...(error && { error }),
    } as const;
    await this.log.append(draft, { unless: () => this.session.state === state && this.session.reason === reason });
    await this.refreshRecord();
  }

  /** Assembles the artifacts, however often the store fails meanwhile. */
  private async finish(): Promise<void> {
    while (!this.released && !this.leaving.signal.aborted) {
      try {
        return await this.finishOnce();
      } catch (error) {
        if (error instanceof OwnershipLost) return this.abandon();
        this.context.logger.warn({ sessionId: this.id, error }, 'artifacts could not be stored; trying again');
        await this.context.clock.sleep(FINISH_RETRY, this.leaving.signal);
      }
    }
  }

  private async finishOnce(): Promise<void> {
    if (!this.session.finishedAt) {
      const artifacts = await storeArtifacts(this.context, this.keys, this.session);
      const { state, reason, error, chunks, frames, seconds } = this.session;
      const outcome = { state, ...(reason && { reason }), ...(error && { error }) };
      const draft = { type: 'SessionEnded', ...outcome, chunks, frames, seconds, artifacts } as const;
      await this.log.append(draft, { unless: () => this.session.finishedAt !== undefined });
    }
    await this.release();
  }

  // ---- rest and leaving ---------------------------------------------------------------------------------------------

  /** While paused: gives the device memory back after a while, and the session itself when nobody watches. */
  private async rest(): Promise<void> {
    const { clock, policy } = this.context;
    if (policy.idleSeconds <= 0) return;
    this.resting = new AbortController();
    const { signal } = this.resting;
    const over = AbortSignal.any([signal, this.leaving.signal]);
    while (!over.aborted && !this.released) {
      await clock.sleep(policy.idleSeconds * 1_000, over);
      await this.exclusively(async () => {
        if (over.aborted || this.driving) return;
        this.freeGeneration();
        if (this.context.viewers(this.id) === 0) await this.release();
      });
    }
  }

  private freeGeneration(): void {
    const producer = this.producer;
    this.producer = undefined;
    producer?.dispose();
  }

  private async release(): Promise<void> {
    if (this.released) return;
    this.freeGeneration();
    this.parts.record.owner = null;
    await this.refreshRecord().catch(() => undefined);
    if (this.session.finishedAt) await this.context.vault.delete(UNFINISHED + this.id).catch(() => undefined);
    await this.leave();
  }

  /** Another worker owns the session now: stop at once and write nothing more. */
  private abandon(): void {
    if (this.released) return;
    this.context.logger.warn({ sessionId: this.id }, 'another worker has taken over the session');
    this.control = { kind: 'stop' };
    this.wake.notify();
    this.queue.clear();
    this.inBackground(this.leave());
    this.inBackground(Promise.resolve(this.driving).then(() => this.freeGeneration()));
  }

  private inBackground(work: Promise<void>): void {
    work.catch((error: unknown) => {
      this.context.logger.error({ sessionId: this.id, error }, 'work in the background failed');
    });
  }

  private async leave(): Promise<void> {
    this.released = true;
    this.leaving.abort();
    this.resting.abort();
    this.context.capacity.leave(this.id);
    await this.parts.claim.release();
    this.parts.onReleased();
  }

  // ---- store --------------------------------------------------------------------------------------------------------

  private commit(event: StoredEvent): void {
    this.session = applyEvent(this.session, event);
    this.ring.push(event);
    this.wake.notify();
    if (event.type === 'PromptRequested') void this.producer?.preparePrompts();
    this.context.cluster.announce(this.id, event.sequence);
  }

  /** The log alone decides what is true; an outdated snapshot in the record merely makes loading slower. */
  private async refreshRecord(): Promise<void> {
    try {
      await this.saveRecord();
    } catch (error) {
      if (error instanceof OwnershipLost) throw error;
      this.context.logger.warn({ sessionId: this.id, error }, 'session.json could not be brought up to date');
    }
  }

  private async saveRecord(): Promise<void> {
    const { vault, cluster } = this.context;
    const body = encodeRecord({ ...this.parts.record, snapshot: this.session });
    try {
      this.etag = await vault.putOwned(this.keys.record, body, this.etag, JSON_OBJECT);
    } catch (error) {
      if (!(error instanceof OwnershipLost)) throw error;
      // An earlier write whose answer got lost has changed the etag; the owner in it tells.
      const stored = await readRecord(vault, this.keys);
      if (stored?.record.owner !== cluster.workerId) throw error;
      this.etag = await vault.putOwned(this.keys.record, body, stored.etag, JSON_OBJECT);
    }
  }
}

const ENDING_REASON = { stop: 'REQUESTED', complete: 'DURATION_REACHED' } as const;

/** The receipt, unless the input is not the one it was given for. */
function sameRequest(receipt: SwitchReceipt, input: SwitchPromptInput): SwitchReceipt {
  const { prompt, mode = 'RECACHE', when = 'NEXT_BLOCK' } = input;
  if (receipt.prompt === prompt.trim() && receipt.mode === mode && sameWhen(receipt.when, when)) return receipt;
  throw new DomainError('CONFLICT', 'This idempotency key was used for another prompt switch.');
}

function sameWhen(a: SwitchReceipt['when'], b: SwitchReceipt['when']): boolean {
  return typeof a === 'string' || typeof b === 'string' ? a === b : a.block === b.block;
}

function describe(error: unknown): { code: string; message: string } {
  if (error instanceof DomainError) return { code: error.code, message: error.message };
  return { code: 'ENGINE', message: error instanceof Error ? error.message : String(error) };
}
