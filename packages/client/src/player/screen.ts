/** A `<video>` with a `MediaSource` behind it, as far as a player needs it; tests have another one. */
import { AppendQueue } from './append-queue.js';
import { type Range, toRanges } from './ranges.js';

export interface Screen {
  /** Where playback is, or is about to be. */
  seconds: number;
  readonly ranges: readonly Range[];
  append(bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  remove(range: Range): Promise<void>;
  /** How long the video is so far: one may go to any moment before that. */
  lasts(seconds: number): Promise<void>;
  /** Nothing follows what is buffered. */
  end(): Promise<void>;
  close(): void;
}

type SourceClass = typeof MediaSource;

/** Safari on phones has only the managed kind. */
export const sourceClass = (): SourceClass | undefined =>
  (globalThis as { ManagedMediaSource?: SourceClass }).ManagedMediaSource ??
  (globalThis as { MediaSource?: SourceClass }).MediaSource;

export class MediaSourceScreen implements Screen {
  private constructor(
    private readonly video: HTMLVideoElement,
    private readonly source: MediaSource,
    private readonly queue: AppendQueue,
    private readonly buffer: SourceBuffer,
  ) {}

  static async open(
    video: HTMLVideoElement,
    mimeType: string,
    init: Uint8Array<ArrayBuffer>,
    signal: AbortSignal,
  ): Promise<MediaSourceScreen> {
    const source = new (sourceClass() as SourceClass)();
    video.disableRemotePlayback = true; // Without that, the managed kind never opens.
    const url = URL.createObjectURL(source);
    video.src = url;
    await opened(source, signal);
    URL.revokeObjectURL(url);
    const buffer = source.addSourceBuffer(mimeType);
    const screen = new MediaSourceScreen(video, source, new AppendQueue(buffer), buffer);
    await screen.append(init);
    return screen;
  }

  get seconds(): number {
    return this.video.currentTime;
  }

  set seconds(seconds: number) {
    this.video.currentTime = seconds;
  }

  get ranges(): readonly Range[] {
    return toRanges(this.buffer.buffered);
  }

  append(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    return this.queue.append(bytes);
  }

  remove({ start, end }: Range): Promise<void> {
    return this.queue.remove(start, end);
  }

  lasts(seconds: number): Promise<void> {
    return this.queue.change(() => {
      const { duration } = this.source;
      if (!(duration >= seconds) || duration === Infinity) this.source.duration = seconds;
    });
  }

  end(): Promise<void> {
    return this.queue.change(() => {
      if (this.source.readyState === 'open') this.source.endOfStream();
    });
  }

  close(): void {
    this.queue.close(new Error('The player was closed.'));
    this.video.removeAttribute('src');
    this.video.load();
  }
}

function opened(source: MediaSource, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason as Error);
    source.addEventListener('sourceopen', () => resolve(), { once: true, signal });
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}
