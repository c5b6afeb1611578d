/** Sessions that go, because somebody asks for it or they were kept long enough: ended first, then deleted. */

import type { DeletedSession, Sessions } from '../sessions.js';
import { Deletions, endFirst } from '../stored/deletion.js';
import { Retention } from '../stored/retention.js';
import type { Context } from './context.js';
import type { Directory } from './directory.js';

export class Removal {
  private readonly deletions: Deletions;
  private begun = false;

  constructor(
    private readonly context: Context,
    private readonly directory: Directory,
    private readonly sessions: Sessions,
  ) {
    this.deletions = new Deletions(context);
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
    void new Retention({ ...this.context, sessions: this.sessions }).run(signal);
  }

  /** Resolves when nothing is being removed. */
  settled(): Promise<void> {
    return this.deletions.settled();
  }
}
