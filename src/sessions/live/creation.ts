/** Sessions are made where there is room: here, or at another server. Where there is none, those that may wait stand in the line. */

import { DomainError } from '../errors.js';
import type { CreateSessionInput, ForkSessionInput, Session } from '../session.js';
import { checkMaxWait } from '../validation.js';
import type { Placed } from './commands.js';
import type { Making } from './making.js';
import type { Placement, Wanted } from './placement.js';

export interface CreationParts {
  placement: Placement;
  making: Making;
  session(id: string): Promise<Session>;
}

export class Creation {
  constructor(private readonly parts: CreationParts) {}

  create(asked: CreateSessionInput): Promise<Session> {
    const { placement, making } = this.parts;
    const wanted = { model: asked.model };
    return this.make(asked, (input, ifAllElseFails) =>
      placement.place(wanted, 'create', input, () => making.create(input), ifAllElseFails),
    );
  }

  fork(sessionId: string, asked: ForkSessionInput): Promise<Session> {
    const { placement, making } = this.parts;
    let parent: Wanted | undefined;
    return this.make(asked, async (input, ifAllElseFails) => {
      const here = () => making.fork(sessionId, input);
      if (!placement.hasOthers) return here();
      parent ??= await this.parts.session(sessionId);
      return placement.place(parent, 'fork', { sessionId, input }, here, ifAllElseFails);
    });
  }

  /** Where there is room now; else, if it may wait, in the line. */
  private async make<Input extends { idempotencyKey?: string; maxWaitSeconds?: number }>(
    asked: Input,
    place: (input: Omit<Input, 'maxWaitSeconds'> & Placed, last: boolean) => Promise<Session>,
  ): Promise<Session> {
    const { maxWaitSeconds, ...input } = this.parts.placement.onceAnywhere(asked);
    const mayWait = checkMaxWait(maxWaitSeconds) > 0;
    try {
      return await place(input, !mayWait);
    } catch (error) {
      if (!mayWait || !(error instanceof DomainError) || error.code !== 'AT_CAPACITY') throw error;
      return place({ ...input, maxWaitSeconds, inLine: true }, true);
    }
  }
}
