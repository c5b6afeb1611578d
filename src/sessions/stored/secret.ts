/** A secret that all servers of one store share. Whoever may read the store may read it; nobody else. */

import { createHash, randomBytes } from 'node:crypto';
import { randomSessionId, sessionIdOfKey, sessionIdOfOldKey } from './ids.js';
import { DEPLOYMENT_SECRET } from './keys.js';
import { OwnershipLost, type Vault } from './vault.js';

export class DeploymentSecret {
  private known: Promise<string> | undefined;

  constructor(private readonly vault: Vault) {}

  /** What a new session with this idempotency key is called; then what earlier releases called it. */
  async sessionIds(key: string | undefined): Promise<[string, ...string[]]> {
    if (key === undefined) return [randomSessionId()];
    return [sessionIdOfKey(await this.get(), key), sessionIdOfOldKey(key)];
  }

  /** Tells servers of this store from others, and tells nothing of the secret. */
  async fingerprint(): Promise<string> {
    return createHash('sha256')
      .update(`deployment ${await this.get()}`)
      .digest('base64url')
      .slice(0, 16);
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
    const stored = await this.vault.read(DEPLOYMENT_SECRET);
    if (stored) return new TextDecoder().decode(stored.bytes);
    const made = randomBytes(32).toString('base64url');
    try {
      await this.vault.putOwned(DEPLOYMENT_SECRET, new TextEncoder().encode(made), undefined);
      return made;
    } catch (error) {
      // Another server was faster.
      if (error instanceof OwnershipLost) return this.load();
      throw error;
    }
  }
}
