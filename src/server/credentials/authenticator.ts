/** Who it is that sends a credential: one answer for HTTP, SSE and WebSocket. */

import { createHash, timingSafeEqual } from 'node:crypto';
import { ALL_SCOPES, DEFAULT_TENANT, OPERATOR, type Principal } from '../../sessions/index.js';
import { looksLikeKey, parseKey, principalOfKey } from './api-key.js';
import { type ClientTokens, looksLikeClientToken, type Maker } from './client-tokens.js';
import { type IssuerTokens, looksLikeJwt } from './issuer-tokens.js';
import type { KeyRing } from './key-ring.js';

/** A caller that was recognized. */
export interface Login {
  principal: Principal;
  /** Nothing was shown for it. */
  anonymous?: true;
  /** The API key that it is, which what it makes ends with. */
  maker?: Maker;
  /** False once its credential is expired or revoked: what is open for it is closed then. */
  valid(): boolean;
}

export interface AuthenticatorParts {
  /** Of the operator. */
  token: string | undefined;
  /** Those without a credential are served as well, on addresses that others reach. */
  open: boolean;
  /** Only this machine reaches the service. */
  loopback: boolean;
  keys: KeyRing;
  clientTokens: ClientTokens;
  /** Of the customer's identity provider, where there is one. */
  issuerTokens?: IssuerTokens | undefined;
  now?: () => number;
}

/** Where there are credentials, whoever has none is nobody's operator. */
const ANYBODY: Principal = {
  tenant: DEFAULT_TENANT,
  subject: 'anonymous',
  scopes: new Set(ALL_SCOPES.filter((scope) => scope !== 'admin')),
};

export class Authenticator {
  constructor(private readonly parts: AuthenticatorParts) {}

  /** Whether a caller without a credential is turned away. While the store has not told of keys, there may be some. */
  get asks(): boolean {
    const { token, open, loopback, keys, issuerTokens } = this.parts;
    if (token !== undefined) return true;
    return !open && (!loopback || issuerTokens !== undefined || keys.any !== false);
  }

  /** Whether it is not known yet who may call, because the store does not answer. */
  get undecided(): boolean {
    return this.parts.keys.any === undefined;
  }

  /** Undefined where it is not, or no longer, a credential of this service. `guessed`: what somebody made up is not even looked at. */
  async login(authorization: unknown, guessed = false): Promise<Login | undefined> {
    const given = bearer(authorization);
    if (given === undefined) return this.anonymous();
    const { token } = this.parts;
    if (token !== undefined && !guessed && same(given, token)) return { principal: OPERATOR, valid: () => true };
    if (looksLikeKey(given)) return this.byKey(given);
    if (looksLikeClientToken(given)) return this.byClientToken(given);
    if (this.parts.issuerTokens && looksLikeJwt(given)) return this.byIssuer(this.parts.issuerTokens, given);
    // Where nothing is asked for, it may have been meant for another service.
    return token === undefined && this.alone ? this.anonymous() : undefined;
  }

  private async byKey(text: string): Promise<Login | undefined> {
    const { keys } = this.parts;
    const parsed = parseKey(text);
    const use = parsed && (await keys.use(parsed));
    if (!use) return undefined;
    const { record, hash } = use;
    const maker = { id: record.id, hash };
    return { principal: principalOfKey(record), valid: () => keys.holds(maker), maker };
  }

  private async byClientToken(text: string): Promise<Login | undefined> {
    const { keys, clientTokens, now = Date.now } = this.parts;
    const read = await clientTokens.read(text);
    if (!read) return undefined;
    const { maker } = read;
    const principal = { ...read.principal, ...(maker && keys.boundsOf(maker.id)) };
    const valid = () => now() < principal.expires.getTime() && (maker === undefined || keys.holds(maker));
    return valid() ? { principal, valid } : undefined;
  }

  private async byIssuer(tokens: IssuerTokens, text: string): Promise<Login | undefined> {
    const { now = Date.now } = this.parts;
    const principal = await tokens.read(text);
    return principal && { principal, valid: () => now() < principal.expires.getTime() };
  }

  /** Whether nobody else has a credential of any kind but the operator's. */
  private get alone(): boolean {
    return this.parts.keys.any === false && !this.parts.issuerTokens;
  }

  /** Who is alone with the service is its operator; where others have credentials, that is for them to say. */
  private anonymous(): Login | undefined {
    if (this.asks) return undefined;
    return { principal: this.alone ? OPERATOR : ANYBODY, valid: () => !this.asks, anonymous: true };
  }
}

/** Of an `Authorization` value. */
function bearer(authorization: unknown): string | undefined {
  if (typeof authorization !== 'string') return undefined;
  const [, token] = /^Bearer +([\x21-\x7e]+)$/i.exec(authorization) ?? [];
  return token ?? '';
}

/** Takes the same time whatever is wrong. */
function same(given: string, expected: string): boolean {
  const digest = (value: string) => createHash('sha256').update(value).digest();
  return timingSafeEqual(digest(given), digest(expected));
}
