/** The prompts of a session: the newest are in its snapshot, those before in its log. */

import { isWhole } from '../conditioning.js';
import { isSettled, type PromptMoved, type PromptRequested, type PromptSettled, type StoredEvent } from '../events.js';
import { isEnded, type Session, type SwitchReceipt, type TimelineEntry } from '../session.js';
import { type LogReader, SEGMENT } from './log.js';
import { entryOf, moved, receiptOf, settled } from './snapshot.js';

/** Newest first. */
export interface PromptPage<Item> {
  items: Item[];
  /** Whether there are older ones. */
  more: boolean;
}

interface Kept<Item> {
  /** In order and without gaps up to the newest. */
  items: readonly (Item & { sequence: number })[];
  /** Whether that is all there is. */
  whole: boolean;
}

/** `first` requests for prompts made before the one with this sequence. */
export function receiptsBefore(
  log: LogReader,
  session: Session,
  first: number,
  before = Infinity,
): Promise<PromptPage<SwitchReceipt>> {
  return page(keptReceipts(session), session, first, before, (from, count) => olderReceipts(log, session, from, count));
}

/** `first` prompts that took effect before the one with this sequence. */
export function timelineBefore(
  log: LogReader,
  session: Session,
  first: number,
  before = Infinity,
): Promise<PromptPage<TimelineEntry>> {
  return page(keptTimeline(session), session, first, before, (from, count) =>
    olderEntries(log, from, (entries) => entries.length < count),
  );
}

/** All that decides what is drawn from a block on, in order: what took effect from there on, and what still shows of before. */
export async function timelineFrom(log: LogReader, session: Session, block: number): Promise<TimelineEntry[]> {
  const { timeline, prompts } = session;
  const known = timeline.length === prompts.applied || beginning(timeline, block) >= 0;
  const entries = known
    ? timeline
    : (
        await olderEntries(log, session.lastSequence + 1, (found) => !hidesOlder(found.at(-1), found.at(-2), block))
      ).reverse();
  return entries.slice(Math.max(0, beginning(entries, block)));
}

function beginning(entries: readonly TimelineEntry[], block: number): number {
  return entries.findLastIndex((entry, index) => hidesOlder(entry, entries[index + 1], block));
}

/** Whether the entry had come wholly before the next one began, and before `block`. */
function hidesOlder(entry: TimelineEntry | undefined, next: TimelineEntry | undefined, block: number): boolean {
  if (!entry || entry.block >= block) return false;
  return isWhole(entry, Math.min(block, next?.block ?? block) - 1);
}

async function page<Item>(
  { items, whole }: Kept<Item>,
  { lastSequence }: Session,
  first: number,
  before: number,
  older: (before: number, count: number) => Promise<Item[]>,
): Promise<PromptPage<Item>> {
  const known: Item[] = items.filter(({ sequence }) => sequence < before).reverse();
  if (!whole && known.length <= first) {
    const from = Math.min(before, items[0]?.sequence ?? lastSequence + 1);
    known.push(...(await older(from, first + 1 - known.length)));
  }
  return { items: known.slice(0, first), more: known.length > first };
}

/** What is pending may be older than settled receipts that have left the snapshot. */
function keptReceipts({ receipts, prompts }: Session): Kept<SwitchReceipt> {
  const whole = receipts.length === prompts.requested;
  const oldest = whole ? 0 : (receipts.find(({ status }) => status !== 'PENDING')?.sequence ?? Infinity);
  return kept(receipts, whole, oldest);
}

function keptTimeline({ timeline, prompts }: Session): Kept<TimelineEntry> {
  return kept(timeline, timeline.length === prompts.applied, 0);
}

/** Nothing of what earlier releases stored: it has no sequences. */
function kept<Item extends { sequence?: number }>(all: readonly Item[], whole: boolean, oldest: number): Kept<Item> {
  const items = all.filter((item): item is Item & { sequence: number } => item.sequence !== undefined);
  if (items.length < all.length) return { items: [], whole: false };
  return { items: items.filter(({ sequence }) => sequence >= oldest), whole };
}

async function olderReceipts(
  log: LogReader,
  session: Session,
  before: number,
  count: number,
): Promise<SwitchReceipt[]> {
  const requests: PromptRequested[] = [];
  const outcomes = new Map<string, PromptSettled>();
  const moves = new Map<string, PromptMoved>();
  for await (const event of backwards(log, before)) {
    if (isSettled(event)) outcomes.set(event.receiptId, event);
    if (event.type === 'PromptMoved' && !moves.has(event.receiptId)) moves.set(event.receiptId, event);
    if (event.type === 'PromptRequested' && requests.push(event) === count) break;
  }
  const known = new Map(session.receipts.map((receipt) => [receipt.id, receipt]));
  const open = new Set(requests.map(({ receiptId }) => receiptId));
  for (const id of [...known.keys(), ...outcomes.keys()]) open.delete(id);
  // What was asked for before may have taken effect long after.
  if (open.size > 0) {
    for await (const event of log.all(before - 1)) {
      if (event.type === 'PromptMoved' && open.has(event.receiptId)) moves.set(event.receiptId, event);
      if (isSettled(event) && open.delete(event.receiptId)) outcomes.set(event.receiptId, event);
      if (open.size === 0) break;
    }
  }
  return requests.map((request) => ({
    ...(known.get(request.receiptId) ?? outcomeOf(session, request, moves, outcomes)),
    sequence: request.sequence,
  }));
}

function outcomeOf(
  session: Session,
  request: PromptRequested,
  moves: ReadonlyMap<string, PromptMoved>,
  outcomes: ReadonlyMap<string, PromptSettled>,
): SwitchReceipt {
  const move = moves.get(request.receiptId);
  const outcome = outcomes.get(request.receiptId);
  const asked = receiptOf(session, request);
  const receipt = move ? moved(session, asked, move) : asked;
  if (outcome) return settled(receipt, outcome);
  return isEnded(session.state) ? { ...receipt, status: 'DISCARDED' } : receipt;
}

/** Newest first, as long as `wanted` says so of those found. */
async function olderEntries(
  log: LogReader,
  before: number,
  wanted: (found: readonly TimelineEntry[]) => boolean,
): Promise<TimelineEntry[]> {
  const entries: TimelineEntry[] = [];
  for await (const event of backwards(log, before)) {
    if (event.type !== 'PromptApplied') continue;
    entries.push(entryOf(event));
    if (!wanted(entries)) break;
  }
  return entries;
}

async function* backwards(log: LogReader, before: number): AsyncGenerator<StoredEvent> {
  for (let index = Math.floor((before - 2) / SEGMENT); index >= 0; index--) {
    const { events } = await log.segment(index);
    yield* events.filter(({ sequence }) => sequence < before).reverse();
  }
}
