/** Times that prompts are planned for, as blocks of their session; what the owner says of blocks, in the words that were asked with. */

import { startSecondsOf } from '../blocks.js';
import { DomainError, invalid } from '../errors.js';
import type { MovePromptInput, PlanPromptInput, Session, SwitchReceipt } from '../session.js';
import { checkPlace } from '../plan-validation.js';
import type { Delivery } from './delivery.js';

type Place = Pick<PlanPromptInput, 'atSeconds' | 'atBlock'>;

export class Planning {
  constructor(
    private readonly delivery: Pick<Delivery, 'command'>,
    private readonly session: (id: string) => Promise<Session>,
  ) {}

  async plan(id: string, { atSeconds, atBlock, ...input }: PlanPromptInput): Promise<SwitchReceipt> {
    const session = await this.session(id);
    const block = checkPlace({ atSeconds, atBlock }, session);
    if (block === undefined) throw invalid('atSeconds', 'Say when: give atSeconds or atBlock.');
    const asked = { ...input, when: { block } };
    return inTheirWords(session, { atSeconds, atBlock }, this.delivery.command(id, 'switchPrompt', asked));
  }

  async move(id: string, receiptId: string, { atSeconds, atBlock, ...input }: MovePromptInput): Promise<SwitchReceipt> {
    const session = await this.session(id);
    const block = checkPlace({ atSeconds, atBlock }, session);
    const asked = { receiptId, ...input, ...(block !== undefined && { atBlock: block }) };
    return inTheirWords(session, { atSeconds, atBlock }, this.delivery.command(id, 'movePrompt', asked));
  }

  cancel(id: string, receiptId: string): Promise<SwitchReceipt> {
    return this.delivery.command(id, 'cancelPrompt', { receiptId });
  }
}

async function inTheirWords<T>(session: Session, { atSeconds }: Place, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof DomainError) || error.field !== 'when.block') throw error;
    if (atSeconds === undefined) throw invalid('atBlock', error.message);
    const done = startSecondsOf(session, session.chunks).toFixed(2);
    throw invalid(
      'atSeconds',
      `atSeconds ${atSeconds} has passed: ${done} seconds are generated already. Choose a later time.`,
    );
  }
}
