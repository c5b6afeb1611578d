/** How many sessions one tenant may have running at a time, at all servers together. */

import { tenantOf } from '../access/principal.js';
import { DomainError } from '../errors.js';
import type { SessionPolicy } from '../policy.js';
import type { Session } from '../session.js';

export interface Running {
  sessions: number;
  /** Those of them that run as fast as the device can. */
  fastest: number;
}

export const NONE_RUNNING: Running = { sessions: 0, fastest: 0 };

export function runningOf(tenant: string, sessions: readonly Session[]): Running {
  const own = sessions.filter((session) => tenantOf(session) === tenant);
  return { sessions: own.length, fastest: own.filter(({ pace }) => pace === 'FASTEST').length };
}

/** Of every tenant that has any: what a server tells the others. */
export function runningByTenant(sessions: readonly Session[]): Record<string, Running> {
  const tenants = new Set(sessions.map(tenantOf));
  return Object.fromEntries([...tenants].map((tenant) => [tenant, runningOf(tenant, sessions)]));
}

export function add(a: Running, b: Running): Running {
  return { sessions: a.sessions + b.sessions, fastest: a.fastest + b.fastest };
}

/** RATE_LIMIT where one more would be too many beside those that run. */
export function mustBeWithin(
  { tenantSessions, tenantFastest }: Pick<SessionPolicy, 'tenantSessions' | 'tenantFastest'>,
  newcomer: Session,
  running: Running,
  retryAfterSeconds: number,
): void {
  const beyond = (most: number, are: number) => most > 0 && are >= most;
  const refuse = (what: string) =>
    new DomainError(
      'RATE_LIMIT',
      `Your tenant may have ${what} running at a time, and has; pause or stop one, or try again in ${retryAfterSeconds} seconds.`,
      { retryAfterSeconds },
    );
  if (beyond(tenantSessions, running.sessions)) throw refuse(`${tenantSessions} sessions`);
  if (newcomer.pace === 'FASTEST' && beyond(tenantFastest, running.fastest))
    throw refuse(`${tenantFastest} sessions of the pace FASTEST`);
}
