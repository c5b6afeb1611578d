import type { Receipt } from '../session.js';
import type { Seen } from './first-frames.js';

export interface PlayerOptions {
  /** Where to begin: at the live edge unless said otherwise while a session runs in real time, else at its start; or a moment, in seconds. */
  from?: 'START' | 'LIVE' | number;
  /** Video that is fetched before it plays, at most. Default: 20. */
  aheadSeconds?: number;
  /** Video that is kept for going back without fetching it again. Default: 30. */
  behindSeconds?: number;
  /** Begin by itself. Default: true. */
  autoplay?: boolean;
  /** `REST`, unless said otherwise: it stands still while the page is hidden, and nothing is generated for it meanwhile. */
  whileHidden?: 'REST' | 'PLAY';
  signal?: AbortSignal;
}

export type PlayerState =
  /** There is no video yet. */
  | { readonly status: 'waiting' }
  | { readonly status: 'playing' }
  /** By the viewer, or the page is hidden, or the browser did not let it begin by itself. */
  | { readonly status: 'paused' }
  /** Video comes more slowly than it plays; it goes on in about so many seconds. */
  | { readonly status: 'buffering'; readonly seconds: number }
  | { readonly status: 'ended' }
  /** It cannot be played: the session is gone, or the browser cannot decode it. */
  | { readonly status: 'failed'; readonly error: Error };

export interface PlayerStats {
  /** How far the picture is behind the newest video that there is. */
  readonly latencySeconds: number;
  /** How much can be played without a gap. */
  readonly bufferedSeconds: number;
  /** How often playback ran out of video. */
  readonly stalls: number;
  /** How long it stood still for that. */
  readonly stalledSeconds: number;
  readonly droppedFrames: number;
  readonly bytes: number;
  readonly rate: number;
  /** How late chunks come at worst, lately. */
  readonly jitterSeconds: number;
  /** Seconds of video that come in a second, lately. */
  readonly speed: number;
}

export interface Player extends AsyncDisposable {
  /** The same object as long as nothing changed. */
  readonly state: PlayerState;
  readonly stats: PlayerStats;
  /** Whether it stays at the live edge. */
  readonly following: boolean;
  /** Calls the listener at every change of `state`. Ends by the function it gives. */
  watch(listener: (state: PlayerState) => void): () => void;
  /** To any moment of the session. */
  seek(seconds: number): void;
  goLive(): void;
  /** Resolves when the first frame of a prompt is on the screen, or with what became of the prompt instead. */
  seen(receipt: Pick<Receipt, 'applied'>, options?: { signal?: AbortSignal }): Promise<Seen>;
  /** Lets go of the video element. The session goes on. */
  close(): void;
}
