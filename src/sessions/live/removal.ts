/** Sessions that go, because somebody asks for it or they were kept long enough: ended first, then deleted. */

import type { DeletedSession, Sessions } from '../sessions.js';
import { Deletions, endFirst } from '../stored/deletion.js';
import { Retention } from '../stored/retention.js';
import type { Jobs } from '../ports.js';
import type { Context } from './context.js';
import type { Directory } from './directory.js';

/** Between two rounds of retention, in milliseconds. */
const ROUND = 300_000;

export class Removal {
  private readonly deletions: Deletions;
  private begun = false;
  private readonly rounds: ((signal: AbortSignal) => Promise<void>) | undefined;

  constructor(
    private readonly context: Context,
    private readonly directory: Directory,
    private readonly sessions: Sessions,
    jobs: Jobs,
  ) {
    this.deletions = new Deletions(context);
    const retention = new Retention({ ...context, sessions });
    if (retention.keepsAll) return;
    jobs.handle('retention', 1, ({ signal }) => retention.run(signal));
    this.rounds = async (signal) => {
      while (!signal.aborted) {
        jobs.start({ kind: 'retention', key: 'round' }, { notWithin: 0.8 * ROUND });
        await context.clock.sleep(ROUND, signal);
      }
    };
  }

  /** See `Sessions.deleteSession`. */
  async delete(sessionId: string): Promise<DeletedSession> {
    await endFirst(this.sessions, sessionId, this.context);
    const { deletedAt } = await this.deletions.delete(sessionId);
    this.directory.at(sessionId)?.lose();
    return { sessionId, deletedAt };
  }

  /** Goes on until the signal. It waits for nothing that has to be written: on a full disk, this is what makes room. */
  begin(signal: AbortSignal): void {
    if (this.begun) return;
    this.begun = true;
    void this.deletions.keepOn(signal);
    void this.rounds?.(signal);
  }

  /** Resolves when nothing is being removed. */
  settled(): Promise<void> {
    return this.deletions.settled();
  }
}
