/** What is open for a caller, sockets and streams, is closed when its credential ends. */

import type { Login } from './authenticator.js';

/** Within this a credential that expired ends what is open, in milliseconds. */
const LOOK_EVERY = 1_000;

interface Open {
  login: Login;
  end(): void;
}

export class OpenLogins {
  private readonly open = new Set<Open>();
  private readonly timer = setInterval(() => this.look(), LOOK_EVERY).unref();

  /** `end` is called once, when the login is not valid any more; the answer forgets it. */
  watch(login: () => Login, end: () => void): () => void {
    const entry: Open = {
      get login() {
        return login();
      },
      end,
    };
    this.open.add(entry);
    return () => void this.open.delete(entry);
  }

  look(): void {
    for (const entry of this.open) {
      if (entry.login.valid()) continue;
      this.open.delete(entry);
      entry.end();
    }
  }

  close(): void {
    clearInterval(this.timer);
    this.open.clear();
  }
}
