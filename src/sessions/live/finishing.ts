/** The end of a session: its artifacts are assembled, and SessionEnded says so. */

import { type Completion, failureOf, storeArtifacts } from '../stored/artifacts.js';
import type { SessionKeys } from '../stored/keys.js';
import type { SessionLog } from '../stored/log.js';
import { OwnershipLost } from '../stored/vault.js';
import { ARTIFACT_KINDS, type Session } from '../session.js';
import { isPassing } from '../stored/checksum.js';
import type { Context } from './context.js';
import { describe, type Failure } from './failure.js';

/** Between attempts to assemble the artifacts while the store fails, in milliseconds: each may read all chunks. */
const FIRST_RETRY = 5_000;
const LONGEST_RETRY = 300_000;

export interface FinishingHost {
  readonly context: Context;
  readonly keys: SessionKeys;
  readonly log: SessionLog;
  readonly session: Session;
}

/**
 * However often the store fails meanwhile, which `delayed` is told; false when `over` came first. Rejects with OwnershipLost,
 * and where the log cannot be gone on with.
 */
export async function finish(
  host: FinishingHost,
  over: AbortSignal,
  delayed: (failure: Failure) => void,
): Promise<boolean> {
  const { vault, logger } = host.context;
  for (let wait = FIRST_RETRY; !over.aborted; wait = Math.min(2 * wait, LONGEST_RETRY)) {
    try {
      await finishOnce(host);
      return true;
    } catch (error) {
      if (error instanceof OwnershipLost) throw error;
      delayed(describe(error));
      if (!isPassing(error)) throw error;
      logger.warn({ sessionId: host.session.id, error }, 'could not store artifacts; trying again');
      await vault.rest(wait, over);
    }
  }
  return false;
}

async function finishOnce(host: FinishingHost): Promise<void> {
  if (host.session.finishedAt) return;
  await logEnd(host, await complete(host));
}

/** What is damaged does not get whole by trying: without a log that can be read there are no artifacts. */
async function complete({ context, keys }: FinishingHost): Promise<Completion> {
  try {
    return await storeArtifacts(context, keys);
  } catch (error) {
    if (isPassing(error)) throw error;
    context.logger.error({ sessionId: keys.id, error }, 'cannot make artifacts from what is stored');
    return { artifacts: [], unmade: ARTIFACT_KINDS.map((kind) => ({ kind, failure: failureOf(error) })) };
  }
}

async function logEnd(host: FinishingHost, { artifacts, unmade }: Completion): Promise<void> {
  const { state, reason, failure, chunks, frames, seconds } = host.session;
  const outcome = { state, ...(reason && { reason }), ...(failure && { failure }) };
  const made = { artifacts, ...(unmade.length > 0 && { unmade }) };
  const draft = { type: 'SessionEnded', ...outcome, chunks, frames, seconds, ...made } as const;
  await host.log.append(draft, { unless: () => host.session.finishedAt !== undefined });
}
