/**
 * How long those who wait for room will wait, by what frees places: sessions whose end is known, and how long others ran before
 * their places came free. Without either nothing is said.
 */

import { z } from 'zod';

/** Places that came free, of which the newest count, and how many it takes before anything is said. */
const REMEMBERED = 20;
const ENOUGH = 3;

/** Known ends that a server tells of. */
const ENDS = 50;

/** What a server says of its places. */
export const TURNOVER = z.object({
  /** In how many seconds places come free at the latest, the first in front. */
  ends: z.array(z.number()),
  running: z.number(),
  /** How long a session runs, on average, in seconds; absent until some have come to their end. */
  meanSeconds: z.number().optional(),
});

export type Turnover = z.output<typeof TURNOVER>;

/** How long sessions ran at this server, in milliseconds. */
export class Runs {
  private readonly newest: number[] = [];

  /** A place has come free, `ran` after it was taken. */
  ended(ran: number): void {
    this.newest.push(ran);
    if (this.newest.length > REMEMBERED) this.newest.shift();
  }

  /** `running` are those that have not ended yet: without them, long ones would be left out. */
  turnover(running: readonly number[], ends: readonly number[]): Turnover {
    const all = [...this.newest, ...running].reduce((sum, ran) => sum + ran, 0);
    return {
      ends: ends
        .map((seconds) => Math.max(0, Math.round(seconds)))
        .sort((a, b) => a - b)
        .slice(0, ENDS),
      running: running.length,
      ...(this.newest.length >= ENOUGH && { meanSeconds: all / this.newest.length / 1_000 }),
    };
  }
}

/** Until the place in the line is the turn of whoever stands there; undefined where nothing can be said. */
export function waitSecondsAt(place: number, servers: readonly Turnover[]): number | undefined {
  const ends = servers.flatMap((server) => server.ends).sort((a, b) => a - b);
  const known = ends[place - 1] ?? Infinity;
  const rate = servers.reduce((sum, { running, meanSeconds }) => sum + (meanSeconds ? running / meanSeconds : 0), 0);
  const wait = Math.min(known, rate > 0 ? place / rate : Infinity);
  return Number.isFinite(wait) ? Math.round(wait) : undefined;
}
