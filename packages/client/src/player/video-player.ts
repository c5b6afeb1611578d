import { ClosedError, toError } from '../errors.js';
import type { Receipt } from '../session.js';
import { asyncDispose } from '../time.js';
import { onScreen, type Seen } from './first-frames.js';
import type { Player, PlayerState, PlayerStats } from './player.js';

/** What every player does, whatever brings it the video. */
export abstract class VideoPlayer implements Player {
  abstract readonly stats: PlayerStats;
  abstract readonly following: boolean;
  protected readonly signal: AbortSignal;
  protected failure: Error | undefined;
  private readonly closing = new AbortController();
  private readonly listeners = new Set<(state: PlayerState) => void>();
  private shown: PlayerState = { status: 'waiting' };

  protected constructor(
    protected readonly video: HTMLVideoElement,
    { signal }: { signal?: AbortSignal },
  ) {
    this.signal = AbortSignal.any([this.closing.signal, ...(signal ? [signal] : [])]);
    this.signal.addEventListener('abort', () => this.leave(), { once: true });
  }

  get state(): PlayerState {
    return this.shown;
  }

  watch(listener: (state: PlayerState) => void): () => void {
    const entry = (state: PlayerState): void => listener(state);
    this.listeners.add(entry);
    return () => void this.listeners.delete(entry);
  }

  abstract seek(seconds: number): void;
  abstract goLive(): void;

  seen(receipt: Pick<Receipt, 'applied'>, { signal }: { signal?: AbortSignal } = {}): Promise<Seen> {
    const seen = this.see(receipt, signal ? AbortSignal.any([this.signal, signal]) : this.signal);
    seen.catch(() => undefined); // Who looks at it is told.
    return seen;
  }

  close(): void {
    this.closing.abort(new ClosedError());
  }

  async [asyncDispose](): Promise<void> {
    this.close();
  }

  /** Calls when the element says that something happened, until the player is closed. */
  protected on(types: readonly string[], listener: () => void): void {
    for (const type of types) this.video.addEventListener(type, listener, { signal: this.signal });
  }

  protected play(): void {
    this.video.play().catch(() => undefined); // Refused, or another load came between: it stays paused, which shows.
  }

  protected fail(reason: unknown): void {
    if (this.signal.aborted) return;
    this.failure ??= toError(reason);
    this.tell();
  }

  protected tell(): void {
    const now: PlayerState = this.failure ? { status: 'failed', error: this.failure } : this.now();
    if (same(now, this.shown)) return;
    this.shown = now;
    for (const listener of [...this.listeners]) listener(now);
  }

  protected abstract now(): PlayerState;
  /** Gives the element back. */
  protected abstract leave(): void;

  private async see(receipt: Pick<Receipt, 'applied'>, signal: AbortSignal): Promise<Seen> {
    const outcome = await receipt.applied;
    if (outcome.status !== 'applied') return outcome;
    return { status: 'seen', seconds: outcome.seconds, at: await onScreen(this.video, outcome.seconds, signal) };
  }
}

function same(one: PlayerState, other: PlayerState): boolean {
  if (one.status === 'buffering' && other.status === 'buffering') return one.seconds === other.seconds;
  return one.status === other.status;
}

export const droppedFrames = (video: HTMLVideoElement): number =>
  (video.getVideoPlaybackQuality as unknown) ? video.getVideoPlaybackQuality().droppedVideoFrames : 0;
