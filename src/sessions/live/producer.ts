/** Generates one session's blocks on its device: pacing, prompts, preemption, checkpoints, replay after a restore. */

import { blockSeconds, startSecondsOf } from '../blocks.js';
import { type Checkpoint, checkpointsBefore } from '../stored/checkpoints.js';
import { UnusableCheckpoint } from '../errors.js';
import { Playback } from './playback.js';
import { Course, type Turn } from '../conditioning.js';
import type { Conditioning, Frames, Generation, GenerationOptions, Step } from '../ports.js';
import { type Due, dueAt, expectedBlock, idsOf, interrupts, type Progress, upcoming } from './prompts.js';
import { generationOptions, modelOf } from './required-model.js';
import { Publisher, type PublisherHost, type Taken } from './publisher.js';
import type { StateReason, TimelineEntry } from '../session.js';
import { LogReader } from '../stored/log.js';
import { timelineFrom } from '../stored/prompts.js';
import type { Signal } from '../signal.js';
import type { Viewers } from './viewers.js';

/** What the owner wants the producer to do instead of going on. */
export type Control =
  | { kind: 'pause'; reason: StateReason; commandId?: string | undefined }
  | { kind: 'stop'; commandId?: string | undefined };

export type Outcome = Control | { kind: 'complete'; reason: 'DURATION_REACHED' | 'MODEL_END' };

export interface ProducerHost extends PublisherHost {
  readonly control: Control | undefined;
  /** Notified when control, prompts or viewers change. */
  readonly wake: Signal;
  /** When somebody last watched, or generation began; by the monotonic clock. */
  readonly lastWatched: number;
  readonly viewers: Viewers;
  /** Requests that are being moved or cancelled: until that is logged they take effect nowhere. */
  readonly changing: ReadonlySet<string>;
  /** Whether somebody watches who does not say how far. */
  isByClock(): boolean;
}

/** FASTEST sessions come after every REALTIME one, the least advanced first. */
const NO_DEADLINE = 1e15;

/** Whoever changes control wakes the producer; this is for the case that nobody does. */
const LOOK_MILLISECONDS = 60_000;

/** Who watches may change without a word. */
const WATCHED_MILLISECONDS = 1_000;

export class Producer {
  /** Requests whose outcome is decided, though not in the log yet. */
  private readonly settled = new Set<string>();
  private readonly playback: Playback;
  private generation: Generation | undefined;
  private publisher: Publisher | undefined;
  private taken: Taken | undefined;
  /** What is being told for the block that comes next. */
  private deciding: Due | undefined;
  /** Of the prompts that took effect in blocks that are published. */
  private course: Course | undefined;
  /** The block that the generation was told last what to draw in. */
  private toldBlock = -1;
  private begun = false;
  private decoded = false;
  private preparing = false;
  /** Blocks below this one are published already: they are generated again to get to where we were. */
  private firstNew = 0;
  private lastCheckpoint = 0;
  /** What took effect in the blocks that are generated again. */
  private replayed: TimelineEntry[] = [];
  /** Of the block before: its context pass ran after its frames were delivered, so the next chunk accounts for it. */
  private contextMilliseconds = 0;

  constructor(private readonly host: ProducerHost) {
    const { clock, policy } = host.context;
    this.playback = new Playback({
      ...{ clock, leadSeconds: policy.leadSeconds, blockSeconds: blockSeconds(host.session) },
      ...{ viewers: host.viewers, isByClock: () => host.isByClock() },
    });
  }

  get progress(): Progress {
    const block = Math.max(this.generation?.block ?? 0, this.firstNew, this.host.session.chunks);
    const current = block === this.generation?.block;
    return { block, begun: current && (this.begun || this.deciding !== undefined), decoded: current && this.decoded };
  }

  /** Generates until there is a reason not to; always returns between blocks. */
  async run(): Promise<Outcome> {
    await this.loadModel();
    if (!this.generation && this.host.control) return this.host.control;
    const generation = await this.openGeneration();
    for (;;) {
      await this.pace(generation);
      const outcome = this.host.control ?? this.reasonToRest(generation);
      if (outcome) return outcome;
      await this.takePrompts(generation);
      if (generation.ended) return { kind: 'complete', reason: 'MODEL_END' };
      void this.encodePrompts();
      if (await this.generateBlock(generation)) await this.checkpointSometimes(generation);
      await this.host.queue.room();
    }
  }

  /**
   * Encodes the prompt that takes effect next while blocks are made, to be called whenever that may be another one. One at
   * a time: those that are replaced before their turn cost nothing. What fails does so again, and is told, at its block.
   */
  async encodePrompts(): Promise<void> {
    if (this.preparing) return;
    this.preparing = true;
    let done: string | undefined;
    for (let next = this.nextPrompt(); next !== undefined && next !== done; next = this.nextPrompt()) {
      await this.generation?.encodePrompt({ prompt: next }).catch(() => undefined);
      done = next;
    }
    this.preparing = false;
  }

  /** Whether the request belongs to a block that is being made, or was. */
  isDecided(receiptId: string): boolean {
    return this.settled.has(receiptId) || [...idsOf(this.taken), ...idsOf(this.deciding)].includes(receiptId);
  }

  private get closed(): ReadonlySet<string> {
    const { changing } = this.host;
    return changing.size === 0 ? this.settled : new Set([...this.settled, ...changing]);
  }

  /** The log has the outcome of a request. */
  forget(receiptId: string): void {
    this.settled.delete(receiptId);
  }

  private nextPrompt(): string | undefined {
    const block = expectedBlock('NEXT_BLOCK', this.progress);
    return upcoming(this.host.session.receipts, block, this.taken, this.closed)?.prompt;
  }

  /** Saves where we are, so that the session can go on elsewhere. */
  async suspend(): Promise<void> {
    if (this.generation) await this.saveCheckpoint(this.generation);
  }

  /** Frees the device at once, and the encoder when it has done what it was given. */
  dispose(): void {
    this.generation?.dispose();
    this.generation = undefined;
    const publisher = this.publisher;
    this.publisher = undefined;
    publisher?.close().catch((error: unknown) => {
      this.host.context.logger.warn({ sessionId: this.host.session.id, error }, 'could not close the video encoder');
    });
  }

  /**
   * Not in a turn of the device: other sessions go on while a model is fetched and loaded. Returns early when the owner
   * wants something else; loading then goes on for whoever asks next.
   */
  private async loadModel(): Promise<void> {
    if (this.generation) return;
    const { engine, clock } = this.host.context;
    const { prompt, chunks } = this.host.session;
    const ready = new AbortController();
    const loading = engine
      .preload(this.model, generationOptions(this.host.session), chunks > 0 ? prompt : undefined)
      .finally(() => ready.abort());
    loading.catch(() => undefined);
    while (!ready.signal.aborted && !this.host.control) {
      await this.host.wake.wait(clock, LOOK_MILLISECONDS, ready.signal);
    }
    if (ready.signal.aborted) await loading;
  }

  /** What the session's model is called here. Throws MODEL_UNAVAILABLE. */
  private get model(): string {
    return modelOf(this.host.context.engine, this.host.session).name;
  }

  private async openGeneration(): Promise<Generation> {
    this.publisher ??= await Publisher.open(this.host);
    if (this.generation) return this.generation;
    this.firstNew = this.host.session.chunks;
    this.generation = await this.begin();
    return this.generation;
  }

  /** From the newest checkpoint that the engine takes; from the start when there is none. */
  private async begin(): Promise<Generation> {
    const { context, keys, session } = this.host;
    const options = generationOptions(session);
    for await (const checkpoint of this.firstNew > 0 ? checkpointsBefore(context, keys, this.firstNew) : []) {
      const restored = await this.restore(checkpoint, options);
      if (restored) return restored;
    }
    this.lastCheckpoint = 0;
    this.goBackTo(0, await this.timelineFrom(0));
    return this.turn(() => context.engine.open(this.model, options));
  }

  /** `undefined` when it is the checkpoint that is at fault. */
  private async restore({ blocks, bytes }: Checkpoint, options: GenerationOptions): Promise<Generation | undefined> {
    const { context, session } = this.host;
    try {
      const conditioning = this.goBackTo(blocks, await this.timelineFrom(blocks));
      const restored = await this.turn(() => context.engine.restore(this.model, options, bytes, conditioning));
      this.lastCheckpoint = blocks;
      return restored;
    } catch (error) {
      if (!(error instanceof UnusableCheckpoint)) throw error;
      context.logger.error({ sessionId: session.id, blocks, error }, 'checkpoint unusable; using the one before it');
      return undefined;
    }
  }

  private timelineFrom(block: number): Promise<TimelineEntry[]> {
    const { context, keys, session } = this.host;
    return timelineFrom(new LogReader(context.vault, keys), session, block);
  }

  /** What was drawn before a block, from which all is drawn again. */
  private goBackTo(block: number, entries: TimelineEntry[]): Conditioning {
    this.replayed = entries.filter((entry) => entry.block >= block);
    this.course = Course.of(entries.filter((entry) => entry.block < block));
    this.toldBlock = block - 1;
    return this.course?.at(block - 1) ?? { prompt: this.host.session.prompt };
  }

  private get paced(): boolean {
    const replaying = (this.generation?.block ?? 0) < this.firstNew;
    return this.host.session.pace === 'REALTIME' && !replaying;
  }

  private async pace(generation: Generation): Promise<void> {
    while (this.paced && !this.host.control && !this.reasonToRest(generation)) {
      const wait = this.playback.waitMilliseconds();
      if (wait <= 0) return;
      await this.host.wake.wait(this.host.context.clock, Math.min(wait, WATCHED_MILLISECONDS));
    }
  }

  private reasonToRest(generation: Generation): Outcome | undefined {
    const { maxSeconds } = this.host.session;
    if (maxSeconds !== undefined && startSecondsOf(this.host.session, generation.block) >= maxSeconds - 1e-6) {
      return { kind: 'complete', reason: 'DURATION_REACHED' };
    }
    return this.isIdle() ? { kind: 'pause', reason: 'IDLE' } : undefined;
  }

  private isIdle(): boolean {
    const { clock, policy } = this.host.context;
    const { pace, maxSeconds } = this.host.session;
    const goesToItsEnd = pace === 'FASTEST' && maxSeconds !== undefined;
    if (policy.idleSeconds <= 0 || goesToItsEnd) return false;
    return clock.monotonic() - this.host.lastWatched > policy.idleSeconds * 1_000;
  }

  private async takePrompts(generation: Generation): Promise<void> {
    if (generation.block < this.firstNew) return this.replayPrompts(generation);
    const due = dueAt(this.host.session.receipts, generation.block, this.closed);
    if (!due) return this.moveOn(generation);
    if (due.winner.id === this.taken?.winner.id) {
      this.taken = { ...this.taken, ...due };
      return;
    }
    this.deciding = due;
    try {
      const course = this.turnTo({ ...due.winner, block: generation.block });
      const { milliseconds } = await this.tell(generation, course);
      this.taken = { ...due, course, recacheMilliseconds: milliseconds };
    } finally {
      this.deciding = undefined;
    }
  }

  private async replayPrompts(generation: Generation): Promise<void> {
    const entry = this.replayed.find(({ block }) => block === generation.block);
    if (!entry) return this.moveOn(generation);
    this.course = this.turnTo(entry);
    await this.tell(generation, this.course);
  }

  private turnTo(turn: Turn): Course {
    return this.course?.then(turn) ?? Course.begin(turn);
  }

  /** A transition's next step, once: a block that was given up begins again as it did. */
  private async moveOn(generation: Generation): Promise<void> {
    const { course } = this;
    if (course?.movesAt(generation.block) && this.toldBlock < generation.block) await this.tell(generation, course);
  }

  /** Waits for the texts' encoding before the turn of the device, so that other sessions go on. */
  private async tell(generation: Generation, course: Course): Promise<{ milliseconds: number }> {
    const { block } = generation;
    const conditioning = course.at(block);
    await generation.encodePrompt(conditioning);
    const told = await this.turn(() => generation.setPrompt(conditioning, course.mode));
    this.toldBlock = block;
    return told;
  }

  /** False when the block was given up between two denoise steps. */
  private async generateBlock(generation: Generation): Promise<boolean> {
    let milliseconds = 0;
    this.begun = true;
    try {
      for (;;) {
        const step = await this.turn(() => generation.step());
        milliseconds += step.milliseconds;
        if (step.kind === 'frames') this.deliver(step.frames, this.contextMilliseconds + milliseconds);
        if (step.kind === 'context') return this.completeBlock(milliseconds, step.milliseconds);
        if (this.mustGiveUp(step)) {
          await generation.abandonBlock();
          return false;
        }
      }
    } finally {
      this.begun = this.decoded = false;
    }
  }

  private mustGiveUp(step: Step): boolean {
    if (step.kind !== 'denoise') return false;
    if (this.host.control) return true;
    if (step.block < this.firstNew) return false;
    return interrupts(this.host.session.receipts, this.taken, this.closed);
  }

  private deliver(frames: Frames, milliseconds: number): void {
    if (frames.block < this.firstNew) return;
    this.decoded = true;
    const { fps } = this.host.session;
    this.playback.delivered(frames.firstFrame / fps, (frames.firstFrame + frames.count) / fps);
    this.publisher?.publish(frames, milliseconds, this.taken);
    for (const id of idsOf(this.taken)) this.settled.add(id);
    this.course = this.taken?.course ?? this.course;
    this.taken = undefined;
  }

  private completeBlock(milliseconds: number, contextMilliseconds: number): boolean {
    this.contextMilliseconds = contextMilliseconds;
    this.host.context.capacity.observe(this.host.session, milliseconds);
    return true;
  }

  private async checkpointSometimes(generation: Generation): Promise<void> {
    const { checkpointBlocks } = this.host.context.policy;
    if (generation.block % checkpointBlocks === 0) await this.saveCheckpoint(generation);
  }

  private async saveCheckpoint(generation: Generation): Promise<void> {
    if (generation.block <= this.lastCheckpoint) return;
    this.lastCheckpoint = generation.block;
    this.publisher?.checkpoint(generation.block, await generation.checkpoint());
  }

  private turn<T>(work: () => Promise<T>): Promise<T> {
    return this.host.context.capacity.executor(this.host.session).turn(this.deadline(), work);
  }

  private deadline(): number {
    if (this.host.session.pace === 'FASTEST') return NO_DEADLINE + (this.generation?.block ?? 0);
    return this.playback.deadline();
  }
}
