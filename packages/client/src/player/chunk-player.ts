/** Plays a session chunk by chunk, through Media Source Extensions. */
import type { ChunkEvent } from '../events.js';
import { randomKey } from '../keys.js';
import type { Session } from '../session.js';
import { backoff, wait } from '../time.js';
import { DecodeError } from './append-queue.js';
import { Arrivals } from './arrivals.js';
import { type Chunk, ChunkIndex } from './chunk-index.js';
import { Feeder } from './feeder.js';
import { Pacing, type Pace } from './pacing.js';
import type { PlayerOptions, PlayerState, PlayerStats } from './player.js';
import { playableUntil, SLACK_SECONDS } from './ranges.js';
import { type Place, Reports } from './reports.js';
import { MediaSourceScreen, sourceClass } from './screen.js';
import { droppedFrames, VideoPlayer } from './video-player.js';

const TICK_MS = 200;
/** Whoever follows is taken to the live edge at once from here on, and catches up by playing faster before. */
const FAR_SECONDS = 8;
/** A seek this near to the edge means the edge. */
const NEAR_SECONDS = 2;

const AHEAD_SECONDS = 20;
const BEHIND_SECONDS = 30;
/** A report that takes longer is of no use any more. */
const REPORT_WITHIN_MS = 5000;

export class ChunkPlayer extends VideoPlayer {
  following: boolean;
  private readonly index = new ChunkIndex();
  private readonly arrivals = new Arrivals();
  private readonly pacing = new Pacing(this.arrivals);
  private readonly viewer = randomKey();
  private readonly reports: Reports;
  private screen: MediaSourceScreen | undefined;
  private feeder: Feeder | undefined;
  private pace: Pace = { rate: 0, waitSeconds: 0 };
  private opening: Promise<void> | undefined;
  private begin: number | undefined;
  /** Where the player itself went last: what the element says of that is no wish of the viewer. */
  private went = -1;

  constructor(
    private readonly session: Session,
    video: HTMLVideoElement,
    private readonly options: PlayerOptions,
  ) {
    super(video, options);
    const { ended, pace } = session.facts;
    const from = options.from ?? (ended || pace !== 'REALTIME' ? 'START' : 'LIVE');
    this.following = from === 'LIVE';
    this.begin = from === 'LIVE' ? undefined : from === 'START' ? 0 : from;
    this.reports = new Reports((place) => this.report(place));
    this.on(['seeking'], () => this.sought());
    // Browsers let timers of a hidden page sleep; what the element says comes all the same.
    this.on(['play', 'pause', 'ended', 'playing', 'waiting', 'timeupdate'], () => this.tick());
    document.addEventListener('visibilitychange', () => this.tick(), { signal: this.signal });
    this.on(['error'], () => this.fail(new DecodeError()));
    const timer = setInterval(() => this.tick(), TICK_MS);
    this.signal.addEventListener('abort', () => clearInterval(timer), { once: true });
    this.follow().catch((error: unknown) => this.fail(error));
  }

  get stats(): PlayerStats {
    const seconds = this.video.currentTime;
    return {
      latencySeconds: Math.max(0, this.index.edgeSeconds - seconds),
      bufferedSeconds: this.ahead,
      stalls: this.pacing.stalls,
      stalledSeconds: this.pacing.stalledSeconds,
      droppedFrames: droppedFrames(this.video),
      bytes: this.feeder?.bytes ?? 0,
      rate: this.pace.rate,
      jitterSeconds: this.arrivals.jitterSeconds,
      speed: this.arrivals.speed,
    };
  }

  seek(seconds: number): void {
    const target = Math.min(Math.max(0, seconds), this.index.edgeSeconds);
    this.went = -1;
    if (this.screen) this.screen.seconds = target;
    else this.begin = seconds;
  }

  goLive(): void {
    this.following = true;
    this.begin = undefined;
    this.go(this.liveSeconds);
    this.play();
  }

  protected override now(): PlayerState {
    const { video } = this;
    if (video.ended) return { status: 'ended' };
    if (!this.index.newest) return { status: this.index.complete ? 'ended' : 'waiting' };
    if (this.rests) return { status: 'paused' };
    const { waitSeconds } = this.pace;
    return waitSeconds === undefined ? { status: 'playing' } : { status: 'buffering', seconds: Math.ceil(waitSeconds) };
  }

  protected override leave(): void {
    this.screen?.close();
    this.video.playbackRate = 1;
  }

  /** Where a viewer joins who wants to see what is newest. */
  private get liveSeconds(): number {
    return this.index.newest?.startSeconds ?? 0;
  }

  /** The viewer has it stand still, or sees nothing of it. */
  private get rests(): boolean {
    const { video, options } = this;
    const hidden = document.visibilityState === 'hidden' && document.pictureInPictureElement !== video;
    return video.paused || (hidden && options.whileHidden !== 'PLAY');
  }

  private get ahead(): number {
    if (!this.screen) return 0;
    return playableUntil(this.screen.ranges, this.screen.seconds) - this.screen.seconds;
  }

  private async follow(): Promise<void> {
    for await (const event of this.session.events({ from: 'LIVE', viewer: this.viewer, signal: this.signal })) {
      if (event.type === 'chunk') this.announced(event);
      if (event.type === 'state' && event.state !== 'LIVE') this.arrivals.forget();
      if (event.type === 'ended') this.index.complete = true;
      this.feeder?.nudge();
      this.tick();
    }
  }

  private announced(event: ChunkEvent): void {
    this.index.add(event as Chunk);
    const { init } = event;
    if (init) this.opening ??= this.open(init).catch((error: unknown) => this.fail(error));
  }

  private async open(init: NonNullable<ChunkEvent['init']>): Promise<void> {
    if (!sourceClass()?.isTypeSupported(init.mimeType)) throw new DecodeError();
    const bytes = await this.untilLoaded(init);
    const screen = await MediaSourceScreen.open(this.video, init.mimeType, bytes, this.signal);
    this.screen = screen;
    await screen.lasts(this.index.edgeSeconds);
    this.go(Math.min(this.begin ?? this.liveSeconds, this.index.edgeSeconds));
    if (this.options.autoplay !== false) this.play();
    const { aheadSeconds = AHEAD_SECONDS, behindSeconds = BEHIND_SECONDS } = this.options;
    this.feeder = new Feeder(
      {
        ...{ screen, index: this.index, arrivals: this.arrivals },
        load: (url, signal) => this.session.load({ data: null, url }, { signal }),
        lookUp: (signal) => this.session.chunks({ signal }),
        now: () => performance.now() / 1000,
        onChange: () => this.tick(),
      },
      { aheadSeconds, behindSeconds },
    );
    await this.feeder.run(this.signal);
  }

  private async untilLoaded(init: NonNullable<ChunkEvent['init']>): Promise<Uint8Array<ArrayBuffer>> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.session.load(init, { signal: this.signal });
      } catch {
        await wait(backoff(attempt), this.signal);
      }
    }
  }

  private go(seconds: number): void {
    if (!this.screen) return;
    this.went = seconds;
    this.screen.seconds = seconds;
  }

  private sought(): void {
    const { currentTime } = this.video;
    const { edgeSeconds } = this.index;
    if (Math.abs(currentTime - this.went) > 0.01) this.following = currentTime >= edgeSeconds - NEAR_SECONDS;
    this.went = -1;
    this.pacing.restart();
    this.arrivals.forget();
    this.feeder?.nudge();
    this.tick();
  }

  private tick(): void {
    if (this.signal.aborted) return;
    // Of where the player went while it was there already, the element says nothing.
    if (!this.video.seeking) this.went = -1;
    if (this.screen && !this.failure) this.keepPace(this.screen);
    this.tell();
  }

  private keepPace(screen: MediaSourceScreen): void {
    const { video, index, following, ahead } = this;
    const until = screen.seconds + ahead;
    const complete = index.complete && until >= index.edgeSeconds - SLACK_SECONDS;
    const lag = index.edgeSeconds - screen.seconds;
    const { rests } = this;
    const stays = complete || rests || video.seeking; // Where the viewer goes is known when the element says so.
    if (following && !stays && lag > FAR_SECONDS) return this.go(this.liveSeconds);
    this.pace = this.pacing.next({
      ...{ now: performance.now() / 1000, ahead, complete, following, paused: rests },
      starved: video.readyState < HTMLMediaElement.HAVE_FUTURE_DATA,
      aheadAtMost: this.feeder?.budget.aheadSeconds ?? Infinity,
    });
    const rate = rests && !video.paused ? 0 : this.pace.rate;
    if (video.playbackRate !== rate) video.playbackRate = rate;
    if (!index.complete && this.session.facts.pace === 'REALTIME') this.say(screen.seconds, rate > 0 && !rests);
  }

  private say(seconds: number, playing: boolean): void {
    const aheadSeconds = this.pacing.wantedSeconds + (this.index.newest?.durationSeconds ?? 0);
    this.reports.be({ seconds, playing, aheadSeconds }, performance.now() / 1000);
  }

  private report(place: Place): Promise<unknown> {
    const signal = AbortSignal.any([this.signal, AbortSignal.timeout(REPORT_WITHIN_MS)]);
    return this.session.acknowledge({ ...place, viewer: this.viewer, signal });
  }
}
