/** Where an owned session stands. It is always in exactly one phase; what a phase needs is in it and nowhere else. */

import type { Failure } from './failure.js';
import type { Control } from './producer.js';
import type { StateReason } from '../session.js';

/** What a session says of itself while the store does not let it log that. */
export interface Trouble {
  state: 'PAUSED';
  reason: StateReason;
  failure: Failure;
}

/** Nothing is generated. `over` ends the wait after which the session gives back what it holds, then leaves. */
export interface Resting {
  kind: 'resting';
  over: AbortController;
}

export interface Generating {
  kind: 'generating';
  /** Settled when nothing is generated any more; never rejects. */
  done: Promise<void>;
  /** What the owner wants instead of going on. */
  control: Control | undefined;
  /** It has come to an end, which is being written. */
  ending: boolean;
}

/** The store refuses what is queued; it is tried again until it is written, or somebody else owns the session. */
export interface Stuck {
  kind: 'stuck';
  trouble: Trouble;
  next: 'rest' | 'finish';
  /** The attempt that is under way. */
  attempt: Promise<void> | undefined;
}

/** Ended; the artifacts are being assembled. */
export interface Finishing {
  kind: 'finishing';
  done: Promise<void>;
  /** Why the last attempt failed; another follows. */
  delay: Failure | undefined;
}

/** Not owned here any more. */
export interface Gone {
  kind: 'gone';
}

export type Phase = Resting | Generating | Stuck | Finishing | Gone;

/** For the `default` of a switch over all phases: what is forgotten there does not compile. */
export function impossible(phase: never): never {
  throw new Error(`There is no phase ${JSON.stringify(phase)}.`);
}

/** Ended, or about to be whatever happens. */
export function isOver(phase: Phase): boolean {
  switch (phase.kind) {
    case 'resting':
    case 'generating':
      return false;
    case 'stuck':
      return phase.next === 'finish';
    case 'finishing':
    case 'gone':
      return true;
    default:
      return impossible(phase);
  }
}
