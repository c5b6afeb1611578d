/** Requests do not wait for a store that does not answer: before the server's own limit ends them, they say so. */

import { DomainError } from './errors.js';
import type { Clock } from './ports.js';
import { OVER } from './signal.js';
import type { Vault } from './stored/vault.js';

/** Between looks at whether the store is what a late request waits for, in milliseconds. */
const LOOK = 250;

const MAY_STILL = 'It may still take effect; check the state before repeating it.';

export class AnswerDeadline {
  constructor(
    private readonly vault: Pick<Vault, 'trouble'>,
    private readonly clock: Clock,
    private readonly seconds: number,
  ) {}

  /**
   * What `work` answers; rejects with STORAGE when it takes longer than a request may wait and it is the store that is
   * waited for. The work goes on then: `late` is told what comes of it.
   */
  async answer<T>(work: Promise<T>, late: (result: T) => void = () => undefined): Promise<T> {
    const answered = new AbortController();
    try {
      return await Promise.race([work, this.giveUp(answered.signal)]);
    } catch (error) {
      if (error instanceof GaveUp) work.then(late, () => undefined);
      throw error instanceof GaveUp ? error.reason : error;
    } finally {
      answered.abort(OVER);
    }
  }

  private async giveUp(answered: AbortSignal): Promise<never> {
    await this.clock.sleep(this.seconds * 1_000, answered);
    while (!answered.aborted) {
      const { trouble } = this.vault;
      if (trouble) throw new GaveUp(new DomainError('STORAGE', `${trouble.message} ${MAY_STILL}`, { cause: trouble }));
      await this.clock.sleep(LOOK, answered);
    }
    return new Promise(() => undefined);
  }
}

class GaveUp extends Error {
  constructor(readonly reason: DomainError) {
    super(reason.message);
  }
}
