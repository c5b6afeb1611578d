/** Whether the store is still the one in which this server began. One that is not is said to be so, and nothing is begun there. */

import { DomainError } from '../errors.js';
import type { Logger } from '../policy.js';
import { DeletedError } from '../stored/record.js';
import { type DeploymentSecret, OtherStore } from '../stored/secret.js';
import type { Standing } from './standing.js';

export class Identity {
  constructor(
    private readonly secret: DeploymentSecret,
    private readonly standing: Pick<Standing, 'lost' | 'deployment'>,
    private readonly logger: Logger,
  ) {}

  /** Rejects with OtherStore. */
  async begin(): Promise<void> {
    await this.noting(async () => {
      this.standing.deployment = await this.secret.fingerprint();
    });
    const { madeIn } = this.secret;
    this.secret.madeIn = undefined;
    const { deployment } = this.standing;
    if (madeIn === 'empty') this.logger.warn({ deployment }, NEW);
    if (madeIn === 'in use') this.logger.warn({ deployment }, OLD);
  }

  /** To be called now and then; never rejects. */
  async look(): Promise<void> {
    await this.noting(() => this.secret.confirm()).catch(() => undefined);
  }

  /** A session that is not found in another store was not deleted. */
  async mustHave<T>(found: Promise<T>): Promise<T> {
    try {
      return await found;
    } catch (error) {
      const missing = error instanceof DomainError && error.code === 'NOT_FOUND' && !(error instanceof DeletedError);
      if (missing) await this.noting(() => this.secret.confirm());
      throw error;
    }
  }

  private async noting(work: () => Promise<void>): Promise<void> {
    const before = this.standing.lost;
    try {
      await work();
      this.standing.lost = undefined;
    } catch (error) {
      if (!(error instanceof OtherStore)) throw error;
      this.standing.lost = error.message;
      if (before === undefined) this.logger.error({ error }, 'the store is not the one that it should be');
      throw error;
    }
    if (before !== undefined) this.logger.info({}, 'the store is the right one again');
  }
}

const NEW =
  'the store was empty and begins as a new one. If it should have sessions, stop the service and mount its volume, or name the right bucket. Set LONGLIVE_DEPLOYMENT to this deployment to have any other store refused';
const OLD =
  'the store has sessions, but had no deployment/secret: an earlier release made it, or it was lost. Idempotency keys that were used before are new again';
