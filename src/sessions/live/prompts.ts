/** Which of the requested prompts takes effect at a block. */

import { DomainError } from '../errors.js';
import { askedAt, type SwitchReceipt, type SwitchWhen } from '../session.js';
import { LIMITS } from '../validation.js';

export interface Due {
  winner: SwitchReceipt;
  superseded: SwitchReceipt[];
}

/** All requests that are due collapse into the one made last; the others are superseded by it. */
export function dueAt(
  receipts: readonly SwitchReceipt[],
  block: number,
  settled: ReadonlySet<string>,
): Due | undefined {
  const due = receipts
    .filter((receipt) => isOpen(receipt, settled) && earliestBlock(receipt.when) <= block)
    .sort((a, b) => askedAt(a) - askedAt(b));
  const winner = due.at(-1);
  return winner && { winner, superseded: due.slice(0, -1) };
}

/** The request that will take effect next, at `block` or a later one, if nothing else happens; `taken` has done so. */
export function upcoming(
  receipts: readonly SwitchReceipt[],
  block: number,
  taken: Due | undefined,
  settled: ReadonlySet<string>,
): SwitchReceipt | undefined {
  const decided = new Set([...settled, ...idsOf(taken)]);
  const open = receipts.filter((receipt) => isOpen(receipt, decided));
  const soonest = Math.min(...open.map(({ when }) => earliestBlock(when)));
  return dueAt(open, Math.max(block, soonest), decided)?.winner;
}

/** Whether the block in flight has to be given up for a request that `taken` does not cover yet. */
export function interrupts(
  receipts: readonly SwitchReceipt[],
  taken: Due | undefined,
  settled: ReadonlySet<string>,
): boolean {
  const covered = new Set(idsOf(taken));
  return receipts.some(
    (receipt) => receipt.when === 'IMMEDIATE' && isOpen(receipt, settled) && !covered.has(receipt.id),
  );
}

export function idsOf(due: Due | undefined): string[] {
  return due ? [due.winner, ...due.superseded].map(({ id }) => id) : [];
}

/** `settled` are requests whose outcome is decided, though not in the log yet. */
function isOpen(receipt: SwitchReceipt, settled: ReadonlySet<string>): boolean {
  return receipt.status === 'PENDING' && !settled.has(receipt.id);
}

export interface Progress {
  /** The block being generated, or the next one when none is. */
  block: number;
  /** Denoise steps of it have been taken. */
  begun: boolean;
  /** Its frames are decoded: too late to give it up. */
  decoded: boolean;
}

/** Where a request made now will take effect, if nothing else happens. */
export function expectedBlock(when: SwitchWhen, { block, begun, decoded }: Progress): number {
  if (when === 'IMMEDIATE') return decoded ? block + 1 : block;
  const next = begun || decoded ? block + 1 : block;
  return when === 'NEXT_BLOCK' ? next : Math.max(when.block, next);
}

function earliestBlock(when: SwitchWhen): number {
  return typeof when === 'string' ? 0 : when.block;
}

/**
 * Refuses a request when too many others wait: `most` for the next block, where all of them give way to the last one, and
 * as many as a timeline may have for blocks to come.
 */
export function mustHaveRoom(
  when: SwitchWhen,
  requests: readonly Pick<SwitchReceipt, 'status' | 'when'>[],
  most: number,
): void {
  const scheduled = typeof when === 'object';
  const limit = scheduled ? LIMITS.timelineEntries : most;
  const waiting = requests.filter(
    (request) => request.status === 'PENDING' && (typeof request.when === 'object') === scheduled,
  );
  if (waiting.length < limit) return;
  const what = scheduled ? 'blocks to come' : 'the next block';
  const message =
    `${limit} prompts of this session are already waiting for ${what}; send another when one has taken effect ` +
    '(on a paused session, after resumeSession).';
  throw new DomainError('AT_CAPACITY', message, { retryAfterSeconds: 1 });
}
