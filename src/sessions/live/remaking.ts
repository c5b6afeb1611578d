/** Files that could not be made when a session ended are made in the background, when somebody asks for it. */

import { DomainError } from '../errors.js';
import type { Job, Jobs } from '../ports.js';
import { isEnded, type Session } from '../session.js';
import { isPassing } from '../stored/checksum.js';
import { missingKinds, remakeArtifacts } from '../stored/remaking.js';
import type { Context } from './context.js';
import { untilDone } from './persistence.js';

export class Remaking {
  constructor(
    private readonly context: Pick<Context, 'vault' | 'media' | 'logger'>,
    private readonly jobs: Jobs,
    atOnce: number,
  ) {
    jobs.handle('artifacts', atOnce, ({ key, signal }) => this.make(key, signal));
  }

  /** The session, and whether it is under way here, or waits for other work. */
  seen(session: Session): Session {
    return this.jobs.find(jobOf(session.id)) ? { ...session, remaking: true } : session;
  }

  /** Begins it; nothing when nothing is missing, or it is under way. CONFLICT while the session has not ended. */
  begin(session: Session): Session {
    if (!isEnded(session.state)) {
      throw new DomainError('CONFLICT', 'The session has not ended; its artifacts are made when it does.');
    }
    if (missingKinds(session).length === 0) return session;
    this.jobs.start(jobOf(session.id));
    return this.seen(session);
  }

  private make(sessionId: string, signal: AbortSignal): Promise<void> {
    const what = 'could not make the missing artifacts of a session';
    const work = async () => {
      try {
        await remakeArtifacts(this.context, sessionId);
      } catch (error) {
        if (isPassing(error)) throw error;
        this.context.logger.warn({ sessionId, error }, what);
      }
    };
    return untilDone(work, { ...this.context, what, signal });
  }
}

const jobOf = (sessionId: string): Job => ({ kind: 'artifacts', key: sessionId });
