/** `session.json`: who owns the session, what was asked for, and a snapshot that saves reading the log from its start. */

import { createHash } from 'node:crypto';
import { DomainError } from '../errors.js';
import { DamagedError, NewerFormatError, sealText, unsealText } from './checksum.js';
import type { PromptCounts, Session, SessionParent, SwitchReceipt, TimelineEntry } from '../session.js';
import type { SessionRequest } from '../validation.js';
import { asStored, fromStored } from './names.js';
import { KEPT, newest } from './snapshot.js';
import type { SessionKeys } from './keys.js';
import type { Vault } from './vault.js';

/** What this release writes. 1: without checksums. It reads all up to this; see docs/decisions/0038-stored-formats.md. */
export const FORMAT_VERSION = 2;

export interface SessionRecord {
  /** That the session began with: what was written then lacks what came later. Written anew, it is the newest. */
  since: number;
  id: string;
  /** The server that may write; whether it lives, the file that it keeps under `servers/` tells. */
  owner: string | null;
  /** Since when that is so, ISO 8601; absent in sessions of releases before owners had a file. */
  ownedSince?: string;
  /** How many owners it has had; absent in sessions of releases that did not count. */
  epoch?: number;
  /** When somebody last watched, as far as its owner knew when it wrote this; ISO 8601. */
  watchedAt?: string;
  /** Of createSession's input: tells a retry from a reused idempotency key. */
  inputDigest: string;
  request: SessionRequest;
  /** As of `snapshot.lastSequence`. */
  snapshot: Session;
}

export interface StoredReceipt extends Omit<SwitchReceipt, 'requestedAt'> {
  requestedAt: string;
}

/** A session as JSON has it: in its record, and on the way between servers. */
export interface StoredSnapshot extends Omit<
  Session,
  'seed' | 'createdAt' | 'updatedAt' | 'finishedAt' | 'receipts' | 'prompts'
> {
  seed: string;
  createdAt: string;
  updatedAt: string;
  finishedAt?: string;
  receipts: StoredReceipt[];
  /** Earlier releases kept every receipt instead of counting them. */
  prompts?: PromptCounts;
}

interface StoredRecord extends Omit<SessionRecord, 'request' | 'snapshot' | 'since'> {
  formatVersion: number;
  since?: number;
  /** Of a tombstone, which has nothing else but an id and perhaps a parent. */
  deletedAt?: string;
  tenant?: string;
  parent?: SessionParent;
  request: Omit<SessionRequest, 'seed'> & { seed: string };
  snapshot: StoredSnapshot;
}

export function encodeRecord(record: SessionRecord): Uint8Array {
  const stored = { formatVersion: FORMAT_VERSION, ...record, snapshot: encodeSnapshot(record.snapshot) };
  const text = JSON.stringify(stored, bigintAsText);
  return new TextEncoder().encode(sealText(text));
}

function decode({ formatVersion, since = formatVersion, ...stored }: StoredRecord, key: string): SessionRecord {
  try {
    return {
      ...stored,
      since,
      request: { ...stored.request, seed: BigInt(stored.request.seed) },
      snapshot: decodeSnapshot(stored.snapshot),
    };
  } catch (error) {
    throw new DamagedError(key, 'is not the record of a session', error);
  }
}

/** `undefined` when there is no such session, DeletedError when there is none any more. */
export async function readRecord(
  vault: Vault,
  keys: SessionKeys,
): Promise<{ record: SessionRecord; etag: string } | undefined> {
  const stored = await readRecordOrTombstone(vault, keys);
  if (stored && 'tombstone' in stored) throw new DeletedError(stored.tombstone);
  return stored;
}

/** What `session.json` says when the session was deleted: nothing of what it was. */
export interface Tombstone {
  id: string;
  deletedAt: Date;
  /** As of `Session`. */
  tenant?: string;
  /** Whose media its forks may need. */
  parent?: SessionParent;
}

export class DeletedError extends DomainError {
  constructor(readonly tombstone: Tombstone) {
    super('NOT_FOUND', `The session was deleted on ${tombstone.deletedAt.toISOString()}.`, { field: 'sessionId' });
    this.name = 'DeletedError';
  }
}

/** Throws DamagedError, or NewerFormatError. */
export function decodeRecord(bytes: Uint8Array, key: string): SessionRecord {
  return decode(parse(bytes, key), key);
}

export type RecordOrTombstone = { record: SessionRecord; etag: string } | { tombstone: Tombstone; etag: string };

export async function readRecordOrTombstone(
  vault: Vault,
  { record: key, id: sessionId }: SessionKeys,
): Promise<RecordOrTombstone | undefined> {
  const stored = await vault.read(key);
  if (!stored) return undefined;
  const parsed = parse(stored.bytes, key);
  const { etag } = stored;
  if (parsed.id !== sessionId) throw new DamagedError(key, 'is the record of another session');
  if (parsed.deletedAt === undefined) return { record: decode(parsed, key), etag };
  const { id, deletedAt, tenant, parent } = parsed;
  const whose = { ...(tenant !== undefined && { tenant }), ...(parent && { parent }) };
  return { tombstone: { id, deletedAt: new Date(deletedAt), ...whose }, etag };
}

export function encodeTombstone(tombstone: Tombstone): Uint8Array {
  return new TextEncoder().encode(sealText(JSON.stringify({ formatVersion: FORMAT_VERSION, ...tombstone })));
}

/** Throws DamagedError, or NewerFormatError. */
function parse(bytes: Uint8Array, key: string): StoredRecord {
  let stored: Partial<StoredRecord> | null;
  try {
    stored = JSON.parse(unsealText(new TextDecoder().decode(bytes), key)) as typeof stored;
  } catch (error) {
    throw error instanceof DamagedError ? error : new DamagedError(key, 'is not JSON', error);
  }
  const formatVersion = stored?.formatVersion;
  if (typeof formatVersion !== 'number') throw new DamagedError(key, 'has no format version');
  if (formatVersion > FORMAT_VERSION) throw new NewerFormatError(key, formatVersion, FORMAT_VERSION);
  return stored as StoredRecord;
}

export function bigintAsText(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value;
}

export function encodeSnapshot(session: Session): object {
  return { ...asStored(session), timeline: session.timeline.map(asStored) };
}

export function decodeSnapshot(stored: StoredSnapshot): Session {
  const { finishedAt, ...rest } = stored;
  return {
    ...fromStored<typeof rest>(rest),
    ...(finishedAt === undefined ? {} : { finishedAt: new Date(finishedAt) }),
    seed: BigInt(stored.seed),
    createdAt: new Date(stored.createdAt),
    updatedAt: new Date(stored.updatedAt),
    receipts: newest(stored.receipts.map(decodeReceipt)),
    timeline: stored.timeline.slice(-KEPT).map((entry) => fromStored<TimelineEntry>(entry)),
    prompts: stored.prompts ?? countPrompts(stored),
  };
}

export function decodeReceipt(stored: StoredReceipt): SwitchReceipt {
  return { ...stored, requestedAt: new Date(stored.requestedAt) };
}

function countPrompts({ receipts, timeline, parent }: StoredSnapshot): PromptCounts {
  const inherited = parent ? timeline.filter(({ block }) => block < parent.chunk).length : 0;
  return { requested: receipts.length, inherited, applied: timeline.length };
}

/** The same input always has the same digest. */
export function digestInput(input: object): string {
  const text = JSON.stringify(input, (_key, value: unknown) => {
    if (typeof value === 'bigint') return value.toString();
    if (value === null || typeof value !== 'object' || Array.isArray(value)) return value;
    return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
  return createHash('sha256').update(text).digest('hex');
}
