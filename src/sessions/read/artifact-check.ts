import { LRUCache } from 'lru-cache';
import type { Artifact, Session } from '../session.js';
import { DamagedError, differenceOf, sumOf } from '../stored/checksum.js';
import { keysOf, sessionIdOfKey } from '../stored/keys.js';
import type { Vault } from '../stored/vault.js';

/** Files that are remembered to be whole. */
const MOST = 4_096;

interface ArtifactCheckParts {
  vault: Pick<Vault, 'stream'>;
  session: (id: string) => Promise<Session>;
  exports: { artifact(sessionId: string, key: string): Promise<Artifact | undefined> };
}

/**
 * Holds whole files (videos, timelines, posters) against their checksums before they are sent: once, however many ask at the same
 * time, and in pieces, since they may be larger than memory.
 */
export class ArtifactCheck {
  private readonly whole: LRUCache<string, true, Artifact>;

  constructor(private readonly parts: ArtifactCheckParts) {
    this.whole = new LRUCache({
      max: MOST,
      ignoreFetchAbort: true,
      fetchMethod: async (_name, _stale, { context: written }) => {
        const difference = differenceOf(await sumOf(parts.vault.stream(written.key)), written);
        if (difference !== undefined) throw new DamagedError(written.key, difference);
        return true as const;
      },
    });
  }

  /** Rejects with DamagedError. `etag` is of what is in the store: another file is looked at anew. */
  async check(key: string, etag: string): Promise<void> {
    const name = `${etag} ${key}`;
    if (this.whole.has(name)) return;
    const written = await this.written(key);
    if (written?.check !== undefined) await this.whole.forceFetch(name, { context: written });
  }

  private async written(key: string): Promise<Artifact | undefined> {
    const id = sessionIdOfKey(key);
    if (id === undefined) return undefined;
    if (key.startsWith(keysOf(id).exports)) return this.parts.exports.artifact(id, key);
    return (await this.parts.session(id)).artifacts.find((artifact) => artifact.key === key);
  }
}
