/**
 * Plays a session's chunks through Media Source Extensions. Knows no framework and no GraphQL. `append` waits until there
 * is room, so whoever feeds the player is slowed down to playback: memory stays bounded however fast chunks come.
 */

export interface PlayerOptions {
  /** Video kept for rewinding. */
  behindSeconds: number;
  /** Video buffered at most. */
  aheadSeconds: number;
}

/** Safari on phones has only the managed kind. */
declare global {
  interface Window {
    ManagedMediaSource?: typeof MediaSource;
  }
}

const DEFAULTS: PlayerOptions = { behindSeconds: 180, aheadSeconds: 30 };

/** How far from the end of the buffer the live edge is, so that a late chunk does not stall playback at once. */
const LIVE_MARGIN = 0.6;

export class LivePlayer {
  private source: MediaSource | undefined;
  private buffer: SourceBuffer | undefined;
  private joined = false;
  private closed = false;
  private readonly options: PlayerOptions;

  constructor(
    private readonly video: HTMLVideoElement,
    options: Partial<PlayerOptions> = {},
  ) {
    this.options = { ...DEFAULTS, ...options };
  }

  get opened(): boolean {
    return this.buffer !== undefined;
  }

  /** Seconds of video between the picture on screen and the end of the buffer. */
  get ahead(): number {
    return Math.max(0, this.bufferedEnd - this.video.currentTime);
  }

  get bufferedStart(): number {
    const { buffered } = this.video;
    return buffered.length > 0 ? buffered.start(0) : 0;
  }

  get bufferedEnd(): number {
    const { buffered } = this.video;
    return buffered.length > 0 ? buffered.end(buffered.length - 1) : 0;
  }

  async open(mimeType: string, init: Uint8Array<ArrayBuffer>): Promise<void> {
    const Source = window.ManagedMediaSource ?? window.MediaSource;
    if (!Source?.isTypeSupported(mimeType)) throw new Error(`This browser cannot play ${mimeType}.`);
    const source = new Source();
    this.source = source;
    this.video.disableRemotePlayback = true;
    this.video.src = URL.createObjectURL(source);
    await once(source, 'sourceopen');
    URL.revokeObjectURL(this.video.src);
    const buffer = source.addSourceBuffer(mimeType);
    await this.update(buffer, () => buffer.appendBuffer(init));
    this.buffer = buffer;
  }

  /** Resolves when the chunk is in the buffer and the next one may come. */
  async append(chunk: Uint8Array<ArrayBuffer>, startSeconds: number): Promise<void> {
    await this.room();
    const { buffer } = this;
    if (!buffer || this.closed) return;
    await this.evict(buffer, this.options.behindSeconds);
    try {
      await this.update(buffer, () => buffer.appendBuffer(chunk));
    } catch (error) {
      if (!(error instanceof DOMException && error.name === 'QuotaExceededError')) throw error;
      await this.evict(buffer, 5);
      await this.update(buffer, () => buffer.appendBuffer(chunk));
    }
    if (!this.joined) this.join(startSeconds);
  }

  /** No more chunks will come. */
  end(): void {
    if (this.source?.readyState === 'open' && !this.buffer?.updating) this.source.endOfStream();
  }

  goLive(): void {
    this.seek(this.bufferedEnd - LIVE_MARGIN);
    this.play();
  }

  /** To the nearest moment that is buffered. */
  seek(seconds: number): void {
    this.video.currentTime = Math.min(Math.max(seconds, this.bufferedStart), Math.max(0, this.bufferedEnd - 0.05));
  }

  play(): void {
    void this.video.play().catch(() => undefined); // Refused or interrupted: the play button stays.
  }

  close(): void {
    this.closed = true;
    this.video.removeAttribute('src');
    this.video.load();
  }

  private join(startSeconds: number): void {
    this.joined = true;
    if (this.video.currentTime < startSeconds) this.video.currentTime = startSeconds;
    this.play();
  }

  private async room(): Promise<void> {
    while (!this.closed && this.ahead > this.options.aheadSeconds) await eventOrTime(this.video, 'timeupdate', 500);
  }

  private async evict(buffer: SourceBuffer, keepSeconds: number): Promise<void> {
    const until = this.video.currentTime - keepSeconds;
    // In steps: removing a little before every chunk would be work without use.
    if (until > this.bufferedStart + 10) await this.update(buffer, () => buffer.remove(0, until));
  }

  private async update(buffer: SourceBuffer, change: () => void): Promise<void> {
    const done = once(buffer, 'updateend');
    change();
    await done;
  }
}

/** The next event of the type; what waited for another one or for the time is taken away again. */
function once(target: EventTarget, type: string): Promise<void> {
  const done = new AbortController();
  const options = { once: true, signal: done.signal };
  return new Promise<void>((resolve, reject) => {
    target.addEventListener(type, () => resolve(), options);
    target.addEventListener('error', () => reject(new Error('The browser could not decode the video.')), options);
  }).finally(() => done.abort());
}

function eventOrTime(target: EventTarget, type: string, milliseconds: number): Promise<void> {
  const done = new AbortController();
  return new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    done.signal.addEventListener('abort', () => clearTimeout(timer));
    target.addEventListener(type, () => resolve(), { once: true, signal: done.signal });
  }).finally(() => done.abort());
}
