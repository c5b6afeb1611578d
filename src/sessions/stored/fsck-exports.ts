/** Proves that a session's exports agree with what is known of them; one that does not is made again from the chunks. */

import type { Artifact, SessionExport } from '../session.js';
import type { Shelf } from './artifacts.js';
import { differenceOf, sumOf } from './checksum.js';
import { decodeExport, encodeExport, storeExport } from './exports.js';
import { type Findings, REMADE, REMOVED } from './findings.js';
import type { SessionKeys } from './keys.js';

/** `files` are all that the session has. */
export async function checkExports(
  shelf: Shelf,
  keys: SessionKeys,
  files: ReadonlySet<string>,
  findings: Findings,
): Promise<void> {
  for (const key of files) {
    if (!key.startsWith(keys.exports)) continue;
    if (key.endsWith('.json')) await checkExport(shelf, keys, key, findings);
    else if (!files.has(key.replace(/\.\w+$/, '.json'))) {
      await findings.found({ key, problem: 'belongs to no export' }, REMOVED, () => shelf.vault.delete(key));
    }
  }
}

async function checkExport(shelf: Shelf, keys: SessionKeys, key: string, findings: Findings): Promise<void> {
  const { vault } = shelf;
  const stored = await vault.read(key);
  if (!stored) return; // It was removed meanwhile.
  const made = await findings.attempt(async () => decodeExport(stored.bytes, key));
  // One that is still being made has no files yet of which anything is known.
  if (made === 'damaged' || made.state !== 'DONE') return;
  const problems = await Promise.all(made.artifacts.map((artifact) => problemOf(vault, artifact)));
  for (const [i, { key: file }] of made.artifacts.entries()) {
    const problem = problems[i];
    if (problem === undefined) continue;
    await findings.found({ key: file, problem }, REMADE, () => makeAgain(shelf, keys, key, made));
  }
}

async function problemOf(vault: Shelf['vault'], artifact: Artifact): Promise<string | undefined> {
  if (!(await vault.head(artifact.key))) return 'is missing from the store';
  return differenceOf(await sumOf(vault.stream(artifact.key)), artifact);
}

async function makeAgain(shelf: Shelf, keys: SessionKeys, key: string, made: SessionExport): Promise<void> {
  const artifacts = await storeExport(shelf, keys, made);
  await shelf.vault.put(key, encodeExport({ ...made, artifacts }), { contentType: 'application/json' });
}
