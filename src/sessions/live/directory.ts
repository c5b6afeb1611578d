/**
 * The sessions of this server, one entry per id: being opened, owned, or being left. Whoever wants a session that is
 * being opened or left waits until that is over, so nobody acts on one that has two owners here, or none.
 */

import type { Holding } from './holding.js';
import type { OwnedSession } from './owned.js';

type Entry =
  | { kind: 'opening'; over: Promise<void> }
  | { kind: 'owned'; session: OwnedSession; holding: Holding }
  | { kind: 'leaving'; over: Promise<void> };

export class Directory {
  private readonly entries = new Map<string, Entry>();

  /** The session if it is owned at this moment. */
  at(id: string): OwnedSession | undefined {
    const entry = this.entries.get(id);
    return entry?.kind === 'owned' ? entry.session : undefined;
  }

  owned(): OwnedSession[] {
    return [...this.entries.keys()].map((id) => this.at(id)).filter((session) => session !== undefined);
  }

  /** Resolves when no session is being opened or left. */
  async settled(): Promise<void> {
    const passing = () => [...this.entries.values()].flatMap((entry) => (entry.kind === 'owned' ? [] : [entry.over]));
    for (let over = passing(); over.length > 0; over = passing()) await Promise.all(over);
  }

  /** The session if it is owned here when what is under way has come to its end. */
  async find(id: string): Promise<OwnedSession | undefined> {
    for (let entry = this.entries.get(id); entry; entry = this.entries.get(id)) {
      if (entry.kind === 'owned') return entry.session;
      await entry.over;
    }
    return undefined;
  }

  /**
   * The session that is owned here, or that `work` opens: it answers with `undefined` when there is nothing to own. What
   * `holding` has is freed when that, or a rejection, is the outcome.
   */
  async open(
    id: string,
    holding: Holding,
    work: () => Promise<OwnedSession | undefined>,
  ): Promise<OwnedSession | undefined> {
    while (this.entries.has(id)) {
      const existing = await this.find(id);
      if (existing) return existing;
    }
    const opening = this.settle(id, holding, work);
    this.entries.set(id, { kind: 'opening', over: ended(opening) });
    return opening;
  }

  /** Ends the ownership of a session: `work` is its farewell, after which everything held for it is free. */
  async leave(id: string, session: OwnedSession, work: () => Promise<void>): Promise<void> {
    const entry = this.entries.get(id);
    if (entry?.kind !== 'owned' || entry.session !== session) return work();
    const leaving = (async () => {
      try {
        await work();
      } finally {
        await entry.holding.free();
        this.entries.delete(id);
      }
    })();
    this.entries.set(id, { kind: 'leaving', over: ended(leaving) });
    return leaving;
  }

  private async settle(
    id: string,
    holding: Holding,
    work: () => Promise<OwnedSession | undefined>,
  ): Promise<OwnedSession | undefined> {
    let session: OwnedSession | undefined;
    try {
      // The entry is there before anything of the work is done.
      await Promise.resolve();
      session = await work();
      return session;
    } finally {
      if (session && !session.gone) {
        this.entries.set(id, { kind: 'owned', session, holding });
      } else {
        await holding.free();
        this.entries.delete(id);
      }
    }
  }
}

function ended(work: Promise<unknown>): Promise<void> {
  return work.then(
    () => undefined,
    () => undefined,
  );
}
