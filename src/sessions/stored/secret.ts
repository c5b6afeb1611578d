/**
 * A secret that all servers of one store share. Whoever may read the store may read it; nobody else. It also tells the store
 * from any other: what it was made into is gone where the store is, or where an empty one has taken its place.
 */

import { createHash, randomBytes } from 'node:crypto';
import { type Caller, callerKey } from '../access/principal.js';
import { DomainError } from '../errors.js';
import { randomSessionId, sessionIdOfKey, sessionIdOfOldKey } from './ids.js';
import { BY_DATE, DEPLOYMENT_SECRET } from './keys.js';
import { OwnershipLost, type Vault } from './vault.js';

/** The store is not the one that it should be. */
export class OtherStore extends DomainError {
  constructor(what: string) {
    super('STORAGE', `${what} Check that its volume is mounted, or which bucket is meant.`);
    this.name = 'OtherStore';
  }
}

export class DeploymentSecret {
  private known: Promise<string> | undefined;
  /** What the store was when the secret was made here: undefined unless it was. */
  madeIn: 'empty' | 'in use' | undefined;

  /** `expected`: the fingerprint that the operator knows of; a store without it is none to begin in. */
  constructor(
    private readonly vault: Vault,
    private readonly expected?: string,
  ) {}

  /** What a new session with this idempotency key of the caller is called; then what releases without callers called it. */
  async sessionIds(key: string | undefined, caller?: Caller): Promise<[string, ...string[]]> {
    await this.confirm();
    if (key === undefined) return [randomSessionId()];
    const id = sessionIdOfKey(await this.get(), key, callerKey(caller));
    return caller === undefined ? [id, sessionIdOfOldKey(key)] : [id];
  }

  /** Tells servers of this store from others, and tells nothing of the secret. */
  async fingerprint(): Promise<string> {
    return fingerprintOf(await this.get());
  }

  /** Rejects with OtherStore when the store has lost the secret that was read from it, or has another one, or not the one expected. */
  async confirm(): Promise<void> {
    const known = await (this.expected === undefined ? this.known : this.get());
    if (known === undefined) return;
    const stored = await this.read();
    if (stored === known) return;
    throw new OtherStore(
      stored === undefined
        ? `The store has lost ${DEPLOYMENT_SECRET}, and perhaps everything else, or an empty one has taken its place.`
        : 'The store is another one than when this server began: what is written now would be missing from either.',
    );
  }

  /** Made by who asks first. Rejects with STORAGE. */
  private get(): Promise<string> {
    this.known ??= this.load().catch((error: unknown) => {
      this.known = undefined;
      throw error;
    });
    return this.known;
  }

  private async load(): Promise<string> {
    const stored = await this.read();
    const found = stored === undefined ? undefined : fingerprintOf(stored);
    if (this.expected !== undefined && found !== this.expected) {
      const what = found === undefined ? 'has none: it is empty, or another one' : `has "${found}": it is another one`;
      throw new OtherStore(`The store should have the deployment "${this.expected}", but ${what}.`);
    }
    return stored ?? this.make();
  }

  private async read(): Promise<string | undefined> {
    const stored = await this.vault.read(DEPLOYMENT_SECRET);
    return stored && new TextDecoder().decode(stored.bytes);
  }

  private async make(): Promise<string> {
    const listed = await this.vault.list(BY_DATE).next();
    const made = randomBytes(32).toString('base64url');
    try {
      await this.vault.putOwned(DEPLOYMENT_SECRET, new TextEncoder().encode(made), undefined);
    } catch (error) {
      // Another server was faster.
      if (error instanceof OwnershipLost) return this.load();
      throw error;
    }
    this.madeIn = listed.done ? 'empty' : 'in use';
    return made;
  }
}

function fingerprintOf(secret: string): string {
  return createHash('sha256').update(`deployment ${secret}`).digest('base64url').slice(0, 16);
}
