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

/** Entries of the list that are looked at for one page of one tenant, and how many of them at once. */
const LOOKED_AT = 1_000;
const AT_ONCE = 20;

interface PageOptions {
  first?: number;
  after?: string;
  /** Leaves out the others. */
  isOne?: ((id: string) => Promise<boolean>) | undefined;
}

/** A page of sessions, newest first; `find` may know one better than the store, or not at all. */
export async function pageOfSessions(
  vault: Vault,
  find: (id: string) => Promise<Session | undefined>,
  { first = PAGE, after, isOne }: PageOptions = {},
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
  const listed = vault.list(BY_DATE, after === undefined ? {} : { after: BY_DATE + after });
  const { page, last } = isOne ? await keysOfSome(listed, first, isOne) : await keysOfAll(listed, first);
  const found = await Promise.all(page.map((key) => findOrName(key, find)));
  return {
    items: found.filter((item) => item !== undefined),
    ...(last !== undefined && { next: last.slice(BY_DATE.length) }),
  };
}

/** `last`: behind which the next page begins, if there is one. */
interface PageOfKeys {
  page: string[];
  last: string | undefined;
}

async function keysOfAll(listed: AsyncIterable<{ key: string }>, first: number): Promise<PageOfKeys> {
  const keys: string[] = [];
  for await (const { key } of listed) {
    keys.push(key);
    if (keys.length > first) break;
  }
  const page = keys.slice(0, first);
  return { page, last: keys.length > first ? page.at(-1) : undefined };
}

/** Of a tenant's: what others have is passed over, for so long only. */
async function keysOfSome(
  listed: AsyncIterable<{ key: string }>,
  first: number,
  isOne: (id: string) => Promise<boolean>,
): Promise<PageOfKeys> {
  const page: string[] = [];
  let looked = 0;
  for await (const keys of batches(listed, AT_ONCE)) {
    const which = await Promise.all(keys.map((key) => isOne(idOfByDateKey(key))));
    for (const [index, key] of keys.entries()) {
      if (!which[index]) continue;
      if (page.length === first) return { page, last: page.at(-1) };
      page.push(key);
    }
    looked += keys.length;
    if (looked >= LOOKED_AT) return { page, last: keys.at(-1) };
  }
  return { page, last: undefined };
}

async function* batches(listed: AsyncIterable<{ key: string }>, size: number): AsyncGenerator<string[]> {
  let batch: string[] = [];
  for await (const { key } of listed) {
    batch.push(key);
    if (batch.length < size) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
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
