/** What a session is doing, as its watcher may say it. */
import type { SessionState as Told, StateReason } from './generated/operations.js';

export interface Failure {
  readonly code: string;
  readonly message: string;
}

export type State =
  /** Asked for, and nothing was heard yet. */
  | { readonly status: 'connecting' }
  /** It waits for a device: at which place in the line (1 is next), and for about how long, as far as that is known. */
  | { readonly status: 'queued'; readonly place: number | null; readonly waitSeconds: number | null }
  /** Its model is being loaded. */
  | { readonly status: 'starting' }
  | { readonly status: 'live' }
  | { readonly status: 'paused'; readonly reason: StateReason | null; readonly failure: Failure | null }
  /** The connection broke; it is being made anew. */
  | { readonly status: 'reconnecting' }
  | {
      readonly status: 'ended';
      readonly as: 'COMPLETED' | 'STOPPED' | 'FAILED';
      readonly reason: StateReason | null;
      readonly failure: Failure | null;
    }
  /** It cannot be watched any more: deleted, or the token is refused. */
  | { readonly status: 'lost'; readonly error: Error };

export interface ToldState {
  readonly state: Told;
  readonly reason: StateReason | null;
  readonly failure: Failure | null;
  /** What happens does not say where in the line a session stands; heartbeats and answers do. */
  readonly queue?: { readonly place: number; readonly waitSeconds: number | null } | null;
}

export function toState({ state, reason, failure, queue }: ToldState): State {
  switch (state) {
    case 'QUEUED':
      return { status: 'queued', place: queue?.place ?? null, waitSeconds: queue?.waitSeconds ?? null };
    case 'STARTING':
      return { status: 'starting' };
    case 'LIVE':
      return { status: 'live' };
    case 'PAUSED':
      return { status: 'paused', reason, failure };
    default:
      return { status: 'ended', as: state, reason, failure };
  }
}
