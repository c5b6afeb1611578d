/** Who asks: what every operation knows of its caller, whichever credential said so. */

import { DomainError } from '../errors.js';
import type { Allowance } from './quota.js';

/** What a caller may do; each with what it covers. */
export const SCOPES = {
  'session:create': 'create sessions',
  'session:watch':
    'read a session with its prompts, follow its stream, say what is seen, get the addresses of its media',
  'session:prompt': 'switch prompts',
  'session:control': 'pause, resume, stop and delete a session, make artifacts and exports',
  'session:fork': 'fork a session',
  'session:list': 'list sessions',
  'models:read': 'read which models there are',
  admin: 'all of that in every tenant, and what concerns the service itself',
} as const;

export type Scope = keyof typeof SCOPES;

export const ALL_SCOPES = Object.keys(SCOPES) as Scope[];

export function isScope(text: string): text is Scope {
  return Object.hasOwn(SCOPES, text);
}

/** Sessions of releases without tenants, and of whoever has none, are of this one. */
export const DEFAULT_TENANT = 'default';

const TENANT = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** 1 to 64 letters, digits, `.`, `_` and `-`, the first of them a letter or a digit. */
export function isTenant(text: string): boolean {
  return TENANT.test(text);
}

export interface Principal {
  tenant: string;
  /** Within the tenant: the same whenever the same caller asks. */
  subject: string;
  scopes: ReadonlySet<Scope>;
  /** Nothing is answered to it from then on. */
  expires?: Date;
  /** The one session that it reaches; every one of its tenant when absent. */
  sessionId?: string;
  /** The API key that it is, or that made it, where that has bounds of its own. */
  key?: { id: string; allowance: Allowance };
}

/** What a caller hands on: some of its scopes, for one session. */
export interface Delegate {
  tenant: string;
  sessionId: string;
  scopes: ReadonlySet<Scope>;
}

/** What concerns one session. */
export const DELEGABLE: readonly Scope[] = [
  'session:watch',
  'session:prompt',
  'session:control',
  'session:fork',
  'models:read',
];

/** Whoever runs the service. Idempotency keys are shared by all who are it, as before there were callers. */
export const OPERATOR: Principal = {
  tenant: DEFAULT_TENANT,
  subject: 'operator',
  scopes: new Set(ALL_SCOPES),
};

export function maySee(principal: Principal, scope: Scope): boolean {
  return principal.scopes.has('admin') || principal.scopes.has(scope);
}

/** FORBIDDEN, naming the scope that is missing. */
export function mustHaveScope(principal: Principal, scope: Scope): void {
  if (maySee(principal, scope)) return;
  throw new DomainError(
    'FORBIDDEN',
    `This needs the scope ${scope} (${SCOPES[scope]}), which your credential does not have; ask for one that has it.`,
  );
}

/** Who asked for a session to be made: travels with the request. */
export interface Caller {
  tenant: string;
  subject: string;
}

/** Nobody in particular for the operator: what was made before there were callers stays found. */
export function callerOf({ tenant, subject }: Principal): Caller | undefined {
  return tenant === DEFAULT_TENANT && subject === OPERATOR.subject ? undefined : { tenant, subject };
}

/** One text for one caller, whatever the names are. */
export function callerKey(caller: Caller | undefined): string {
  return caller === undefined ? '' : JSON.stringify([caller.tenant, caller.subject]);
}

/** As it is stored: nothing for the tenant that was there before there were tenants. */
export function storedTenant(tenant: string | undefined): { tenant?: string } {
  return tenant === undefined || tenant === DEFAULT_TENANT ? {} : { tenant };
}

export function tenantOf({ tenant }: { tenant?: string }): string {
  return tenant ?? DEFAULT_TENANT;
}
