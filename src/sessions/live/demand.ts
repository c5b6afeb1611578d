/** How many servers that generate are wanted: what whoever starts and ends them goes by. */

import type { Clock } from '../ports.js';
import type { Demand } from '../sessions.js';
import type { Notice } from './notice.js';

/** Who was refused asks again in less than this, in milliseconds, or has given up. */
const PATIENCE = 10_000;

/** How long a figure stands after it was the greatest, in milliseconds: a server that is wanted again takes minutes to come. */
const HOLD = 15 * 60_000;

/** More who wait are counted as so many. */
const COUNTED = 10_000;

export class DemandForWorkers {
  private readonly refused = new Map<string, number>();
  /** The greatest since then first: each one is greater than all behind it. */
  private peaks: { at: number; wanted: number }[] = [];
  private slots = 1;

  constructor(private readonly clock: Pick<Clock, 'monotonic'>) {}

  /** Nobody had room for what was asked for; asked again, it counts once. */
  refuse(what: string): void {
    this.refused.delete(what);
    this.refused.set(what, this.clock.monotonic());
    for (const oldest of this.refused.keys()) {
      if (this.refused.size <= COUNTED) break;
      this.refused.delete(oldest);
    }
  }

  serve(what: string): void {
    this.refused.delete(what);
  }

  /** What was refused here and may still be waited for. */
  waiting(): number {
    const since = this.clock.monotonic() - PATIENCE;
    for (const [what, at] of this.refused) if (at < since) this.refused.delete(what);
    return this.refused.size;
  }

  /** Of all servers together; `waiting` are those of the others. */
  now(workers: readonly Notice[], waitingElsewhere: number): Demand {
    const waiting = this.waiting() + waitingElsewhere;
    this.slots = slotsOf(workers) ?? this.slots;
    const running = workers.flatMap(({ devices }) => devices);
    const live = running.reduce((sum, device) => sum + device.realtimeSessions + device.fastestSessions, 0);
    return { waiting, live, workers: workers.length, wanted: this.held(Math.ceil((waiting + live) / this.slots)) };
  }

  private held(wanted: number): number {
    const at = this.clock.monotonic();
    this.peaks = this.peaks.filter((peak) => peak.at > at - HOLD && peak.wanted > wanted);
    this.peaks.push({ at, wanted });
    return this.peaks[0]?.wanted ?? wanted;
  }
}

/** Sessions that one worker generates at a time, as observed; nothing is known of one that has generated nothing yet. */
function slotsOf(workers: readonly Notice[]): number | undefined {
  const known = workers.flatMap(({ devices }) => devices.flatMap(({ capacity }) => capacity ?? []));
  if (known.length === 0) return undefined;
  return Math.max(1, Math.floor(known.reduce((sum, capacity) => sum + capacity, 0) / known.length));
}
