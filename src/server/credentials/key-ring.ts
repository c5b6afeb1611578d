/** The API keys as this server knows them: read again as soon as they change, so that a revoked one ends within seconds. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from '../../sessions/index.js';
import { boundsOfKey, type KeyRecord, type KeyParts, matchingSecret, stateOf } from './api-key.js';
import type { KeyFile, KeysAsStored } from './key-file.js';

/** How often it is asked whether the keys have changed, in milliseconds. */
const LOOK_EVERY = 2_000;
/** A key that is not known may be new; whatever strangers send, the store is not asked more often than this. */
const LOOK_AT_MOST_EVERY = 500;
/** How often the last use of a key is written down. */
const NOTE_EVERY = 60_000;

/** A key that was used, by one of its secrets. */
export interface KeyUse {
  record: KeyRecord;
  hash: string;
}

export class KeyRing {
  private keys: ReadonlyMap<string, KeyRecord> | undefined;
  private etag: string | undefined;
  private looking: Promise<void> | undefined;
  private lookingAgain: Promise<void> | undefined;
  private lookedAt = -Infinity;
  private troubled = false;
  private readonly noted = new Map<string, number>();
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly file: Pick<KeyFile, 'read' | 'etag' | 'noteUse'>,
    private readonly log: Logger,
    private readonly now: () => number = Date.now,
  ) {}

  /** Told after each change. */
  onChange: () => void = () => undefined;

  /** Never rejects: where the store does not answer, keys are asked for again and again. */
  async start(): Promise<void> {
    await this.look();
    this.timer = setInterval(() => void this.look(), LOOK_EVERY);
    this.timer.unref();
  }

  close(): void {
    clearInterval(this.timer);
  }

  /** Whether any key was ever made, also one that is not taken any more; undefined while the store has not said. */
  get any(): boolean | undefined {
    return this.keys && this.keys.size > 0;
  }

  /** Undefined for what is no key of this store, or is not taken any more. */
  async use({ id, secret }: KeyParts): Promise<KeyUse | undefined> {
    if (!this.keys?.has(id)) await this.lookAgain();
    const record = this.keys?.get(id);
    const hash = record && matchingSecret(record, secret);
    if (hash === undefined || stateOf(record as KeyRecord, this.now()) !== 'active') return undefined;
    this.note(id);
    return { record: record as KeyRecord, hash };
  }

  /** Whether it is still taken. */
  holds({ id, hash }: { id: string; hash?: string }): boolean {
    const record = this.keys?.get(id);
    if (!record || stateOf(record, this.now()) !== 'active') return false;
    return hash === undefined || record.secrets.some((secret) => secret.hash.startsWith(hash));
  }

  /** As `Principal` has them. */
  boundsOf(id: string): ReturnType<typeof boundsOfKey> {
    const record = this.keys?.get(id);
    return record ? boundsOfKey(record) : {};
  }

  /** All who ask meanwhile wait for the same look. */
  private lookAgain(): Promise<void> {
    const wait = Math.max(0, this.lookedAt + LOOK_AT_MOST_EVERY - this.now());
    this.lookingAgain ??= delay(wait, undefined, { ref: false })
      .then(() => this.look())
      .finally(() => (this.lookingAgain = undefined));
    return this.lookingAgain;
  }

  private look(): Promise<void> {
    this.looking ??= this.lookNow().finally(() => (this.looking = undefined));
    return this.looking;
  }

  private async lookNow(): Promise<void> {
    this.lookedAt = this.now();
    try {
      const etag = await this.file.etag();
      if (this.keys && etag === this.etag) return this.calm();
      this.take(etag === undefined ? { keys: [], etag } : await this.file.read());
      this.calm();
    } catch (error) {
      if (!this.troubled) this.log.error({ error }, 'the API keys cannot be read; the keys read last stay valid');
      this.troubled = true;
    }
  }

  private take({ keys, etag }: KeysAsStored): void {
    this.keys = new Map(keys.map((record) => [record.id, record]));
    this.etag = etag;
    this.onChange();
  }

  private calm(): void {
    if (this.troubled) this.log.info({}, 'the API keys can be read again');
    this.troubled = false;
  }

  /** Beside the answer: that it cannot be written down is no reason to refuse. */
  private note(id: string): void {
    if (this.now() - (this.noted.get(id) ?? -Infinity) < NOTE_EVERY) return;
    this.noted.set(id, this.now());
    this.file.noteUse(id).catch((error: unknown) => this.log.debug({ error }, 'the use of a key was not noted'));
  }
}
