/**
 * What people say of a session: its title, and whether they want to find it again. Nothing that is generated depends on it, so it
 * lies beside the session, and is written by whichever server is asked, whoever owns the session and whether it runs or not.
 */

import { DomainError } from '../errors.js';
import { NO_LABEL, type SessionLabel } from '../session.js';
import { DamagedError, NewerFormatError, sealText, unsealText } from './checksum.js';
import type { Findings } from './findings.js';
import { REMOVED } from './findings.js';
import type { SessionKeys } from './keys.js';
import { readRecord } from './record.js';
import { OwnershipLost, type Vault } from './vault.js';

const FORMAT_VERSION = 1;
const ATTEMPTS = 5;

/** One that cannot be read hides nothing but itself: `fsck` names it, and the next one takes its place. */
export async function readLabel(vault: Vault, keys: SessionKeys): Promise<SessionLabel> {
  return (await readWithEtag(vault, keys)).label;
}

/**
 * What is undefined stays. Rejects with NOT_FOUND when there is no such session, with CONFLICT when others change it again and
 * again.
 */
export async function changeLabel(vault: Vault, keys: SessionKeys, changes: Partial<SessionLabel>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const { label, etag } = await readWithEtag(vault, keys);
    try {
      await vault.putOwned(keys.label, encode({ ...label, ...changes }), etag, { contentType: 'application/json' });
      break;
    } catch (error) {
      if (!(error instanceof OwnershipLost)) throw error;
      if (attempt < ATTEMPTS) continue;
      throw new DomainError('CONFLICT', 'Others are changing the session at the same time; try again in a moment.', {
        cause: error,
      });
    }
  }
  // Of a session that was deleted meanwhile nothing stays, whatever was written behind the deletion's back.
  if (!(await isThere(vault, keys))) await vault.delete(keys.label);
}

export async function checkLabel(
  vault: Vault,
  keys: SessionKeys,
  files: ReadonlyMap<string, number>,
  findings: Findings,
): Promise<void> {
  const stored = files.has(keys.label) ? await vault.read(keys.label) : undefined;
  if (!stored) return;
  try {
    decode(stored.bytes, keys.label);
  } catch (error) {
    if (!(error instanceof DamagedError)) return;
    await findings.found({ key: keys.label, problem: error.problem }, REMOVED, () => vault.delete(keys.label));
  }
}

async function isThere(vault: Vault, keys: SessionKeys): Promise<boolean> {
  try {
    return (await readRecord(vault, keys)) !== undefined;
  } catch (error) {
    if (error instanceof DomainError && error.code === 'NOT_FOUND') return false;
    throw error;
  }
}

async function readWithEtag(vault: Vault, keys: SessionKeys): Promise<{ label: SessionLabel; etag?: string }> {
  const stored = await vault.read(keys.label);
  if (!stored) return { label: NO_LABEL };
  const { bytes, etag } = stored;
  try {
    return { label: decode(bytes, keys.label), etag };
  } catch (error) {
    if (error instanceof DamagedError) return { label: NO_LABEL, etag };
    throw error;
  }
}

function encode({ title, favourite }: SessionLabel): Uint8Array {
  return new TextEncoder().encode(sealText(JSON.stringify({ formatVersion: FORMAT_VERSION, title, favourite })));
}

/** Throws DamagedError, or NewerFormatError. */
function decode(bytes: Uint8Array, key: string): SessionLabel {
  const { formatVersion, title, favourite } = parse(bytes, key);
  if (typeof formatVersion !== 'number') throw new DamagedError(key, 'has no format version');
  if (formatVersion > FORMAT_VERSION) throw new NewerFormatError(key, formatVersion, FORMAT_VERSION);
  if ((title !== null && typeof title !== 'string') || typeof favourite !== 'boolean')
    throw new DamagedError(key, 'is not what people say of a session');
  return { title, favourite };
}

function parse(bytes: Uint8Array, key: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(unsealText(new TextDecoder().decode(bytes), key));
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch (error) {
    if (error instanceof DamagedError) throw error;
  }
  throw new DamagedError(key, 'is not JSON');
}
