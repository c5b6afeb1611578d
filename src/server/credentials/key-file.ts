/** All API keys of a deployment, in one object of its store that is changed as a whole. */

import { z } from 'zod';
import { ACCESS, KEY_USES, type ObjectStore, readWhole, StoreError } from '../../sessions/index.js';
import { ConfigError } from '../config.js';
import { keyRecord, type KeyRecord, newKeyId, newSecret } from './api-key.js';

export const KEYS = `${ACCESS}keys.json`;
const FORMAT_VERSION = 1;
/** A change that others were faster with is made again. */
const MOST_ATTEMPTS = 8;
const TWO = 2;

const file = z.looseObject({ formatVersion: z.literal(FORMAT_VERSION), keys: z.array(keyRecord) });

export interface KeysAsStored {
  keys: KeyRecord[];
  /** Absent where there is no file. */
  etag: string | undefined;
}

export interface NewKey {
  tenant: string;
  name?: string | undefined;
  scopes: readonly string[];
  limits?: KeyRecord['limits'];
  expiresAt?: Date | undefined;
}

export class KeyFile {
  constructor(
    private readonly store: ObjectStore,
    private readonly now: () => Date = () => new Date(),
  ) {}

  async read(): Promise<KeysAsStored> {
    try {
      const stored = await this.store.get(KEYS);
      return { keys: parse(await readWhole(KEYS, stored)), etag: stored.etag };
    } catch (error) {
      if (error instanceof StoreError && error.code === 'NOT_FOUND') return { keys: [], etag: undefined };
      throw error;
    }
  }

  /** Changes whenever the keys do. */
  async etag(): Promise<string | undefined> {
    return (await this.store.head(KEYS))?.etag;
  }

  /** The key itself is in the answer, and nowhere else. */
  async create({ tenant, name, scopes, limits, expiresAt }: NewKey): Promise<{ key: string; record: KeyRecord }> {
    const id = newKeyId();
    const { key, kept } = newSecret(id, this.now());
    const record: KeyRecord = {
      ...{ id, tenant, scopes: [...scopes], secrets: [kept], createdAt: this.now().toISOString() },
      ...(name !== undefined && { name }),
      ...(limits && { limits }),
      ...(expiresAt && { expiresAt: expiresAt.toISOString() }),
    };
    await this.change((keys) => [...keys, record]);
    return { key, record };
  }

  /** Another secret for the same key; the newest one before it goes on being taken. */
  async rotate(id: string): Promise<string> {
    const { key, kept } = newSecret(id, this.now());
    await this.changeOne(id, (record) => {
      mustBeUsable(record);
      return { ...record, secrets: [kept, ...record.secrets].slice(0, TWO) };
    });
    return key;
  }

  async revoke(id: string): Promise<void> {
    await this.changeOne(id, (record) => ({ ...record, revokedAt: record.revokedAt ?? this.now().toISOString() }));
  }

  /** Ends what `rotate` left: only the newest secret is taken from then on. */
  async revokeOld(id: string): Promise<void> {
    await this.changeOne(id, (record) => ({ ...record, secrets: record.secrets.slice(0, 1) }));
  }

  // ---- last use -------------------------------------------------------------------------------------------------------

  async noteUse(id: string): Promise<void> {
    await this.store.put(KEY_USES + id, Buffer.from(this.now().toISOString()), { contentType: 'text/plain' });
  }

  async lastUse(id: string): Promise<Date | undefined> {
    try {
      const text = Buffer.from(await readWhole(KEY_USES + id, await this.store.get(KEY_USES + id))).toString();
      return Number.isNaN(Date.parse(text)) ? undefined : new Date(text);
    } catch (error) {
      if (error instanceof StoreError && error.code === 'NOT_FOUND') return undefined;
      throw error;
    }
  }

  private async changeOne(id: string, change: (record: KeyRecord) => KeyRecord): Promise<void> {
    await this.change((keys) => {
      if (!keys.some((record) => record.id === id))
        throw new ConfigError(`There is no key "${id}" in this store; to see all keys: longlive keys list`);
      return keys.map((record) => (record.id === id ? change(record) : record));
    });
  }

  private async change(change: (keys: KeyRecord[]) => KeyRecord[]): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const { keys, etag } = await this.read();
      const text = JSON.stringify({ formatVersion: FORMAT_VERSION, keys: change(keys) });
      try {
        const condition = etag === undefined ? { ifNoneMatch: '*' as const } : { ifMatch: etag };
        await this.store.put(KEYS, Buffer.from(text), { contentType: 'application/json', ...condition });
        return;
      } catch (error) {
        if (!(error instanceof StoreError && error.code === 'CONFLICT') || attempt === MOST_ATTEMPTS) throw error;
      }
    }
  }
}

function mustBeUsable({ id, revokedAt }: KeyRecord): void {
  if (revokedAt !== undefined) throw new ConfigError(`The key "${id}" is revoked; create another one.`);
}

function parse(bytes: Uint8Array): KeyRecord[] {
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(bytes).toString());
  } catch {
    throw unreadable('is not JSON');
  }
  const parsed = file.safeParse(json);
  if (!parsed.success) throw unreadable('is not a file of keys that this release reads');
  return parsed.data.keys;
}

function unreadable(what: string): ConfigError {
  return new ConfigError(`${KEYS} in the store ${what}. Restore it from a copy, or use the release that wrote it.`);
}
