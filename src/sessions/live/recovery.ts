/** Which sessions go on by themselves after their server was lost; the others rest until somebody asks for them. */

import type { StoredSession } from '../read/stored-sessions.js';
import type { Session } from '../session.js';
import type { Context } from './context.js';
import type { Presence } from './presence.js';

type Surroundings = Pick<Context, 'clock' | 'policy' | 'watching'>;

/** Whether somebody watched the session within `idleSeconds` before its last owner was lost. */
export async function wasWatched(
  { clock, policy, watching }: Surroundings,
  presence: Pick<Presence, 'loss'>,
  { record, session }: StoredSession,
): Promise<boolean> {
  const idle = policy.idleSeconds * 1_000;
  if (clock.monotonic() - watching.last(session.id) <= idle) return true;
  const loss = record.owner === null ? undefined : await presence.loss(record.owner);
  if ((loss?.file?.watched[session.id] ?? Infinity) <= idle) return true;
  const lostAt = loss?.file?.at ?? session.updatedAt.getTime();
  return record.watchedAt !== undefined && lostAt - Date.parse(record.watchedAt) <= idle;
}

/** Those that were watched, all where nobody has to, and those that go to their end at once. */
export function goesOn({ policy }: Surroundings, { pace, maxSeconds }: Session, watched: boolean): boolean {
  return watched || policy.idleSeconds <= 0 || (pace === 'FASTEST' && maxSeconds !== undefined);
}
