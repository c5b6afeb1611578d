/** API keys, `ll_<id>_<secret>`: what is kept of them is a hash, so whoever reads the store has none. */

import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import { ALL_SCOPES, isTenant, type Principal, type Scope } from '../../sessions/index.js';

const KEY = /^ll_([0-9a-hjkmnp-tv-z]{12})_([\w-]{43})$/;
const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';

/** How much it may be used, beside what its tenant may. */
const limits = z.looseObject({
  creations: z.int().min(1).optional(),
  prompts: z.int().min(1).optional(),
  cost: z.int().min(1).optional(),
});

/** Of one key; a second one while it is replaced. */
const secret = z.strictObject({ hash: z.string().regex(/^[0-9a-f]{64}$/), createdAt: z.iso.datetime() });

export const keyRecord = z.looseObject({
  id: z.string(),
  tenant: z.string().refine(isTenant),
  name: z.string().optional(),
  /** A scope of a later release is none here. */
  scopes: z.array(z.string()),
  /** The newest first. */
  secrets: z.array(secret).max(2),
  createdAt: z.iso.datetime(),
  limits: limits.optional(),
  expiresAt: z.iso.datetime().optional(),
  revokedAt: z.iso.datetime().optional(),
});

export type KeyRecord = z.output<typeof keyRecord>;

export interface KeyParts {
  id: string;
  secret: string;
}

export function parseKey(text: string): KeyParts | undefined {
  const [, id, secret] = KEY.exec(text) ?? [];
  return id === undefined || secret === undefined ? undefined : { id, secret };
}

/** Whether it is meant to be one, right or wrong. */
export function looksLikeKey(text: string): boolean {
  return text.startsWith('ll_');
}

export function newKeyId(): string {
  return Array.from(randomBytes(12), (byte) => ALPHABET[byte & 31]).join('');
}

/** The key, which is told once, and what is kept of it. */
export function newSecret(id: string, now: Date): { key: string; kept: KeyRecord['secrets'][number] } {
  const text = randomBytes(32).toString('base64url');
  return { key: `ll_${id}_${text}`, kept: { hash: hashOf(text), createdAt: now.toISOString() } };
}

/** Secrets have 256 bits of chance: one round of a fast hash is enough. */
export function hashOf(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}

/** Which of its secrets it is. Takes the same time whatever is wrong. */
export function matchingSecret({ secrets }: Pick<KeyRecord, 'secrets'>, secret: string): string | undefined {
  const given = Buffer.from(hashOf(secret));
  let found: string | undefined;
  for (const { hash } of secrets) if (timingSafeEqual(Buffer.from(hash), given)) found = hash;
  return found;
}

export type KeyState = 'active' | 'expired' | 'revoked';

export function stateOf({ revokedAt, expiresAt }: KeyRecord, now: number): KeyState {
  if (revokedAt !== undefined) return 'revoked';
  return expiresAt !== undefined && Date.parse(expiresAt) <= now ? 'expired' : 'active';
}

/** Whose bounds also hold for what it makes. */
export function boundsOfKey({ id, limits }: KeyRecord): Pick<Principal, 'key'> {
  return limits ? { key: { id, allowance: limits } } : {};
}

export function principalOfKey(record: KeyRecord): Principal {
  const { id, tenant, scopes, expiresAt } = record;
  return {
    tenant,
    subject: `key:${id}`,
    scopes: new Set(scopes.filter((scope): scope is Scope => (ALL_SCOPES as string[]).includes(scope))),
    ...(expiresAt !== undefined && { expires: new Date(expiresAt) }),
    ...boundsOfKey(record),
  };
}
