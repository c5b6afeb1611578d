/** `session.json` as its owner keeps it: written only while it is what the owner wrote last. */

import { DamagedError } from './checksum.js';
import { encodeRecord, readRecordOrTombstone, type SessionRecord } from './record.js';
import { keysOf } from './keys.js';
import { OwnershipLost, type Vault } from './vault.js';

const JSON_OBJECT = { contentType: 'application/json' };

export class RecordFile {
  private constructor(
    private readonly vault: Vault,
    private current: SessionRecord,
    private etag: string,
  ) {}

  /** Writes the record of a session that nobody knows yet; `undefined` when there is one with this id already. */
  static async create(vault: Vault, record: SessionRecord): Promise<RecordFile | undefined> {
    try {
      return new RecordFile(vault, record, await write(vault, record, undefined));
    } catch (error) {
      if (error instanceof OwnershipLost) return undefined;
      throw error;
    }
  }

  /** Puts another owner into a record that was read before; rejects with OwnershipLost when it has changed since. */
  static async sign(vault: Vault, record: SessionRecord, etag: string): Promise<RecordFile> {
    return new RecordFile(vault, record, await write(vault, record, etag));
  }

  get record(): SessionRecord {
    return this.current;
  }

  async update(changes: Partial<SessionRecord>): Promise<void> {
    const record = { ...this.current, ...changes };
    try {
      this.etag = await write(this.vault, record, this.etag);
    } catch (error) {
      if (!(error instanceof OwnershipLost)) throw error;
      // An earlier write whose answer got lost has changed the etag; the owner in it tells.
      this.etag = await write(this.vault, record, await this.etagIfMine(error));
    }
    this.current = record;
  }

  /**
   * Rejects with OwnershipLost unless the stored record names the owner that it was signed with, as that of a deleted session
   * does not, and with DamagedError when there is none: nobody else owns what is not there.
   */
  async confirm(): Promise<void> {
    await this.etagIfMine(new OwnershipLost(keysOf(this.current.id).record));
  }

  private async etagIfMine(lost: OwnershipLost): Promise<string> {
    const keys = keysOf(this.current.id);
    const stored = await readRecordOrTombstone(this.vault, keys);
    if (!stored) throw new DamagedError(keys.record, 'has disappeared from the store');
    if ('tombstone' in stored) throw lost;
    const { owner, ownedSince } = this.current;
    if (stored.record.owner !== owner || stored.record.ownedSince !== ownedSince) throw lost;
    return stored.etag;
  }
}

function write(vault: Vault, record: SessionRecord, etag: string | undefined): Promise<string> {
  return vault.putOwned(keysOf(record.id).record, encodeRecord(record), etag, JSON_OBJECT);
}
