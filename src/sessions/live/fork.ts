/**
 * What a fork begins with: its parent's prompts and chunks up to where it branches off, and a checkpoint to go on from.
 * The log is written again, so that a fork is read like any other session; the media stay where they are, under the
 * parent's keys, because they never change.
 */

import { type Checkpoint, latestCheckpoint, storeCheckpoint } from '../stored/checkpoints.js';
import type { Context } from './context.js';
import { DomainError } from '../errors.js';
import type { PromptRequested, StoredEvent } from '../events.js';
import { lineage } from '../stored/forks.js';
import { keysOf, type SessionKeys } from '../stored/keys.js';
import { type Draft, LogReader, SEGMENT, type SessionLog } from '../stored/log.js';
import { asMoved } from '../stored/snapshot.js';
import type { Session, SessionParent } from '../session.js';

export interface Heir {
  readonly context: Context;
  readonly keys: SessionKeys;
  readonly log: SessionLog;
  readonly session: Session;
}

/** Takes over what the parent has; nothing for a session without one. May be repeated after a crash in its middle. */
export async function inherit(heir: Heir): Promise<void> {
  const { session, log, context } = heir;
  const { parent } = session;
  if (!parent || session.chunks >= parent.chunk) return;
  await inheritFiles(heir, parent);
  // All that was logged so far is QUEUED and the beginning of this.
  let known = session.lastSequence - 1;
  const batch: Promise<void>[] = [];
  for await (const draft of historyOf(context, parent)) {
    if (known-- > 0) continue;
    const appended = log.append(draft);
    appended.catch(() => undefined);
    batch.push(appended);
    if (batch.length === SEGMENT) await Promise.all(batch.splice(0));
  }
  await Promise.all(batch);
  if (heir.session.chunks < parent.chunk) {
    throw new DomainError(
      'STORAGE',
      `The log of the session that this one branched off from (${parent.sessionId}) has gaps.`,
    );
  }
}

/** Events before the parent's `chunk`, as a fork logs them: what never took effect is left out, and so are states. */
async function* historyOf(context: Context, { sessionId, chunk }: SessionParent): AsyncGenerator<Draft> {
  const requests = new Map<string, PromptRequested>();
  for await (const event of new LogReader(context.vault, keysOf(sessionId)).all()) {
    if (event.type === 'PromptRequested') requests.set(event.receiptId, event);
    if (event.type === 'PromptSuperseded' || event.type === 'PromptCancelled') requests.delete(event.receiptId);
    const asked = event.type === 'PromptMoved' ? requests.get(event.receiptId) : undefined;
    if (asked && event.type === 'PromptMoved') requests.set(asked.receiptId, asMoved(asked, event));
    if (event.type === 'PromptApplied' && event.block < chunk) {
      const request = requests.get(event.receiptId);
      requests.delete(event.receiptId);
      if (request) yield draftOf({ ...request, idempotencyKey: undefined });
      yield draftOf(event);
    }
    if (event.type !== 'FrameChunk') continue;
    if (event.chunk >= chunk) return;
    yield draftOf(event);
  }
}

function draftOf({ sequence: _sequence, at: _at, ...draft }: StoredEvent): Draft {
  return draft;
}

async function inheritFiles({ context, keys, log }: Heir, parent: SessionParent): Promise<void> {
  const { vault } = context;
  const confirm = () => log.confirm();
  const checkpoint = await nearestCheckpoint(context, keys.id, parent);
  if (checkpoint) await storeCheckpoint(context, keys, checkpoint, confirm);
  // The init segment is what the encoder's is held against: chunks of both play behind each other.
  const theirs = keysOf(parent.sessionId);
  for (const [from, to] of [
    [theirs.init, keys.init],
    [theirs.poster, keys.poster],
  ] as const) {
    const stored = await vault.read(from);
    if (stored) await vault.replace(to, stored.bytes, confirm, { contentType: stored.contentType });
  }
}

/** Of the parent, or of its own parents when it has none so early. Without any, all is generated again from the start. */
async function nearestCheckpoint(context: Context, id: string, parent: SessionParent): Promise<Checkpoint | undefined> {
  for await (const { sessionId, chunk } of lineage(context.vault, id, parent)) {
    const found = await latestCheckpoint(context, keysOf(sessionId), chunk);
    if (found) return found;
  }
  return undefined;
}
