/** A part of a session as a video of its own: which chunks it has, its chapters and its timeline. */

import { blockAt, blockAtOrAfter, startSecondsOf } from '../blocks.js';
import { invalid } from '../errors.js';
import type { FrameChunk } from '../events.js';
import type { Chapter } from '../ports.js';
import type { Artifact, ExportInput, Session, SessionExport, TimelineEntry } from '../session.js';
import { lineOf, type Shelf, video } from './artifacts.js';
import { checksumOf, DamagedError, sealText, Summing, unsealText } from './checksum.js';
import type { SessionKeys } from './keys.js';
import { LogReader } from './log.js';
import { asStored, fromStored } from './names.js';
import { entryOf } from './snapshot.js';

export interface ExportRange {
  fromChunk: number;
  toChunk: number;
}

/** What an export is made of. */
export interface ExportSource {
  chunks: readonly FrameChunk[];
  /** Times, frames and blocks count from the beginning of the export; the first is what was in force there. */
  timeline: readonly TimelineEntry[];
}

/** The chunks that play in a part, in whole. Throws INVALID_INPUT unless the part lies in what there is. */
export function checkRange(input: ExportInput, session: Session): ExportRange {
  const { chunks, seconds } = session;
  if (chunks === 0) throw invalid('sessionId', 'Nothing to export yet; wait for the first chunk.');
  const { fromSeconds, toSeconds, fromChunk, toChunk } = input;
  mustBeOne('fromSeconds', fromSeconds, 'fromChunk', fromChunk);
  mustBeOne('toSeconds', toSeconds, 'toChunk', toChunk);
  mustBe('fromChunk', fromChunk, (at) => at >= 0 && at < chunks, `a whole number from 0 to ${chunks - 1}`);
  mustBe('toChunk', toChunk, (at) => at > 0 && at <= chunks, `a whole number from 1 to ${chunks}`);
  mustBe('fromSeconds', fromSeconds, (at) => at >= 0 && at < seconds, `at least 0 and less than ${seconds}`);
  mustBe('toSeconds', toSeconds, (at) => at > 0 && at <= seconds + ROUNDING, `more than 0 and at most ${seconds}`);
  const from = fromChunk ?? Math.min(blockAt(session, fromSeconds ?? 0), chunks - 1);
  const to = toChunk ?? Math.min(blockAtOrAfter(session, toSeconds ?? seconds), chunks);
  const begin = fromSeconds ?? startSecondsOf(session, from);
  const end = toSeconds ?? startSecondsOf(session, to);
  if (from < to && begin < end) return { fromChunk: from, toChunk: to };
  throw invalid(toChunk === undefined ? 'toSeconds' : 'toChunk', 'The end must come after the beginning.');
}

/** Seconds that clients may have rounded. */
const ROUNDING = 1e-6;

function mustBeOne(field: keyof ExportInput, value: unknown, otherField: string, other: unknown): void {
  if (value !== undefined && other !== undefined)
    throw invalid(field, `Give either ${field} or ${otherField}, not both.`);
}

function mustBe(
  field: keyof ExportInput,
  value: number | undefined,
  fits: (value: number) => boolean,
  what: string,
): void {
  if (value === undefined) return;
  if (fits(value) && (field.endsWith('Seconds') || Number.isInteger(value))) return;
  throw invalid(field, `${field} must be ${what}, within what has been generated so far; got ${value}.`);
}

export async function readSource(
  { vault }: Pick<Shelf, 'vault'>,
  keys: SessionKeys,
  range: ExportRange,
): Promise<ExportSource> {
  const chunks: FrameChunk[] = [];
  const timeline: TimelineEntry[] = [];
  for await (const event of new LogReader(vault, keys).all()) {
    if (event.type === 'PromptApplied' && event.block < range.toChunk) timeline.push(entryOf(event));
    if (event.type !== 'FrameChunk') continue;
    if (event.chunk >= range.toChunk) break;
    if (event.chunk >= range.fromChunk) chunks.push(event);
  }
  const first = chunks[0];
  if (!first) throw new DamagedError(keys.log, 'has none of the chunks');
  return { chunks, timeline: rebased(timeline, first) };
}

function rebased(timeline: readonly TimelineEntry[], { chunk, firstFrame, startSeconds }: FrameChunk): TimelineEntry[] {
  const inForce = timeline.filter(({ block }) => block <= chunk).at(-1);
  const later = timeline.filter(({ block }) => block > chunk);
  return [...(inForce ? [inForce] : []), ...later].map((entry) => ({
    ...entry,
    block: Math.max(0, entry.block - chunk),
    frame: Math.max(0, entry.frame - firstFrame),
    seconds: Math.max(0, entry.seconds - startSeconds),
    ...(entry.wholeSeconds !== undefined && { wholeSeconds: Math.max(0, entry.wholeSeconds - startSeconds) }),
  }));
}

export function exportVideo(
  shelf: Pick<Shelf, 'vault' | 'media'>,
  source: ExportSource,
  onRead?: () => void,
): AsyncGenerator<Uint8Array> {
  const chapters: Chapter[] = source.timeline.map(({ seconds, prompt }) => ({ seconds, title: prompt }));
  return video(shelf, source.chunks, { chapters, ...(onRead && { onRead }) });
}

export function exportTimeline({ timeline }: ExportSource): Uint8Array {
  return new TextEncoder().encode(timeline.map(lineOf).join(''));
}

/** Writes both of its files; made twice they are the same bytes. Rejects with DamagedError when a chunk is lost. */
export async function storeExport(
  shelf: Pick<Shelf, 'vault' | 'media'>,
  keys: SessionKeys,
  made: SessionExport,
  /** How many of so many readings of chunks are done. */
  onRead: (read: number, of: number) => void = () => undefined,
): Promise<Artifact[]> {
  const source = await readSource(shelf, keys, made);
  const mp4 = { key: `${keys.exports}${made.range}.mp4`, contentType: 'video/mp4' };
  const timeline = { key: `${keys.exports}${made.range}.jsonl`, contentType: 'application/x-ndjson' };
  let sum = new Summing();
  const body = () => {
    let read = 0;
    return (sum = new Summing()).through(exportVideo(shelf, source, () => onRead(++read, 2 * source.chunks.length)));
  };
  await shelf.vault.putStream(mp4.key, body, { contentType: mp4.contentType });
  const text = exportTimeline(source);
  await shelf.vault.put(timeline.key, text, { contentType: timeline.contentType });
  return [
    { kind: 'MP4', ...mp4, bytes: sum.bytes, check: sum.check },
    { kind: 'TIMELINE', ...timeline, bytes: text.length, check: checksumOf(text) },
  ];
}

export function encodeExport(made: SessionExport): Uint8Array {
  return new TextEncoder().encode(sealText(JSON.stringify(asStored(made))));
}

/** Throws DamagedError. */
export function decodeExport(bytes: Uint8Array, key: string): SessionExport {
  try {
    const stored = JSON.parse(unsealText(new TextDecoder().decode(bytes), key)) as {
      createdAt: string;
    } & Omit<SessionExport, 'createdAt'>;
    const { createdAt, ...rest } = stored;
    return { ...fromStored<Omit<SessionExport, 'createdAt'>>(rest), createdAt: new Date(createdAt) };
  } catch (error) {
    throw error instanceof DamagedError ? error : new DamagedError(key, 'is not JSON', error);
  }
}
