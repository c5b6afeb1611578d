/** A stretch of video that is buffered, in seconds. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

/** What is smaller than this between two stretches, or before the first one, is rounding: less than two frames. */
export const SLACK_SECONDS = 0.1;

export function toRanges(ranges: Pick<TimeRanges, 'length' | 'start' | 'end'>): Range[] {
  return Array.from({ length: ranges.length }, (_, place) => ({ start: ranges.start(place), end: ranges.end(place) }));
}

/** Up to where video plays on without a gap from the time; the time itself where nothing is buffered. */
export function playableUntil(ranges: readonly Range[], seconds: number): number {
  let until = seconds;
  for (const { start, end } of ranges) if (start <= until + SLACK_SECONDS && end > until) until = end;
  return until;
}
