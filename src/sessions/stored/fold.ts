/** A session as its record and its log tell it together. */

import type { StoredEvent } from '../events.js';
import type { Session } from '../session.js';
import { DamagedError } from './checksum.js';
import { keysOf } from './keys.js';
import { LogReader } from './log.js';
import type { SessionRecord } from './record.js';
import { applyEvent, NOTHING_LOGGED } from './snapshot.js';
import type { Vault } from './vault.js';

/**
 * The record's snapshot and what the log has beyond it. In a copy that was made while the session ran, the record may tell of
 * more than the log: then the log alone is believed.
 */
export async function foldLog(vault: Vault, record: SessionRecord): Promise<Session> {
  const { id, snapshot } = record;
  if (snapshot.finishedAt) return snapshot;
  const log = new LogReader(vault, keysOf(id));
  let session = snapshot;
  try {
    for await (const event of log.all(session.lastSequence)) session = applyEvent(session, event);
    return session;
  } catch (error) {
    if (!(error instanceof DamagedError)) throw error;
    return foldShorter(vault, record, error);
  }
}

/** The session as its log alone tells it. */
export function foldEvents({ request, snapshot }: SessionRecord, events: readonly StoredEvent[]): Session {
  const beginning: Session = {
    ...{ ...snapshot, state: 'QUEUED', reason: undefined, failure: undefined, media: undefined, finishedAt: undefined },
    ...NOTHING_LOGGED,
    wait: request.wait,
    prompt: request.prompts[0]?.prompt ?? '',
  };
  return events.reduce(applyEvent, beginning);
}

/** Rejects with the damage where chunks tell that a part of the log is lost. */
async function foldShorter(vault: Vault, record: SessionRecord, damage: DamagedError): Promise<Session> {
  const keys = keysOf(record.id);
  const events: StoredEvent[] = [];
  for await (const event of new LogReader(vault, keys).all()) events.push(event);
  const session = foldEvents(record, events);
  if (events.length === 0 || session.lastSequence >= record.snapshot.lastSequence) throw damage;
  // The one that comes next may have been on its way into the log.
  const further = await vault.list(keys.chunks, { after: keys.chunk(session.chunks) }).next();
  if (!further.done) throw damage;
  return session;
}
