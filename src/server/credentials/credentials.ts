/** The credentials that this server takes, and what is open for them. */

import type { Logger, ObjectStore } from '../../sessions/index.js';
import { isLoopback } from '../addresses.js';
import type { ServerConfig } from '../config.js';
import { Authenticator, type Login } from './authenticator.js';
import { KeyFile } from './key-file.js';
import { KeyRing } from './key-ring.js';
import { OpenLogins } from './open-logins.js';

export class Credentials {
  private readonly opened = new OpenLogins();

  constructor(
    private readonly authenticator: Authenticator,
    private readonly keys: KeyRing,
  ) {
    keys.onChange = () => this.opened.look();
  }

  get asks(): boolean {
    return this.authenticator.asks;
  }

  get undecided(): boolean {
    return this.authenticator.undecided;
  }

  login(authorization: unknown): Promise<Login | undefined> {
    return this.authenticator.login(authorization);
  }

  /** Calls `end` when the login is not valid any more; what is answered forgets it. */
  watch(login: () => Login, end: () => void): () => void {
    return this.opened.watch(login, end);
  }

  close(): void {
    this.keys.close();
    this.opened.close();
  }
}

/** Resolves when the store has said which keys there are, or has not answered. */
export async function openCredentials(config: ServerConfig, store: ObjectStore, log: Logger): Promise<Credentials> {
  const keys = new KeyRing(new KeyFile(store), log);
  await keys.start();
  const { token, open, host } = config;
  const authenticator = new Authenticator({ token, open, loopback: isLoopback(host.toLowerCase()), keys });
  return new Credentials(authenticator, keys);
}
