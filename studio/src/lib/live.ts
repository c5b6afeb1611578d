/** The service that this page is of, by the client kit. */
import { createClient, type LiveClient, UnauthorizedError } from '@longlive/client';
import { Store } from './store';

const TOKEN = 'longlive-token';

export interface Asking {
  /** Somebody waits for a token. */
  asking: boolean;
  /** The one before was refused. */
  refused: boolean;
}

/** Gives the kit the token that was kept, and asks the person for another one whenever the service refuses it. */
class TokenGate {
  readonly store = new Store<Asking>({ asking: false, refused: false });
  private begun = false;
  private last: string | undefined;
  /** One for all who wait. */
  private waiting: Promise<string> | undefined;
  private give: ((token: string) => void) | undefined;

  readonly source = (): string | undefined | Promise<string> => {
    if (!this.begun) {
      this.begun = true;
      this.last = sessionStorage.getItem(TOKEN) ?? undefined;
      return this.last;
    }
    this.store.update({ asking: true, refused: this.last !== undefined });
    this.waiting ??= new Promise((resolve) => (this.give = resolve));
    return this.waiting;
  };

  /** False for one that cannot be right: empty, or refused a moment ago. */
  enter(token: string): boolean {
    if (token === '' || token === this.last) {
      this.store.update({ refused: token !== '' });
      return false;
    }
    this.last = token;
    sessionStorage.setItem(TOKEN, token);
    this.store.update({ asking: false });
    this.waiting = undefined;
    this.give?.(token);
    return true;
  }
}

/** A token in the address, behind `#token=`, where servers do not see it: kept, and taken out of the address. */
export function takeTokenFromAddress(): void {
  const [, token] = /^#token=([^&]+)$/.exec(location.hash) ?? [];
  if (token === undefined) return;
  sessionStorage.setItem(TOKEN, decodeURIComponent(token));
  history.replaceState(null, '', location.pathname + location.search);
}

export const gate = new TokenGate();
export const live: LiveClient = createClient({ token: gate.source });

/** Does it again whenever a token was entered that the service refused, too. */
export async function withToken<Value>(work: () => Promise<Value>): Promise<Value> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof UnauthorizedError)) throw error;
    }
  }
}
