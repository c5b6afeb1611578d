/** Pictures of a session at moments of it, made by decoding the chunk that has them: one after the other, and kept. */
import type { Session, StoredChunk } from '@longlive/client';

const WIDTH = 192;
const PATIENCE_MS = 8000;

let last: Promise<unknown> = Promise.resolve();

/** One decoder at a time is enough, and leaves the others to what plays. */
function inTurn<Value>(work: () => Promise<Value>): Promise<Value> {
  const turn = last.then(work, work);
  last = turn.catch(() => undefined);
  return turn;
}

export class Stills {
  private readonly made = new Map<number, Promise<string | undefined>>();
  private chunks: readonly StoredChunk[] = [];
  private init: Promise<Uint8Array<ArrayBuffer>> | undefined;

  constructor(
    private readonly session: Session,
    private readonly signal: AbortSignal,
  ) {}

  /** The address of a picture from the chunk that plays then; undefined where there is none. */
  at(seconds: number): Promise<string | undefined> {
    const key = keyOf(seconds);
    const known = this.made.get(key);
    if (known) return known;
    const picture = inTurn(() => this.make(seconds)).catch(() => {
      this.made.delete(key); // Another time, perhaps.
      return undefined;
    });
    this.made.set(key, picture);
    return picture;
  }

  /** Whether there is nothing more to be had for it; false where the network failed, or nobody asked. */
  isDone(seconds: number): boolean {
    return this.made.has(keyOf(seconds));
  }

  private async make(seconds: number): Promise<string | undefined> {
    const { signal } = this;
    signal.throwIfAborted();
    const chunk = await this.find(seconds);
    const { initUrl } = this.session.facts;
    if (!chunk || !initUrl) return undefined;
    this.init ??= this.loadInit(new URL(initUrl, location.href).href);
    const [init, bytes] = await Promise.all([this.init, this.session.load({ data: null, url: chunk.url }, { signal })]);
    return draw(new Blob([init, bytes], { type: 'video/mp4' }), signal);
  }

  private loadInit(url: string): Promise<Uint8Array<ArrayBuffer>> {
    const init = this.session.load({ data: null, url }, { signal: this.signal });
    init.catch(() => (this.init = undefined)); // What failed is not kept.
    return init;
  }

  private async find(seconds: number): Promise<StoredChunk | undefined> {
    const has = (chunk: StoredChunk) => chunk.startSeconds + chunk.durationSeconds > seconds + 0.01;
    if (!this.chunks.some(has)) this.chunks = await this.session.chunks({ signal: this.signal });
    return this.chunks.find(has) ?? this.chunks.at(-1);
  }
}

const keyOf = (seconds: number): number => Math.round(seconds * 4);

/** The first picture of a file that the page has. */
async function draw(file: Blob, signal: AbortSignal): Promise<string | undefined> {
  const url = URL.createObjectURL(file);
  const video = document.createElement('video');
  video.muted = true;
  video.preload = 'auto';
  try {
    await loaded(video, url, AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_MS)]));
    const canvas = document.createElement('canvas');
    canvas.width = WIDTH;
    canvas.height = Math.max(1, Math.round((WIDTH * video.videoHeight) / Math.max(1, video.videoWidth)));
    canvas.getContext('2d')?.drawImage(video, 0, 0, canvas.width, canvas.height);
    return canvas.toDataURL('image/webp', 0.75);
  } finally {
    video.removeAttribute('src');
    video.load();
    URL.revokeObjectURL(url);
  }
}

function loaded(video: HTMLVideoElement, url: string, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    video.addEventListener('loadeddata', () => resolve(), { once: true, signal });
    video.addEventListener('error', () => reject(new Error('No picture can be made of this.')), { once: true, signal });
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    video.src = url;
  });
}
