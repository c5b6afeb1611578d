/** What to do next about a buffer, told from what is in it and where playback is. It has no memory: a seek is another time. */
import type { Chunk, ChunkIndex } from './chunk-index.js';
import { playableUntil, type Range, SLACK_SECONDS } from './ranges.js';

/** How much video is kept around the picture that is shown, in seconds. */
export interface Budget {
  readonly behindSeconds: number;
  readonly aheadSeconds: number;
}

export type Step =
  | { readonly do: 'append'; readonly chunk: Chunk }
  | { readonly do: 'remove'; readonly range: Range }
  /** The chunk that is wanted came before the first one that is known. */
  | { readonly do: 'look up' }
  /** Everything up to the end is buffered. */
  | { readonly do: 'end' }
  /** What is wanted next is not made yet. */
  | { readonly do: 'wait' }
  /** There is as much as may be. */
  | { readonly do: 'rest' };

/** Removing a little at every chunk would be work without use. */
const REMOVE_AT_LEAST_SECONDS = 5;

export function plan(seconds: number, ranges: readonly Range[], index: ChunkIndex, budget: Budget): Step {
  const until = playableUntil(ranges, seconds);
  const range = played(seconds, ranges, index, budget) ?? left(until, ranges, seconds + budget.aheadSeconds);
  if (range) return { do: 'remove', range };
  if (until - seconds >= budget.aheadSeconds) return { do: 'rest' };
  const chunk = index.at(until + SLACK_SECONDS / 2);
  if (chunk === 'unknown') return { do: 'look up' };
  if (chunk) return { do: 'append', chunk };
  return index.complete && index.newest ? { do: 'end' } : { do: 'wait' };
}

/** What was played long enough ago. Cut where a chunk begins: frames go together with those that they are decoded from. */
function played(
  seconds: number,
  [first]: readonly Range[],
  index: ChunkIndex,
  { behindSeconds }: Budget,
): Range | undefined {
  const from = seconds - behindSeconds;
  if (!first || first.start >= from) return undefined;
  const chunk = index.at(from);
  const end = typeof chunk === 'object' ? chunk.startSeconds : from;
  const enough = first.end <= end || end - first.start >= Math.min(REMOVE_AT_LEAST_SECONDS, behindSeconds);
  return enough && end > first.start ? { start: first.start, end } : undefined;
}

/** What lies ahead, out of reach: it stays behind after a seek back. */
const left = (until: number, ranges: readonly Range[], reach: number): Range | undefined =>
  ranges.find(({ start }) => start > until + SLACK_SECONDS && start > reach);
