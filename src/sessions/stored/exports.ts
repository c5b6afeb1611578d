/** A part of a session as a video of its own: which chunks it has, its chapters and its timeline. */

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

/** Throws INVALID_INPUT. */
export function checkRange(input: ExportInput, { chunks, seconds, framesPerBlock, fps }: Session): ExportRange {
  if (chunks === 0) throw invalid('sessionId', 'Nothing to export yet; wait for the first chunk.');
  const frames = 4 * framesPerBlock;
  const chunkAt = (time: number) => Math.floor((time * fps + 3 + 1e-6) / frames);
  const chunkBefore = (time: number) => Math.ceil((time * fps + 3 - 1e-6) / frames);
  const from = place(input, 'from', { chunks, seconds, of: chunkAt }) ?? 0;
  const to = place(input, 'to', { chunks, seconds, of: chunkBefore }) ?? chunks;
  const fromChunk = Math.min(from, chunks - 1);
  if (to <= fromChunk) {
    throw invalid(input.toChunk === undefined ? 'toSeconds' : 'toChunk', 'The end must come after the beginning.');
  }
  return { fromChunk, toChunk: Math.min(to, chunks) };
}

function place(
  input: ExportInput,
  end: 'from' | 'to',
  { chunks, seconds, of }: { chunks: number; seconds: number; of: (time: number) => number },
): number | undefined {
  const [time, chunk] = [input[`${end}Seconds`], input[`${end}Chunk`]];
  if (time !== undefined && chunk !== undefined) {
    throw invalid(`${end}Seconds`, `Give either ${end}Seconds or ${end}Chunk, not both.`);
  }
  if (time !== undefined) {
    if (Number.isFinite(time) && time >= 0 && time <= seconds + 1e-6) return of(time);
    throw invalid(
      `${end}Seconds`,
      `${end}Seconds must be between 0 and ${seconds}, the length generated so far; got ${time}.`,
    );
  }
  if (chunk === undefined || (Number.isInteger(chunk) && chunk >= 0 && chunk <= chunks)) return chunk;
  throw invalid(`${end}Chunk`, `${end}Chunk must be a whole number between 0 and ${chunks}; got ${chunk}.`);
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
