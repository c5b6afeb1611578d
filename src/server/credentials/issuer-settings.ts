/** Where tokens of an identity provider come from, and what they say where. */

import { z } from 'zod';
import { isLoopback } from '../addresses.js';

/** As the token has it, letter for letter. */
const issuer = z.string().trim().min(1).max(2048).optional();
/** Names of claims may be addresses, as some providers want their own to be. */
const claim = (name: string) =>
  z
    .string()
    .regex(/^[\x21-\x7e]{1,200}$/, 'must be the name of a claim, without blanks')
    .default(name);

const audience = z
  .string()
  .transform((text) =>
    text
      .split(',')
      .map((part) => part.trim())
      .filter(Boolean),
  )
  .default([]);

export const issuerSettings = {
  jwtIssuer: issuer.describe(
    'Whose JWTs are taken as credentials: the claim iss, letter for letter; none are if not set. Needs jwtAudience and jwtJwks',
  ),
  jwtAudience: audience.describe(
    'What a JWT must be meant for: one of these must be in its claim aud; comma-separated',
  ),
  jwtJwks: z
    .string()
    .trim()
    .refine(isKeyAddress, 'must be https://…, or http://… on this machine, without user and fragment')
    .optional()
    .describe('Where the issuer publishes the keys that it signs with (JWKS)'),
  jwtTenantClaim: claim('tenant').describe(
    "The claim of a JWT that has its caller's tenant; without one it is not taken",
  ),
  jwtScopeClaim: claim('scope').describe(
    'The claim of a JWT that has its scopes: a text with blanks between them, or a list. Others than ours, and admin, do not count',
  ),
};

/** The keys are believed for having come over TLS. */
function isKeyAddress(text: string): boolean {
  if (/\s/.test(text) || !URL.canParse(text)) return false;
  const { protocol, hostname, username, password, hash } = new URL(text);
  if (username !== '' || password !== '' || hash !== '') return false;
  return protocol === 'https:' || (protocol === 'http:' && isLoopback(hostname.replace(/^\[|\]$/g, '')));
}

export interface IssuerSettings {
  jwtIssuer?: string | undefined;
  jwtAudience: string[];
  jwtJwks?: string | undefined;
}

/** All that belongs together, or nothing; what is missing where only a part is set. */
export function issuerIn<Settings extends IssuerSettings>(
  settings: Settings,
): { complete?: Settings & { jwtIssuer: string; jwtJwks: string }; missing: (keyof IssuerSettings)[] } {
  const { jwtIssuer, jwtAudience, jwtJwks } = settings;
  const given = { jwtIssuer, jwtAudience: jwtAudience.length > 0 ? jwtAudience : undefined, jwtJwks };
  const names = Object.keys(given) as (keyof IssuerSettings)[];
  const missing = names.filter((name) => given[name] === undefined);
  if (missing.length === names.length) return { missing: [] };
  if (jwtIssuer === undefined || jwtJwks === undefined || missing.length > 0) return { missing };
  return { complete: { ...settings, jwtIssuer, jwtJwks }, missing };
}
