/** `session.json`: who owns the session, what was asked for, and a snapshot that saves reading the log from its start. */

import { createHash } from 'node:crypto';
import type { Session, SwitchReceipt } from '../session.js';
import type { SessionRequest } from '../validation.js';

export interface SessionRecord {
  formatVersion: 1;
  id: string;
  /** The worker that may write; whether it lives is the cluster's to say. */
  owner: string | null;
  /** Of createSession's input: tells a retry from a reused idempotency key. */
  inputDigest: string;
  request: SessionRequest;
  /** As of `snapshot.lastSequence`. */
  snapshot: Session;
}

interface StoredReceipt extends Omit<SwitchReceipt, 'requestedAt'> {
  requestedAt: string;
}

interface StoredSnapshot extends Omit<Session, 'seed' | 'createdAt' | 'updatedAt' | 'finishedAt' | 'receipts'> {
  seed: string;
  createdAt: string;
  updatedAt: string;
  finishedAt?: string;
  receipts: StoredReceipt[];
}

interface StoredRecord extends Omit<SessionRecord, 'request' | 'snapshot'> {
  request: Omit<SessionRequest, 'seed'> & { seed: string };
  snapshot: StoredSnapshot;
}

export function encodeRecord(record: SessionRecord): Uint8Array {
  const text = JSON.stringify(record, (_key, value: unknown) => (typeof value === 'bigint' ? value.toString() : value));
  return new TextEncoder().encode(text);
}

export function decodeRecord(bytes: Uint8Array): SessionRecord {
  const stored = JSON.parse(new TextDecoder().decode(bytes)) as StoredRecord;
  if (stored.formatVersion !== 1) {
    throw new Error(`session.json has format version ${String(stored.formatVersion)}; this release reads version 1.`);
  }
  return {
    ...stored,
    request: { ...stored.request, seed: BigInt(stored.request.seed) },
    snapshot: decodeSnapshot(stored.snapshot),
  };
}

function decodeSnapshot(stored: StoredSnapshot): Session {
  const { finishedAt, ...rest } = stored;
  return {
    ...rest,
    ...(finishedAt === undefined ? {} : { finishedAt: new Date(finishedAt) }),
    seed: BigInt(stored.seed),
    createdAt: new Date(stored.createdAt),
    updatedAt: new Date(stored.updatedAt),
    receipts: stored.receipts.map((receipt) => ({ ...receipt, requestedAt: new Date(receipt.requestedAt) })),
  };
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
