/** Proves that a session has its poster: a still of its first frames, which nothing else that is stored can be made into again. */

import type { Artifact, Session } from '../session.js';
import { checksumOf, differenceOf, UnreadableError } from './checksum.js';
import type { Findings } from './findings.js';
import { lineage, type MarkedForks } from './forks.js';
import { keysOf } from './keys.js';
import { readRecordOrTombstone } from './record.js';
import type { StoredBytes, Vault } from './vault.js';

/** A session that is not finished has one with its first chunk, too: only then nobody knows yet what is in it. */
export async function checkPoster(store: MarkedForks, session: Session, findings: Findings): Promise<void> {
  if (session.chunks === 0) return;
  const { vault } = store;
  const { poster: key } = keysOf(session.id);
  const written = posterOf(session);
  const problem = problemOf(await vault.read(key), written);
  if (problem === undefined) return;
  const found = await copyOf(store, session, written);
  if (!found) return findings.found({ key, problem, obstacle: NO_COPY });
  const { copy, from } = found;
  await findings.found({ key, problem }, `copied from ${from}`, () =>
    vault.put(key, copy.bytes, { contentType: copy.contentType }),
  );
}

const NO_COPY = 'cannot be made again, and no parent or fork of the session has it';

function problemOf(stored: StoredBytes | undefined, written: Artifact | undefined): string | undefined {
  if (!stored) return 'is missing from the store';
  if (stored.bytes.length === 0) return 'is empty';
  return differenceOf({ bytes: stored.bytes.length, check: checksumOf(stored.bytes) }, written ?? {});
}

/** A fork begins with its parent's first chunk, and with a copy of its poster. */
async function copyOf(
  store: MarkedForks,
  session: Session,
  written: Artifact | undefined,
): Promise<{ copy: StoredBytes; from: string } | undefined> {
  const { vault } = store;
  for (const id of await relativesOf(store, session)) {
    const { poster: from } = keysOf(id);
    const copy = await vault.read(from);
    const isWhole = problemOf(copy, written ?? (await writtenOf(vault, id))) === undefined;
    if (copy && isWhole) return { copy, from };
  }
  return undefined;
}

/** Those that begin with the same chunk, as far as that can be read. */
async function relativesOf({ vault, inheritance }: MarkedForks, { id, parent }: Session): Promise<Set<string>> {
  const family = [id];
  try {
    if (parent) for await (const { sessionId } of lineage(vault, id, parent)) family.push(sessionId);
    await inheritance.refresh();
  } catch (error) {
    if (!(error instanceof UnreadableError)) throw error;
  }
  const relatives = new Set(family);
  for (const one of family) for (const [fork, chunks] of inheritance.playedOf(one)) if (chunks > 0) relatives.add(fork);
  relatives.delete(id);
  return relatives;
}

/** What another session knows of its own poster. */
async function writtenOf(vault: Vault, id: string): Promise<Artifact | undefined> {
  try {
    const stored = await readRecordOrTombstone(vault, keysOf(id));
    return stored && 'record' in stored ? posterOf(stored.record.snapshot) : undefined;
  } catch (error) {
    if (error instanceof UnreadableError) return undefined;
    throw error;
  }
}

function posterOf({ artifacts }: Session): Artifact | undefined {
  return artifacts.find(({ kind }) => kind === 'POSTER');
}
