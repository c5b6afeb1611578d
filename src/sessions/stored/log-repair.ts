/** A log that may be damaged: what can be read of it, what is wrong with it, and what of that can be mended. */

import type { StoredEvent } from '../events.js';
import { DamagedError, isSealed, unsealText } from './checksum.js';
import { REMOVED } from './findings.js';
import type { SessionKeys } from './keys.js';
import { formatSegment, parseLine, SEGMENT } from './log.js';
import type { Vault } from './vault.js';

export interface LogProblem {
  key: string;
  problem: string;
  /** What `repair` does. */
  remedy?: string;
  /** Writes what is right in its place; absent when that cannot be known. */
  repair?: () => Promise<void>;
}

export interface ReadLog {
  /** Up to the first one that cannot be read. */
  events: StoredEvent[];
  problems: LogProblem[];
  /** Something behind the last event is lost. */
  cut: boolean;
}

/** Longer lines are not tried bit by bit: that grows with the square of their length. */
const LONGEST_TRIED = 4_096;

/** Reads all segments; `newest` is the number of the last one that there is. */
export async function readDamagedLog(vault: Vault, keys: SessionKeys, newest: number): Promise<ReadLog> {
  const log: ReadLog = { events: [], problems: [], cut: false };
  for (let index = 0; index <= newest && !log.cut; index++) {
    const key = keys.segment(index);
    const stored = await vault.read(key);
    if (!stored) lose(log, { key, problem: 'is missing from the store' });
    else readSegment(log, { vault, key, index, etag: stored.etag, last: index === newest }, stored.bytes);
  }
  return log;
}

/** The events without the chunks from `first` on; prompts that took effect with those wait again. */
export function withoutChunksFrom(events: readonly StoredEvent[], first: number): StoredEvent[] {
  const gone = (event: StoredEvent) =>
    (event.type === 'FrameChunk' && event.chunk >= first) || (event.type === 'PromptApplied' && event.block >= first);
  return events.filter((event) => !gone(event)).map((event, i) => ({ ...event, sequence: i + 1 }));
}

/**
 * Puts these in the place of all events. A crash in between leaves fewer of them: what comes last goes first, and comes last.
 * Rejects with OwnershipLost when somebody else has written.
 */
export async function rewriteLog(
  vault: Vault,
  keys: SessionKeys,
  before: readonly StoredEvent[],
  after: readonly StoredEvent[],
): Promise<void> {
  const kept = before.findIndex((event, i) => JSON.stringify(event) !== JSON.stringify(after[i]));
  if (kept < 0) return;
  const from = Math.floor(kept / SEGMENT);
  const etag = (await vault.head(keys.segment(from)))?.etag;
  for (let index = Math.floor((before.length - 1) / SEGMENT); index > from; index--)
    await vault.delete(keys.segment(index));
  for (let index = from; index * SEGMENT < after.length; index++) {
    const events = after.slice(index * SEGMENT, (index + 1) * SEGMENT);
    const written = index === from ? etag : undefined;
    await vault.putOwned(keys.segment(index), formatSegment(events), written, JSONL);
  }
}

const JSONL = { contentType: 'application/x-ndjson' };

interface Segment {
  vault: Vault;
  key: string;
  index: number;
  etag: string;
  /** No segment follows. */
  last: boolean;
}

function readSegment(log: ReadLog, segment: Segment, bytes: Uint8Array): void {
  const { key, index, last } = segment;
  const { lines, whole } = linesOf(bytes);
  const read = lines.map((line, i) => readLine(line, key, index * SEGMENT + i + 1));
  const firstBad = read.findIndex(({ event }) => event === undefined);
  const mended =
    firstBad < 0 ? undefined : withoutFlippedBit(lines[firstBad] as Buffer, key, index * SEGMENT + firstBad + 1);
  if (mended) read[firstBad] = { event: mended, intact: true };
  const lost = read.findIndex(({ event }) => event === undefined);
  const good = read.slice(0, lost < 0 ? read.length : lost).map(({ event }) => event as StoredEvent);
  log.events.push(...good);
  const problem = `is damaged in event ${index * SEGMENT + (lost < 0 ? firstBad : lost) + 1}`;
  const repair = () => rewrite(segment, good);
  if (lost >= 0) {
    // Behind the last good line nothing is readable: that is an end that was torn off, and can be made clean.
    const torn = last && !read.slice(lost).some(({ intact }) => intact);
    const ends = good.length === 0 ? REMOVED : `cut off behind event ${index * SEGMENT + good.length}`;
    lose(log, torn ? { key, problem, remedy: ends, repair } : { key, problem });
  } else if (mended) log.problems.push({ key, problem, remedy: 'the flipped bit is back', repair });
  else if (!whole) {
    log.problems.push({
      key,
      problem: 'lacks the end of its last line',
      remedy: 'the end of the line was added',
      repair,
    });
  }
  if (lost < 0 && !mended && whole && !last && good.length < SEGMENT)
    lose(log, { key, problem: `has ${good.length} of ${SEGMENT} events` });
}

function lose(log: ReadLog, problem: LogProblem): void {
  log.problems.push(problem);
  log.cut = true;
}

/** Lines as bytes: what a flipped bit made of a letter may be no text at all. */
function linesOf(bytes: Uint8Array): { lines: Buffer[]; whole: boolean } {
  const text = Buffer.from(bytes);
  const lines: Buffer[] = [];
  let from = 0;
  for (let to = text.indexOf(10); to >= 0; to = text.indexOf(10, from)) {
    lines.push(text.subarray(from, to));
    from = to + 1;
  }
  if (from < text.length) lines.push(text.subarray(from));
  return { lines, whole: from === text.length };
}

interface ReadLine {
  /** When it is the one that belongs there. */
  event?: StoredEvent;
  /** It is what was written, wherever it belongs. */
  intact: boolean;
}

function readLine(line: Buffer, key: string, sequence: number): ReadLine {
  const text = line.toString();
  try {
    return { event: parseLine(text, key, sequence), intact: true };
  } catch (error) {
    if (!(error instanceof DamagedError)) throw error;
    return { intact: isIntact(text, key) };
  }
}

function isIntact(text: string, key: string): boolean {
  try {
    return isSealed(text) && unsealText(text, key) !== text;
  } catch {
    return false;
  }
}

/** The event though a bit of its line has flipped: the checksum says which one. */
function withoutFlippedBit(line: Buffer, key: string, sequence: number): StoredEvent | undefined {
  if (line.length > LONGEST_TRIED || isIntact(line.toString(), key)) return undefined;
  const bytes = Buffer.from(line);
  for (let bit = 0; bit < 8 * bytes.length; bit++) {
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    const event = sealedEvent(bytes.toString(), key, sequence);
    if (event) return event;
    bytes[bit >> 3]! ^= 1 << (bit & 7);
  }
  return undefined;
}

function sealedEvent(text: string, key: string, sequence: number): StoredEvent | undefined {
  try {
    return isSealed(text) ? parseLine(text, key, sequence) : undefined;
  } catch {
    return undefined;
  }
}

async function rewrite({ vault, key, etag }: Segment, events: StoredEvent[]): Promise<void> {
  if (events.length === 0) await vault.delete(key);
  else await vault.putOwned(key, formatSegment(events), etag, JSONL);
}
