/** When pictures are on the screen. */
import type { Outcome } from '../control.js';

/** A prompt's first frame on the screen, or what became of the prompt instead. */
export type Seen =
  | {
      readonly status: 'seen';
      /** Where the prompt's first frame is in the video. */
      readonly seconds: number;
      /** When it was presented, by `performance.now()`. */
      readonly at: number;
    }
  | Exclude<Outcome, { status: 'applied' }>;

/** Less than half a frame of the fastest video. */
const ROUNDING_SECONDS = 0.008;
/** What lies so far behind the picture on the screen was on it. */
const PAST_SECONDS = 0.1;

/** Resolves with the time when a picture from the given moment of the video, or from behind it, is on the screen. */
export function onScreen(video: HTMLVideoElement, seconds: number, signal: AbortSignal): Promise<number> {
  const left = new AbortController();
  return new Promise<number>((resolve, reject) => {
    const look = (at: number, shown: number): void => {
      if (left.signal.aborted) return;
      if (shown >= seconds - ROUNDING_SECONDS) resolve(at);
      else next();
    };
    const next = (): void => {
      // Older browsers do not tell of frames; what is about to be drawn is the nearest thing.
      if ('requestVideoFrameCallback' in video)
        video.requestVideoFrameCallback((now, { mediaTime }) => look(now, mediaTime));
      else requestAnimationFrame((now) => look(now, (video as HTMLVideoElement).currentTime));
    };
    const abort = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', abort, { once: true, signal: left.signal });
    if (signal.aborted) abort();
    else if (!video.seeking && video.readyState >= 2 && video.currentTime > seconds + PAST_SECONDS)
      resolve(performance.now());
    else next();
  }).finally(() => left.abort());
}
