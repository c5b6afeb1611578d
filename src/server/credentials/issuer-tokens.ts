/** JWTs of the customer's identity provider: what it says of a caller is believed, once its signature is. */

import { type JWTPayload, jwtVerify, type JWTVerifyGetKey } from 'jose';
import { isScope, isTenant, type Principal } from '../../sessions/index.js';

/** Of public keys only: a token that is signed with a public key as if it were a secret is none. */
const ALGORITHMS = ['EdDSA', 'ES256', 'RS256'];
/** Between the clocks of the provider and of this machine. */
const SKEW_SECONDS = 60;
/** More than a header can carry, with the default settings. */
const LONGEST = 16 * 1024;
const LONGEST_SUBJECT = 255;
const MOST_SCOPES = 1000;
const FORM = /^[\w-]+\.[\w-]+\.[\w-]+$/;

export interface IssuerTokenOptions {
  issuer: string;
  audience: string[];
  tenantClaim: string;
  scopeClaim: string;
  find: JWTVerifyGetKey;
  /** Milliseconds since 1970. */
  now?: () => number;
}

export class IssuerTokens {
  constructor(private readonly options: IssuerTokenOptions) {}

  /** Undefined for what is none of the provider's, is over, is for others, or does not say who calls. */
  async read(text: string): Promise<(Principal & { expires: Date }) | undefined> {
    if (text.length > LONGEST) return undefined;
    const { issuer, audience, find, now = Date.now } = this.options;
    try {
      const { payload } = await jwtVerify(text, find, {
        ...{ algorithms: ALGORITHMS, issuer, audience, clockTolerance: SKEW_SECONDS },
        requiredClaims: ['exp', 'sub'],
        currentDate: new Date(now()),
      });
      return this.principal(payload);
    } catch {
      return undefined;
    }
  }

  private principal(payload: JWTPayload): (Principal & { expires: Date }) | undefined {
    const { sub, exp = 0 } = payload;
    const tenant = own(payload, this.options.tenantClaim);
    const scopes = scopesOf(own(payload, this.options.scopeClaim));
    const expires = new Date((exp + SKEW_SECONDS) * 1000);
    if (typeof tenant !== 'string' || !isTenant(tenant) || !scopes || Number.isNaN(expires.getTime())) return undefined;
    if (typeof sub !== 'string' || sub === '' || sub.length > LONGEST_SUBJECT) return undefined;
    const known = new Set(scopes.filter(isScope));
    // Many providers know the word, and mean something of their own by it.
    known.delete('admin');
    return { tenant, subject: `jwt:${sub}`, scopes: known, expires };
  }
}

/** What no prototype has. */
function own(payload: JWTPayload, claim: string): unknown {
  return Object.hasOwn(payload, claim) ? payload[claim] : undefined;
}

/** None where the token does not speak of them; undefined where it does so in another way. */
function scopesOf(claim: unknown): string[] | undefined {
  if (claim === undefined) return [];
  const scopes: unknown = typeof claim === 'string' ? claim.split(' ') : claim;
  if (!Array.isArray(scopes) || scopes.length > MOST_SCOPES) return undefined;
  return scopes.every((scope) => typeof scope === 'string') ? scopes : undefined;
}

/** Whether it is meant to be one, right or wrong. */
export function looksLikeJwt(text: string): boolean {
  return FORM.test(text);
}
