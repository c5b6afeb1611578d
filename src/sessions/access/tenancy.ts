/** Whose a session is. It never changes, so it is remembered; that there is none is not. */

import { LRUCache } from 'lru-cache';
import { DomainError } from '../errors.js';
import type { Directory } from '../live/directory.js';
import type { Identity } from '../live/identity.js';
import { isSessionId } from '../stored/ids.js';
import { keysOf } from '../stored/keys.js';
import { DamagedError, NewerFormatError } from '../stored/checksum.js';
import { readRecordOrTombstone } from '../stored/record.js';
import type { Vault } from '../stored/vault.js';
import { tenantOf } from './principal.js';

const REMEMBERED = 100_000;

export class Tenancy {
  private readonly known = new LRUCache<string, string>({ max: REMEMBERED });

  constructor(
    private readonly vault: Vault,
    private readonly directory: Pick<Directory, 'at'>,
    private readonly identity: Pick<Identity, 'mustHave'>,
  ) {}

  /**
   * Rejects with NOT_FOUND unless it is a session of this tenant, there or deleted. Another tenant's takes the same reading and
   * gets the same words as one that never was: nothing that is remembered makes a refusal faster.
   */
  async mustBeOf(tenant: string, id: string, signal?: AbortSignal): Promise<void> {
    if (this.remembered(id) === tenant) return;
    await this.identity.mustHave(this.find(tenant, id, signal));
  }

  /** For lists, which leave out what belongs to others; what is remembered costs no reading. None is left out without a tenant. */
  only({ tenant, signal }: { tenant?: string; signal?: AbortSignal }): ((id: string) => Promise<boolean>) | undefined {
    if (tenant === undefined) return undefined;
    return async (id) => (this.remembered(id) ?? (await this.read(id, signal))) === tenant;
  }

  private remembered(id: string): string | undefined {
    const owned = this.directory.at(id);
    return owned ? tenantOf(owned.session) : this.known.get(id);
  }

  private async find(tenant: string, id: string, signal?: AbortSignal): Promise<void> {
    if ((await this.read(id, signal)) !== tenant) throw noSuchSession();
  }

  /** Undefined where there is none, and where nobody can tell. */
  private async read(id: string, signal?: AbortSignal): Promise<string | undefined> {
    if (!isSessionId(id)) return undefined;
    try {
      const stored = await readRecordOrTombstone(this.vault.until(signal), keysOf(id));
      if (!stored) return undefined;
      const tenant = tenantOf('tombstone' in stored ? stored.tombstone : stored.record.snapshot);
      this.known.set(id, tenant);
      return tenant;
    } catch (error) {
      // Whose it is stands in what cannot be read: it is shown to the operator alone.
      if (error instanceof DamagedError || error instanceof NewerFormatError) return undefined;
      throw error;
    }
  }
}

export function noSuchSession(): DomainError {
  return new DomainError('NOT_FOUND', 'No such session.', { field: 'sessionId' });
}
