/** The credentials that this server takes, and what is open for them. */

import type { ClientTokenIssuer } from '../../api/index.js';
import { invalid, type Logger, type Meter, type ObjectStore, type Principal } from '../../sessions/index.js';
import { isLoopback } from '../addresses.js';
import type { ServerConfig } from '../config.js';
import { Authenticator, type Login } from './authenticator.js';
import { ClientTokens } from './client-tokens.js';
import { FailedLogins } from './failed-logins.js';
import { IssuerKeys, keySetAt } from './issuer-keys.js';
import { issuerIn } from './issuer-settings.js';
import { IssuerTokens } from './issuer-tokens.js';
import { KeyFile } from './key-file.js';
import { KeyRing } from './key-ring.js';
import { OpenLogins } from './open-logins.js';

export interface LoginOfSocket {
  login?: Login;
}

/** Short enough for the reason with which a WebSocket is closed. */
const ISSUER_SILENT = {
  code: 'UNAVAILABLE',
  message: 'The identity provider, which has the keys of its tokens, does not answer',
};

export class Credentials {
  private readonly opened = new OpenLogins();

  constructor(
    private readonly authenticator: Authenticator,
    private readonly keys: KeyRing,
    private readonly clientTokens: ClientTokens,
    private readonly failed: FailedLogins,
    private readonly issuerKeys?: IssuerKeys,
  ) {
    keys.onChange = () => this.opened.look();
  }

  get asks(): boolean {
    return this.authenticator.asks;
  }

  get undecided(): boolean {
    return this.authenticator.undecided;
  }

  /** Whether there is an identity provider, and none of its keys have been had yet. */
  get issuerSilent(): boolean {
    return this.issuerKeys?.known === false;
  }

  /** Why a caller that was not recognized may be known a moment later; for the caller. */
  get unknownYet(): { code: string; message: string } | undefined {
    if (this.undecided) return { code: 'STORAGE', message: 'The store, which has the API keys, does not answer' };
    return this.issuerSilent ? ISSUER_SILENT : undefined;
  }

  /** `address`: whose wrong credentials count. */
  async login(authorization: unknown, address?: string): Promise<Login | undefined> {
    if (address === undefined) return this.authenticator.login(authorization);
    const login = await this.authenticator.login(authorization, this.waitOf(address) !== undefined);
    if (!login && authorization !== undefined && this.unknownYet === undefined) await this.failed.note(address);
    return login;
  }

  /** Seconds for which an address that has sent too many wrong credentials is told to wait. */
  waitOf(address: string): number | undefined {
    return this.failed.waitOf(address);
  }

  /** Calls `end` when the login is not valid any more; what is answered forgets it. */
  watch(login: () => Login, end: () => void): () => void {
    return this.opened.watch(login, end);
  }

  /** What resolvers make client tokens with. `socket`: the login of a WebSocket, where it is one that asks. */
  issuer(login: Login, socket?: LoginOfSocket): ClientTokenIssuer {
    const { maker, principal } = login;
    return {
      issue: (delegate, ttlSeconds) =>
        this.clientTokens.issue(
          delegate,
          withinLifeOf(principal, ttlSeconds),
          maker && { id: maker.id, hash: maker.hash.slice(0, 16) },
        ),
      prolong: (token) => this.prolong(token, socket),
    };
  }

  private async prolong(token: string, socket: LoginOfSocket | undefined): Promise<Date> {
    const now = socket?.login?.principal;
    if (!socket || now?.sessionId === undefined)
      throw invalid(
        'token',
        'Only a WebSocket that logged in with a client token can be prolonged; log in with this one.',
      );
    const login = await this.login(`Bearer ${token}`);
    const { tenant, sessionId, expires } = login?.principal ?? {};
    if (!login || !expires || tenant !== now.tenant || sessionId !== now.sessionId)
      throw invalid(
        'token',
        'token must be a valid client token of the same session; ask your server for another one.',
      );
    socket.login = login;
    return expires;
  }

  close(): void {
    this.keys.close();
    this.issuerKeys?.close();
    this.opened.close();
  }
}

/** What it hands on ends with its own time. */
function withinLifeOf({ expires }: Principal, ttlSeconds: number): number {
  if (!expires) return ttlSeconds;
  return Math.max(1, Math.min(ttlSeconds, Math.floor((expires.getTime() - Date.now()) / 1000)));
}

/** Resolves when the store has said which keys there are, or has not answered. */
export async function openCredentials(
  config: ServerConfig & { signingKey: string },
  { store, meter, log }: { store: ObjectStore; meter: Meter; log: Logger },
): Promise<Credentials> {
  const keys = new KeyRing(new KeyFile(store), log);
  await keys.start();
  const { token, open, host } = config;
  const clientTokens = new ClientTokens(config.signingKey);
  const issuer = openIssuer(config, log);
  const authenticator = new Authenticator({
    token,
    open,
    loopback: isLoopback(host.toLowerCase()),
    keys,
    clientTokens,
    issuerTokens: issuer?.tokens,
  });
  const failed = new FailedLogins(meter, config.failedLoginsPerMinute);
  return new Credentials(authenticator, keys, clientTokens, failed, issuer?.keys);
}

function openIssuer(config: ServerConfig, log: Logger): { keys: IssuerKeys; tokens: IssuerTokens } | undefined {
  const { complete } = issuerIn(config);
  if (!complete) return undefined;
  const { jwtIssuer, jwtAudience, jwtJwks, jwtTenantClaim, jwtScopeClaim } = complete;
  const keys = new IssuerKeys(keySetAt(jwtJwks), log);
  keys.start();
  const claims = { tenantClaim: jwtTenantClaim, scopeClaim: jwtScopeClaim };
  return { keys, tokens: new IssuerTokens({ issuer: jwtIssuer, audience: jwtAudience, find: keys.find, ...claims }) };
}
