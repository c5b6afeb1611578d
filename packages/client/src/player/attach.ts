/** Plays a session in a video element. */
import type { Outcome } from '../control.js';
import { ClosedError, toError } from '../errors.js';
import type { ChunkEvent } from '../events.js';
import type { Receipt, Session } from '../session.js';
import { asyncDispose } from '../time.js';
import { AppendQueue, BufferFullError, type Span } from './append-queue.js';
import { Catalog, type Chunk } from './catalog.js';
import { Pace } from './pace.js';

export interface AttachOptions {
  /** Video kept behind the picture, for going back without fetching it again. */
  behindSeconds?: number;
  /** Video fetched ahead of the picture at most. */
  aheadSeconds?: number;
  signal?: AbortSignal;
}

export type PlayerState =
  | { readonly status: 'loading' }
  | { readonly status: 'playing' }
  | { readonly status: 'paused' }
  /** There is no more video yet; it plays on in about so many seconds. */
  | { readonly status: 'buffering'; readonly seconds: number }
  | { readonly status: 'ended' }
  | { readonly status: 'failed'; readonly error: Error };

export interface PlayerStats {
  /** Behind the newest video there is. */
  readonly latencySeconds: number;
  readonly bufferedSeconds: number;
  readonly rate: number;
  /** Seconds of video made in a second, of late. */
  readonly speed: number;
  readonly stalls: number;
  readonly droppedFrames: number;
}

/** When a prompt's first picture was on the screen, in the time of `performance.now()`. */
export type Seen = Outcome & { readonly at?: number };

const TICK_MS = 200;
const JOIN_LIVE_AFTER_SECONDS = 10;
/** Farther behind than this it jumps to the edge, while it follows it. */
const JUMP_SECONDS = 6;
const EPSILON = 0.05;

type Source = typeof MediaSource;

const mediaSource = (): Source | undefined =>
  (globalThis as { ManagedMediaSource?: Source }).ManagedMediaSource ??
  (globalThis as { MediaSource?: Source }).MediaSource;

export class Player {
  private readonly closing = new AbortController();
  private readonly signal: AbortSignal;
  private readonly catalog = new Catalog();
  private readonly pace = new Pace();
  private readonly listeners = new Set<() => void>();
  private readonly behind: number;
  private readonly ahead: number;
  private source: MediaSource | undefined;
  private queue: AppendQueue | undefined;
  private shown: PlayerState = { status: 'loading' };
  private following: boolean;
  private complete = false;
  private stalled = false;
  private stalls = 0;
  private ownSeek = false;
  private wake: () => void = () => undefined;

  constructor(
    private readonly session: Session,
    private readonly video: HTMLVideoElement,
    { behindSeconds = 60, aheadSeconds = 30, signal }: AttachOptions = {},
  ) {
    this.behind = behindSeconds;
    this.ahead = aheadSeconds;
    this.following = !session.facts.ended;
    this.signal = signal ? AbortSignal.any([signal, this.closing.signal]) : this.closing.signal;
    const Source = mediaSource();
    if (Source) this.run(this.play(Source));
    else this.playNatively();
    const timer = setInterval(() => this.tick(), TICK_MS);
    this.signal.addEventListener('abort', () => {
      clearInterval(timer);
      this.release();
    });
    for (const type of ['seeking', 'play', 'pause', 'ended', 'timeupdate', 'waiting']) {
      video.addEventListener(type, () => this.on(type), { signal: this.signal });
    }
  }

  get state(): PlayerState {
    return this.shown;
  }

  get stats(): PlayerStats {
    return {
      latencySeconds: Math.max(0, this.catalog.end - this.video.currentTime),
      bufferedSeconds: this.buffered(),
      rate: this.video.playbackRate,
      speed: this.pace.speed,
      stalls: this.stalls,
      droppedFrames: this.video.getVideoPlaybackQuality().droppedVideoFrames,
    };
  }

  watch(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** To the newest video, and on with it. */
  goLive(): void {
    this.following = true;
    this.seek(Math.max(0, this.catalog.end - this.pace.lead));
    void this.video.play().catch(() => undefined); // Refused without a gesture: it stays paused, as `state` says.
  }

  /** What became of the prompt, when its first picture is on the screen. */
  async seen(receipt: Pick<Receipt, 'applied'>): Promise<Seen> {
    const outcome = await receipt.applied;
    if (outcome.status !== 'applied') return outcome;
    return { ...outcome, at: await this.shows(outcome.seconds) };
  }

  close(): void {
    this.closing.abort(new ClosedError());
  }

  async [asyncDispose](): Promise<void> {
    this.close();
  }

  private playNatively(): void {
    this.video.src = this.session.facts.playlistUrl;
    void this.video.play().catch(() => undefined);
  }

  private async play(Source: Source): Promise<void> {
    this.run(this.follow());
    while (this.catalog.empty || !this.mimeType) await this.change();
    await this.open(Source, this.mimeType);
    for (;;) await this.feed();
  }

  private mimeType: string | undefined;

  /** Takes every chunk's place as it comes; their bytes are fetched when they are wanted. */
  private async follow(): Promise<void> {
    const from = this.session.facts.seconds > JOIN_LIVE_AFTER_SECONDS && this.following ? 'LIVE' : 'START';
    for await (const event of this.session.events({ from, signal: this.signal })) {
      if (event.type === 'chunk') this.take(event);
    }
    this.complete = true;
    this.wake();
  }

  private take(event: ChunkEvent): void {
    if (event.init) {
      this.mimeType = event.init.mimeType;
      this.catalog.initUrl = event.init.url ?? undefined;
    }
    const { index, startSeconds, durationSeconds, url } = event;
    if (url !== null) this.catalog.add({ index, startSeconds, durationSeconds, url });
    this.pace.arrived(performance.now() / 1000, startSeconds + durationSeconds);
    this.wake();
  }

  private async open(Source: Source, mimeType: string): Promise<void> {
    if (!Source.isTypeSupported(mimeType)) throw new Error(`This browser cannot play ${mimeType}.`);
    const source = new Source();
    this.source = source;
    this.video.disableRemotePlayback = true; // ManagedMediaSource wants it.
    const opened = new Promise<void>((resolve) =>
      source.addEventListener('sourceopen', () => resolve(), { once: true }),
    );
    const url = URL.createObjectURL(source);
    this.video.src = url;
    await this.orClosed(opened);
    URL.revokeObjectURL(url);
    this.queue = new AppendQueue(source.addSourceBuffer(mimeType), (attempt) => this.expendable(attempt));
    const init = await this.session.load({ data: null, url: this.catalog.initUrl ?? null }, { signal: this.signal });
    await this.queue.append(init);
    const [first] = this.catalog.between(0, Infinity);
    const start = first ? first.startSeconds : this.firstKnown();
    if (start > this.video.currentTime) this.seek(start);
    void this.video.play().catch(() => undefined);
  }

  private firstKnown(): number {
    for (const chunk of this.catalog.between(0, Infinity)) if (chunk) return chunk.startSeconds;
    return 0;
  }

  /** Brings the next chunk that the picture needs, or waits until it needs one. */
  private async feed(): Promise<void> {
    this.signal.throwIfAborted();
    const chunk = this.wanted();
    if (chunk === 'unknown') return this.readPlaylist();
    if (!chunk) {
      this.finish();
      return this.change();
    }
    try {
      const bytes = await this.session.load({ data: null, url: chunk.url }, { signal: this.signal });
      await this.forget();
      await this.queue?.append(bytes);
    } catch (error) {
      this.signal.throwIfAborted();
      if (error instanceof BufferFullError) return this.pauseFeeding(1000);
      if ((error as { code?: string }).code !== 'REQUEST') throw error;
      await this.readPlaylist(); // Its URL has expired.
      await this.pauseFeeding(500);
    }
  }

  private wanted(): Chunk | 'unknown' | undefined {
    const now = this.video.currentTime;
    for (const chunk of this.catalog.between(now, now + this.ahead)) {
      if (!chunk) return 'unknown';
      if (!this.holds(chunk)) return chunk;
    }
    return undefined;
  }

  private async readPlaylist(): Promise<void> {
    const { playlistUrl } = await this.session.refresh({ signal: this.signal });
    const bytes = await this.session.load({ data: null, url: playlistUrl }, { signal: this.signal });
    this.catalog.read(new TextDecoder().decode(bytes), playlistUrl);
  }

  private holds({ startSeconds, durationSeconds }: Chunk): boolean {
    const { buffered } = this.video;
    const [start, end] = [startSeconds + EPSILON, startSeconds + durationSeconds - EPSILON];
    for (let i = 0; i < buffered.length; i++) if (buffered.start(i) <= start && buffered.end(i) >= end) return true;
    return false;
  }

  /** Seconds that can be played from here on. */
  private buffered(): number {
    const { buffered, currentTime } = this.video;
    for (let i = 0; i < buffered.length; i++) {
      if (buffered.start(i) <= currentTime + EPSILON && buffered.end(i) > currentTime)
        return buffered.end(i) - currentTime;
    }
    return 0;
  }

  private async forget(): Promise<void> {
    const end = this.video.currentTime - this.behind;
    const { buffered } = this.video;
    // In steps: removing a little before every chunk would be work without use.
    if (buffered.length > 0 && end - buffered.start(0) > 10) await this.queue?.remove({ start: 0, end });
  }

  /** First what is long past, then nearly all of it, then what is far ahead. */
  private expendable(attempt: number): Span | undefined {
    const now = this.video.currentTime;
    const keep = [30, 10, 2][attempt];
    if (keep !== undefined) return { start: 0, end: Math.max(0, now - keep) };
    return attempt === 3 ? { start: now + 10, end: Infinity } : undefined;
  }

  private finish(): void {
    const { source } = this;
    const atEnd = this.video.currentTime + this.ahead >= this.catalog.end;
    if (this.complete && atEnd && source?.readyState === 'open') source.endOfStream();
  }

  private on(type: string): void {
    if (type === 'seeking' && !this.ownSeek) this.following = !this.complete && this.lag() < this.pace.lead + 2;
    if (type === 'seeking') this.ownSeek = false;
    this.wake();
    this.tick();
  }

  private seek(seconds: number): void {
    this.ownSeek = true;
    this.video.currentTime = seconds;
  }

  private lag(): number {
    return this.catalog.end - this.video.currentTime;
  }

  /** Holds the live edge, and says what is. */
  private tick(): void {
    if (this.signal.aborted || !this.queue) return;
    this.hold();
    const { video } = this;
    if (this.stalled)
      this.show({ status: 'buffering', seconds: this.pace.waitFor(this.pace.enough - this.buffered()) });
    else if (video.ended) this.show({ status: 'ended' });
    else if (video.paused) this.show({ status: 'paused' });
    else this.show({ status: 'playing' });
  }

  /** Where it ran dry it stands until there is enough to play on for a while: no stutter of single blocks. */
  private hold(): void {
    const { video } = this;
    const there = this.buffered();
    const more = !this.complete || there < this.lag() - EPSILON;
    if (!this.stalled && !video.paused && !video.ended && more && there < 0.1) {
      this.stalled = true;
      this.stalls++;
    }
    if (this.stalled && (there >= this.pace.enough || !more)) this.stalled = false;
    if (this.following && !this.stalled && this.lag() > this.pace.lead + JUMP_SECONDS && !this.pace.slow) this.goLive();
    const rate = this.stalled ? 0 : this.following && !this.complete ? this.pace.rate(this.lag()) : 1;
    if (video.playbackRate !== rate) video.playbackRate = rate;
  }

  private show(state: PlayerState): void {
    if (JSON.stringify(state) === JSON.stringify(this.shown)) return;
    this.shown = state;
    for (const listener of [...this.listeners]) listener();
  }

  private shows(seconds: number): Promise<number> {
    const { video, signal } = this;
    return new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
      const look = (now: number, mediaTime: number): void => {
        if (mediaTime + 0.001 >= seconds) resolve(now);
        else next();
      };
      const next = (): void => {
        if (signal.aborted) return;
        if ('requestVideoFrameCallback' in video)
          video.requestVideoFrameCallback((now, frame) => look(now, frame.mediaTime));
        else setTimeout(() => look(performance.now(), (video as HTMLVideoElement).currentTime), 50);
      };
      next();
    });
  }

  private change(): Promise<void> {
    return this.orClosed(new Promise<void>((resolve) => (this.wake = resolve)));
  }

  private pauseFeeding(milliseconds: number): Promise<void> {
    return this.orClosed(new Promise<void>((resolve) => setTimeout(resolve, milliseconds)));
  }

  private orClosed<T>(promise: Promise<T>): Promise<T> {
    const { signal } = this;
    return new Promise<T>((resolve, reject) => {
      const abort = (): void => reject(signal.reason as Error);
      if (signal.aborted) return abort();
      signal.addEventListener('abort', abort, { once: true });
      promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
    });
  }

  private run(work: Promise<void>): void {
    work.catch((error: unknown) => {
      if (!this.signal.aborted) this.show({ status: 'failed', error: toError(error) });
    });
  }

  private release(): void {
    this.queue?.close();
    this.listeners.clear();
    this.video.playbackRate = 1;
    this.video.removeAttribute('src');
    this.video.load();
  }
}

/** Plays the session in the video element until it is closed. */
export const attach = (session: Session, video: HTMLVideoElement, options?: AttachOptions): Player =>
  new Player(session, video, options);
