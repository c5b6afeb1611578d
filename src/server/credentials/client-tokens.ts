/** Client tokens, for browsers: one session, some scopes, minutes. Signed, not stored; they end with the key that made them. */

import { createHmac, randomUUID } from 'node:crypto';
import { jwtVerify, SignJWT } from 'jose';
import { z } from 'zod';
import { type Delegate, isScope, isTenant, type Principal } from '../../sessions/index.js';

const PREFIX = 'llc_';
const TYPE = 'longlive-client';

/** The API key that a token was made with, and which of its secrets. */
const maker = z.strictObject({ id: z.string(), hash: z.string().min(16) });

const claims = z.looseObject({
  jti: z.string(),
  exp: z.number(),
  tenant: z.string().refine(isTenant),
  session: z.string(),
  scope: z.string(),
  maker: maker.optional(),
});

export type Maker = z.output<typeof maker>;

export interface ReadToken {
  principal: Principal & { expires: Date; sessionId: string };
  maker: Maker | undefined;
}

export class ClientTokens {
  private readonly key: Uint8Array;

  constructor(
    signingKey: string,
    private readonly now: () => number = Date.now,
  ) {
    this.key = createHmac('sha256', signingKey).update('client tokens').digest();
  }

  async issue(delegate: Delegate, ttlSeconds: number, maker?: Maker): Promise<{ token: string; expiresAt: Date }> {
    const { tenant, sessionId, scopes } = delegate;
    const expiry = Math.floor(this.now() / 1000) + ttlSeconds;
    const signed = await new SignJWT({
      tenant,
      session: sessionId,
      scope: [...scopes].join(' '),
      ...(maker && { maker }),
    })
      .setProtectedHeader({ alg: 'HS256', typ: TYPE })
      .setJti(randomUUID())
      .setExpirationTime(expiry)
      .sign(this.key);
    return { token: PREFIX + signed, expiresAt: new Date(expiry * 1000) };
  }

  /** Undefined for what is none of this service's, or is over. */
  async read(text: string): Promise<ReadToken | undefined> {
    try {
      const { payload } = await jwtVerify(text.slice(PREFIX.length), this.key, {
        ...{ algorithms: ['HS256'], typ: TYPE, currentDate: new Date(this.now()) },
        requiredClaims: ['exp', 'jti'],
      });
      const { jti, exp, tenant, session, scope, maker } = claims.parse(payload);
      const scopes = new Set(scope.split(' ').filter(isScope));
      scopes.delete('admin');
      const expires = new Date(exp * 1000);
      return { principal: { tenant, subject: `client:${jti}`, scopes, expires, sessionId: session }, maker };
    } catch {
      return undefined;
    }
  }
}

/** Whether it is meant to be one, right or wrong. */
export function looksLikeClientToken(text: string): boolean {
  return text.startsWith(PREFIX);
}
