/** Sessions that were left paused: after a while they are stopped, so that they do not stay unfinished for ever. */

import { isEnded, type Session } from '../session.js';
import { findSession } from '../read/stored-sessions.js';
import { UNFINISHED } from '../stored/keys.js';
import type { Context } from './context.js';
import type { Directory } from './directory.js';
import type { Ownership } from './ownership.js';

/** Between looks, in seconds, where nobody has to wait longer than a quarter of `abandonedSeconds` for the end. */
const LONGEST_WAIT = 3_600;

export class Abandonment {
  private readonly over = new AbortController();

  constructor(
    private readonly context: Context,
    private readonly directory: Directory,
    private readonly ownership: Pick<Ownership, 'adopt'>,
  ) {}

  close(): void {
    this.over.abort();
  }

  /** Looks now and then, until `close`. */
  async keepOn(): Promise<void> {
    const { clock, policy, logger } = this.context;
    if (policy.abandonedSeconds <= 0) return;
    const wait = Math.min(LONGEST_WAIT, policy.abandonedSeconds / 4) * 1_000;
    while (!this.over.signal.aborted) {
      await this.endAbandoned().catch((error: unknown) => {
        logger.warn({ error }, 'could not search for abandoned sessions');
      });
      await clock.sleep(wait, this.over.signal);
    }
  }

  /** One after another: each has its artifacts made. */
  private async endAbandoned(): Promise<void> {
    const { vault, logger } = this.context;
    for await (const { key } of vault.list(UNFINISHED)) {
      if (this.over.signal.aborted) return;
      const id = key.slice(UNFINISHED.length);
      await this.endIfAbandoned(id).catch((error: unknown) => {
        logger.warn({ sessionId: id, error }, 'could not stop an abandoned session');
      });
    }
  }

  private async endIfAbandoned(id: string): Promise<void> {
    const known = this.directory.at(id)?.session ?? (await findSession(this.context.vault, id))?.session;
    if (!known || !this.isAbandoned(known)) return;
    const owned = await this.ownership.adopt(id);
    if (owned && this.isAbandoned(owned.session)) await owned.abandon();
  }

  private isAbandoned({ id, state, finishedAt, updatedAt }: Session): boolean {
    const { clock, policy, watching } = this.context;
    if (state !== 'PAUSED' || finishedAt || isEnded(state) || watching.viewers(id) > 0) return false;
    return clock.now() - updatedAt.getTime() >= policy.abandonedSeconds * 1_000;
  }
}
