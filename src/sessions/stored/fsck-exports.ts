/** Proves that a session's exports agree with what is known of them; one that does not is made again from the chunks. */

import { startSecondsOf } from '../blocks.js';
import type { Artifact, Session, SessionExport } from '../session.js';
import type { Shelf } from './artifacts.js';
import { DamagedError, differenceOf, sumOf } from './checksum.js';
import { decodeExport, encodeExport, storeExport } from './exports.js';
import { type Findings, REMADE, REMOVED } from './findings.js';
import { keysOf } from './keys.js';

interface Telling {
  findings: Findings;
  /** Why nothing can be made of these chunks. */
  obstacleOf: (fromChunk: number, toChunk: number) => string | undefined;
}

/** `files` are all that the session has. */
export async function checkExports(
  shelf: Shelf,
  session: Session,
  files: ReadonlySet<string>,
  telling: Telling,
): Promise<void> {
  const { findings } = telling;
  const keys = keysOf(session.id);
  for (const key of files) {
    if (!key.startsWith(keys.exports)) continue;
    if (key.endsWith('.json')) await checkExport(shelf, session, key, telling);
    else if (!files.has(key.replace(/\.\w+$/, '.json'))) {
      await findings.found({ key, problem: 'belongs to no export' }, REMOVED, () => shelf.vault.delete(key));
    }
  }
}

async function checkExport(shelf: Shelf, session: Session, key: string, telling: Telling): Promise<void> {
  const { vault } = shelf;
  const stored = await vault.read(key);
  if (!stored) return; // It was removed meanwhile.
  const made = decoded(stored.bytes, key, session.id);
  if (made instanceof DamagedError) return mendDescription(shelf, session, made, telling);
  // One that is still being made has no files yet of which anything is known.
  if (made.state !== 'DONE') return;
  const problems = await Promise.all(made.artifacts.map((artifact) => problemOf(vault, artifact)));
  for (const [i, { key: file }] of made.artifacts.entries()) {
    const problem = problems[i];
    if (problem === undefined) continue;
    await found(telling, { key: file, problem }, made, () => makeAgain(shelf, key, made));
  }
}

function decoded(bytes: Uint8Array, key: string, sessionId: string): SessionExport | DamagedError {
  try {
    const made = decodeExport(bytes, key);
    const isIt = made.sessionId === sessionId && keysOf(sessionId).exports + made.range + '.json' === key;
    return isIt ? made : new DamagedError(key, 'describes another export');
  } catch (error) {
    if (error instanceof DamagedError) return error;
    throw error;
  }
}

/** Its name says which part of the session it is, so it is made again from that. */
async function mendDescription(
  shelf: Shelf,
  session: Session,
  { key, problem }: DamagedError,
  telling: Telling,
): Promise<void> {
  const [, range = '', from, to] = /\/((\d{6,12})-(\d{6,12}))\.json$/.exec(key) ?? [];
  const [fromChunk, toChunk] = [Number(from), Number(to)];
  if (!(fromChunk < toChunk && toChunk <= session.chunks))
    return telling.findings.found({ key, problem }, REMOVED, () => shelf.vault.delete(key));
  const made: SessionExport = {
    ...{ range, sessionId: session.id, state: 'DONE', progress: 1, createdAt: session.updatedAt, fromChunk, toChunk },
    ...{ fromSeconds: startSecondsOf(session, fromChunk), toSeconds: startSecondsOf(session, toChunk), artifacts: [] },
  };
  await found(telling, { key, problem }, made, () => makeAgain(shelf, key, made));
}

function found(
  { findings, obstacleOf }: Telling,
  what: { key: string; problem: string },
  { fromChunk, toChunk }: SessionExport,
  repair: () => Promise<void>,
): Promise<void> {
  const obstacle = obstacleOf(fromChunk, toChunk);
  return findings.found({ ...what, ...(obstacle !== undefined && { obstacle }) }, REMADE, repair);
}

async function problemOf(vault: Shelf['vault'], artifact: Artifact): Promise<string | undefined> {
  if (!(await vault.head(artifact.key))) return 'is missing from the store';
  return differenceOf(await sumOf(vault.stream(artifact.key)), artifact);
}

async function makeAgain(shelf: Shelf, key: string, made: SessionExport): Promise<void> {
  const artifacts = await storeExport(shelf, keysOf(made.sessionId), made);
  await shelf.vault.put(key, encodeExport({ ...made, artifacts }), { contentType: 'application/json' });
}
