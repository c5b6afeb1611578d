/** The end of a session: its artifacts are assembled, and SessionEnded says so. */

import { storeArtifacts } from '../stored/artifacts.js';
import type { SessionKeys } from '../stored/keys.js';
import type { SessionLog } from '../stored/log.js';
import { OwnershipLost } from '../stored/vault.js';
import type { DomainError } from '../errors.js';
import type { Artifact, Session } from '../session.js';
import { isLasting } from '../stored/checksum.js';
import type { Context } from './context.js';

/** Between attempts to assemble the artifacts while the store fails. */
const RETRY_MILLISECONDS = 30_000;

export interface FinishingHost {
  readonly context: Context;
  readonly keys: SessionKeys;
  readonly log: SessionLog;
  readonly session: Session;
}

/** However often the store fails meanwhile; false when `over` came first. Rejects with OwnershipLost. */
export async function finish(host: FinishingHost, over: AbortSignal): Promise<boolean> {
  const { clock, logger } = host.context;
  while (!over.aborted) {
    try {
      await finishOnce(host);
      return true;
    } catch (error) {
      if (error instanceof OwnershipLost) throw error;
      if (isLasting(error)) return endWithout(host, error);
      logger.warn({ sessionId: host.session.id, error }, 'could not store artifacts; trying again');
      await clock.sleep(RETRY_MILLISECONDS, over);
    }
  }
  return false;
}

/** What is damaged does not get whole by trying: the session ends without artifacts, and the log of the service says why. */
async function endWithout(host: FinishingHost, error: DomainError): Promise<boolean> {
  host.context.logger.error({ sessionId: host.session.id, error }, 'cannot make artifacts from what is stored');
  await logEnd(host, []);
  return true;
}

async function finishOnce(host: FinishingHost): Promise<void> {
  if (host.session.finishedAt) return;
  await logEnd(host, await storeArtifacts(host.context, host.keys, host.session));
}

async function logEnd(host: FinishingHost, artifacts: Artifact[]): Promise<void> {
  const { state, reason, failure, chunks, frames, seconds } = host.session;
  const outcome = { state, ...(reason && { reason }), ...(failure && { failure }) };
  const draft = { type: 'SessionEnded', ...outcome, chunks, frames, seconds, artifacts } as const;
  await host.log.append(draft, { unless: () => host.session.finishedAt !== undefined });
}
