/** What the store says of sessions, whoever owns them. */

import { DomainError, invalid } from '../errors.js';
import type { Session } from '../session.js';
import type { Page } from '../sessions.js';
import { isSessionId } from '../stored/ids.js';
import { isLasting } from '../stored/checksum.js';
import { BY_DATE, createdAtOfByDateKey, idOfByDateKey, isPageCursor, keysOf } from '../stored/keys.js';
import { foldLog } from '../stored/fold.js';
import { DeletedError, readRecord, type SessionRecord } from '../stored/record.js';
import { damagedSession } from '../stored/snapshot.js';
import type { Vault } from '../stored/vault.js';

const PAGE = 20;
const LARGEST_PAGE = 100;

export interface StoredSession {
  record: SessionRecord;
  /** Of the record. */
  etag: string;
  session: Session;
}

/** Rejects with NOT_FOUND. */
export async function loadSession(vault: Vault, id: string): Promise<StoredSession> {
  const loaded = await findSession(vault, id);
  if (!loaded) throw new DomainError('NOT_FOUND', 'No such session.', { field: 'sessionId' });
  return loaded;
}

export async function findSession(vault: Vault, id: string): Promise<StoredSession | undefined> {
  const found = await findRecord(vault, id);
  if (!found) return undefined;
  const session = await foldLog(vault, found.record);
  return { ...found, session };
}

/** Without what the log has beyond the record. */
export async function findRecord(vault: Vault, id: string): Promise<Omit<StoredSession, 'session'> | undefined> {
  return isSessionId(id) ? readRecord(vault, keysOf(id)) : undefined;
}

/** A page of sessions, newest first; `find` may know one better than the store, or not at all. */
export async function pageOfSessions(
  vault: Vault,
  find: (id: string) => Promise<Session | undefined>,
  { first = PAGE, after }: { first?: number; after?: string } = {},
): Promise<Page<Session>> {
  if (!Number.isInteger(first) || first < 1 || first > LARGEST_PAGE) {
    throw invalid('first', `first must be between 1 and ${LARGEST_PAGE}; got ${first}.`);
  }
  if (after !== undefined && !isPageCursor(after)) {
    throw invalid(
      'after',
      'after is not a cursor of this list; pass a cursor as the API returned it, or leave it out to begin at the newest.',
    );
  }
  const keys: string[] = [];
  for await (const { key } of vault.list(BY_DATE, after === undefined ? {} : { after: BY_DATE + after })) {
    keys.push(key);
    if (keys.length > first) break;
  }
  const page = keys.slice(0, first);
  const found = await Promise.all(page.map((key) => findOrName(key, find)));
  const last = page.at(-1);
  const more = keys.length > first && last !== undefined;
  return { items: found.filter((item) => item !== undefined), ...(more && { next: last.slice(BY_DATE.length) }) };
}

/** A session that cannot be read harms no other: it is listed as damaged. */
async function findOrName(
  key: string,
  find: (id: string) => Promise<Session | undefined>,
): Promise<Session | undefined> {
  const id = idOfByDateKey(key);
  try {
    return await find(id);
  } catch (error) {
    if (error instanceof DeletedError) return undefined;
    if (!isLasting(error)) throw error;
    return damagedSession(id, createdAtOfByDateKey(key), error);
  }
}
