/** What a model is told at each block: the prompts that took effect, and what lies between them in transitions. */

import type { Blend, Conditioning, RecacheMode } from './ports.js';
import type { Transition } from './session.js';

/** A prompt that takes effect at a block. */
export interface Turn {
  prompt: string;
  mode: RecacheMode;
  transition?: Transition;
  block: number;
}

/**
 * Of transitions that interrupted each other. What is behind so many has all but faded; were it kept, each interruption
 * would cost more than the one before.
 */
const MOST_BLENDS = 8;

/** A pure function of the turns, so that whoever has the log draws the same again. Never changes. */
export class Course {
  private constructor(
    /** What was drawn before. */
    private readonly from: Conditioning,
    private readonly turn: Turn,
  ) {}

  /** The first comes at once: there is nothing that it could come from. */
  static begin({ transition: _, ...turn }: Turn): Course {
    return new Course({ prompt: turn.prompt }, turn);
  }

  /** Of turns in their order; undefined without any. */
  static of(turns: readonly Turn[]): Course | undefined {
    const [first, ...rest] = turns;
    return first && rest.reduce((course, turn) => course.then(turn), Course.begin(first));
  }

  /** A transition that this turn interrupts goes on from what it had become. */
  then(turn: Turn): Course {
    return new Course(this.at(turn.block - 1), turn);
  }

  get mode(): RecacheMode {
    return this.turn.mode;
  }

  /** How the newest turn really comes. */
  get transition(): Transition | undefined {
    return this.turn.transition;
  }

  at(block: number): Conditioning {
    const { prompt, transition } = this.turn;
    if (!transition) return { prompt };
    const share = shareOf(transition, block - this.turn.block);
    if (share >= 1) return { prompt };
    return share > 0 ? blended(this.from, { prompt, kind: transition.kind, share }) : this.from;
  }

  /** Whether the block is drawn under something else than the one before, though no turn begins there. */
  movesAt(block: number): boolean {
    const steps = this.turn.transition?.chunks ?? 1;
    return block > this.turn.block && block < this.turn.block + steps;
  }
}

/** Whether the block is drawn under the turn's prompt alone. */
export function isWhole({ transition, block: begin }: Turn, block: number): boolean {
  return !transition || shareOf(transition, block - begin) >= 1;
}

/** Of chunk i = 0, 1, ... of a transition: https://github.com/daydreamlive/scope has i / (n - 1). */
function shareOf({ chunks, curve }: Transition, index: number): number {
  const share = curve === 'SCOPE' ? index / (chunks - 1) : (index + 1) / chunks;
  return Math.min(1, Math.max(0, share));
}

function blended({ prompt, blends = [] }: Conditioning, blend: Blend): Conditioning {
  const [first, ...rest] = blends;
  if (first && blends.length >= MOST_BLENDS) return { prompt: first.prompt, blends: [...rest, blend] };
  return { prompt, blends: [...blends, blend] };
}
