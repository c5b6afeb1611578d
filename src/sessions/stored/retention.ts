/**
 * How long sessions are kept, where the operator says so: finished ones are deleted
 * when they are old, or when all of them need more room than there is for them. It runs beside everything else, a bounded
 * number of sessions at a time, and may run on several servers at once.
 */

import type { SessionPolicy } from '../policy.js';
import type { Logger } from '../policy.js';
import type { Clock } from '../ports.js';
import type { Session } from '../session.js';
import type { Sessions } from '../sessions.js';
import { foldLog } from './fold.js';
import { BY_DATE, idOfByDateKey, keysOf } from './keys.js';
import { readRecordOrTombstone } from './record.js';
import type { Vault } from './vault.js';

/** Sessions that one round ends at most; the next goes on. */
const MOST_PER_ROUND = 50;

export interface RetentionParts {
  vault: Vault;
  clock: Clock;
  logger: Logger;
  policy: Pick<SessionPolicy, 'keepDays' | 'keepGigabytes'>;
  sessions: Pick<Sessions, 'deleteSession'>;
}

export class Retention {
  /** Of finished sessions, which do not grow. */
  private readonly sizes = new Map<string, number>();
  private left = 0;

  constructor(private readonly parts: RetentionParts) {}

  get keepsAll(): boolean {
    const { keepDays, keepGigabytes } = this.parts.policy;
    return keepDays <= 0 && keepGigabytes <= 0;
  }

  /** One round. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    await this.round(signal).catch((error: unknown) => {
      this.parts.logger.warn({ error }, 'could not search for sessions to delete');
    });
  }

  async round(signal?: AbortSignal): Promise<void> {
    const { keepDays, keepGigabytes } = this.parts.policy;
    this.left = MOST_PER_ROUND;
    if (keepDays > 0) await this.deleteOld(keepDays * 86_400_000, signal);
    if (keepGigabytes > 0) await this.deleteBeyond(keepGigabytes * 1e9, signal);
  }

  private async deleteOld(most: number, signal?: AbortSignal): Promise<void> {
    for await (const session of this.finished()) {
      if (this.left <= 0 || signal?.aborted) return;
      if (this.parts.clock.now() - session.finishedAt.getTime() >= most)
        await this.delete(session.id, 'deleting an old session');
    }
  }

  /** The oldest go first. What is not finished counts and stays. */
  private async deleteBeyond(most: number, signal?: AbortSignal): Promise<void> {
    const { vault } = this.parts;
    const ids: string[] = [];
    for await (const { key } of vault.list(BY_DATE)) ids.push(idOfByDateKey(key));
    let total = 0;
    for (const id of ids) total += await this.sizeOf(id);
    for await (const { id } of this.finished()) {
      if (total <= most || this.left <= 0 || signal?.aborted) return;
      const size = await this.sizeOf(id);
      if (await this.delete(id, 'deleting a session to free space')) total -= size;
    }
  }

  /** By date, the oldest first. */
  private async *finished(): AsyncGenerator<{ id: string; finishedAt: Date }> {
    const ids: string[] = [];
    for await (const { key } of this.parts.vault.list(BY_DATE)) ids.push(idOfByDateKey(key));
    for (const id of ids.reverse()) {
      const finishedAt = (await this.read(id))?.finishedAt;
      if (finishedAt) yield { id, finishedAt };
    }
  }

  private async sizeOf(id: string): Promise<number> {
    const known = this.sizes.get(id);
    if (known !== undefined) return known;
    let bytes = 0;
    for await (const { size } of this.parts.vault.list(keysOf(id).prefix)) bytes += size;
    if ((await this.read(id))?.finishedAt) this.sizes.set(id, bytes);
    return bytes;
  }

  private async delete(id: string, what: string): Promise<boolean> {
    const deleted = await this.end(id, what, () => this.parts.sessions.deleteSession(id));
    if (deleted) this.sizes.delete(id);
    return deleted;
  }

  /** One that cannot be ended now keeps no other from being. */
  private async end(sessionId: string, what: string, work: () => Promise<unknown>): Promise<boolean> {
    const { logger } = this.parts;
    this.left--;
    try {
      await work();
      logger.info({ sessionId }, what);
      return true;
    } catch (error) {
      logger.warn({ sessionId, error }, `${what}, but that failed`);
      return false;
    }
  }

  /** `undefined` when there is none, or nobody can read it: what is damaged is for fsck. */
  private async read(id: string): Promise<Session | undefined> {
    const { vault, logger } = this.parts;
    try {
      const stored = await readRecordOrTombstone(vault, keysOf(id));
      return stored && 'record' in stored ? await foldLog(vault, stored.record) : undefined;
    } catch (error) {
      logger.warn({ sessionId: id, error }, 'cannot read a session');
      return undefined;
    }
  }
}
