/** What is missing of a finished session is made, and its record tells of it from then on: its log has come to its end. */

import { ARTIFACT_KINDS, type Artifact, type ArtifactKind, type Session } from '../session.js';
import { type Shelf, storeArtifacts } from './artifacts.js';
import { foldLog } from './fold.js';
import { keysOf } from './keys.js';
import { encodeRecord, readRecord } from './record.js';

/** Kinds of files that a finished session lacks. Without chunks it has none. */
export function missingKinds({
  finishedAt,
  chunks,
  artifacts,
}: Pick<Session, 'finishedAt' | 'chunks' | 'artifacts'>): ArtifactKind[] {
  if (!finishedAt || chunks === 0) return [];
  return ARTIFACT_KINDS.filter((kind) => !artifacts.some((artifact) => artifact.kind === kind));
}

/**
 * Answers with the kinds that cannot be made now either. Rejects when the store does not work, when the session is deleted, and with
 * OwnershipLost when its record changed meanwhile.
 */
export async function remakeArtifacts(shelf: Shelf, sessionId: string): Promise<ArtifactKind[]> {
  const { vault } = shelf;
  const keys = keysOf(sessionId);
  const stored = await readRecord(vault, keys);
  if (!stored) return [];
  const session = await foldLog(vault, stored.record);
  const kinds = missingKinds(session);
  if (kinds.length === 0) return [];
  const { artifacts, unmade } = await storeArtifacts(shelf, keys, kinds);
  const snapshot = { ...session, artifacts: inOrder([...session.artifacts, ...artifacts]), unmade };
  try {
    await vault.putOwned(keys.record, encodeRecord({ ...stored.record, snapshot }), stored.etag, JSON_OBJECT);
  } catch (error) {
    // Of a session that was deleted meanwhile nothing is left, whatever was written behind the deletion's back.
    await readRecord(vault, keys).catch(async (gone: unknown) => {
      for (const { key, kind } of artifacts) if (kind !== 'POSTER') await vault.delete(key);
      throw gone;
    });
    throw error;
  }
  return unmade.map(({ kind }) => kind);
}

const JSON_OBJECT = { contentType: 'application/json' };

function inOrder(artifacts: readonly Artifact[]): Artifact[] {
  return ARTIFACT_KINDS.flatMap((kind) => artifacts.filter((artifact) => artifact.kind === kind));
}
