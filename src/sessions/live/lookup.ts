import type { Tenancy } from '../access/tenancy.js';
import { matcherOf } from '../read/search.js';
import { findRecord, findSession, loadSession, pageOfSessions, type StoredSession } from '../read/stored-sessions.js';
import type { Session } from '../session.js';
import type { Page, SessionPageOptions } from '../sessions.js';
import type { Context } from './context.js';
import type { Directory } from './directory.js';
import type { Identity } from './identity.js';
import type { Placement } from './placement.js';
import type { Remaking } from './remaking.js';

interface LookupParts {
  context: Context;
  directory: Directory;
  identity: Identity;
  placement: Placement;
  remaking: Remaking;
  tenancy: Tenancy;
}

/** Sessions as this server sees them: its own as they are now, those of others as the store has them. */
export class Lookup {
  constructor(private readonly parts: LookupParts) {}

  /** See `Sessions.session`. */
  async session(id: string, signal?: AbortSignal): Promise<Session> {
    const owned = this.owned(id);
    if (owned) return owned;
    const { context, identity } = this.parts;
    return this.seen(await identity.mustHave(loadSession(context.vault.until(signal), id)));
  }

  /** See `Sessions.sessions`. */
  page(options: SessionPageOptions): Promise<Page<Session>> {
    const { context, directory, tenancy } = this.parts;
    const vault = context.vault.until(options.signal);
    const find = async (id: string): Promise<Session | undefined> => {
      const owned = this.owned(id);
      const stored = owned ? undefined : await findSession(vault, id);
      return owned ?? (stored && this.seen(stored));
    };
    const recorded = async (id: string) => directory.at(id)?.view() ?? (await findRecord(vault, id))?.record.snapshot;
    const isOne = both(tenancy.only(options), matcherOf(vault, recorded, options));
    return pageOfSessions(vault, find, { ...options, isOne });
  }

  private owned(id: string): Session | undefined {
    const owned = this.parts.directory.at(id)?.view();
    return owned && this.parts.placement.inLine(owned);
  }

  private seen({ session }: StoredSession): Session {
    const { context, placement, remaking } = this.parts;
    const speed = placement.speedOf(session.id);
    const viewers = context.watching.viewers(session.id);
    return placement.inLine(remaking.seen({ ...session, viewers, ...(speed !== undefined && { speed }) }));
  }
}

type Test = ((id: string) => Promise<boolean>) | undefined;

function both(first: Test, second: Test): Test {
  if (!first || !second) return first ?? second;
  return async (id) => (await first(id)) && (await second(id));
}
