/** Prompts that wait are given another block or text, or are taken back, as long as their block is not being made. */

import { DomainError } from '../errors.js';
import { isEnded, type MovePromptInput, type Session, type SwitchReceipt } from '../session.js';
import type { Draft, SessionLog } from '../stored/log.js';
import { checkMove } from '../plan-validation.js';
import { sameTransition } from '../validation.js';
import type { Context } from './context.js';
import { expectedBlock, mustHaveRoom, type Progress } from './prompts.js';
import { unknownWordsOf } from './switches.js';

export interface PlansHost {
  readonly context: Context;
  readonly log: SessionLog;
  readonly session: Session;
  readonly progress: Progress;
  /** What is on its way to the log, which the producer leaves alone meanwhile. */
  readonly changing: Set<string>;
  isDecided(receiptId: string): boolean;
}

export class Plans {
  private serial: Promise<unknown> = Promise.resolve();

  constructor(private readonly host: PlansHost) {}

  /** The same again changes nothing. NOT_FOUND, CONFLICT when its block is being made or it has come to its outcome. */
  move(receiptId: string, input: MovePromptInput, allowed: () => void): Promise<SwitchReceipt> {
    return this.oneAfterAnother(async () => {
      const receipt = this.find(receiptId);
      const { session, progress, context } = this.host;
      const request = checkMove(input, receipt, expectedBlock('NEXT_BLOCK', progress));
      const { prompt, mode, transition, when } = request;
      if (isThat(receipt, request)) return receipt;
      this.mustWait(receipt, allowed);
      mustBeginSomewhere(receipt, when);
      if (typeof receipt.when === 'string') mustHaveRoom(when, session.receipts, context.policy.maxPendingPrompts);
      const unknownWords = unknownWordsOf(context, session, prompt);
      return this.log(receiptId, {
        ...({ type: 'PromptMoved', receiptId, prompt, mode, when } as const),
        ...(transition && { transition }),
        expectedBlock: expectedBlock(when, progress),
        ...(unknownWords && { unknownWords }),
      });
    });
  }

  /** As of `move`. */
  cancel(receiptId: string, allowed: () => void): Promise<SwitchReceipt> {
    return this.oneAfterAnother(async () => {
      const receipt = this.find(receiptId);
      if (receipt.status === 'CANCELLED') return receipt;
      this.mustWait(receipt, allowed);
      mustBeginSomewhere(receipt, undefined);
      return this.log(receiptId, { type: 'PromptCancelled', receiptId });
    });
  }

  private async log(receiptId: string, draft: Draft): Promise<SwitchReceipt> {
    const { changing, log } = this.host;
    changing.add(receiptId);
    const before = this.find(receiptId);
    const unless = () => isEnded(this.host.session.state) || this.find(receiptId).status !== 'PENDING';
    await log.append(draft, { unless }).finally(() => changing.delete(receiptId));
    const receipt = this.find(receiptId);
    if (receipt === before || isEnded(this.host.session.state)) throw tooLate(receipt);
    return receipt;
  }

  private find(receiptId: string): SwitchReceipt {
    const receipt = this.host.session.receipts.find(({ id }) => id === receiptId);
    if (receipt) return receipt;
    throw new DomainError('NOT_FOUND', 'There is no planned prompt with this receipt in this session.', {
      field: 'receiptId',
    });
  }

  private mustWait(receipt: SwitchReceipt, allowed: () => void): void {
    allowed();
    if (receipt.status !== 'PENDING' || this.host.isDecided(receipt.id)) throw tooLate(receipt);
  }

  /** What is checked is still so when it is logged. */
  private oneAfterAnother<T>(work: () => Promise<T>): Promise<T> {
    const result = this.serial.then(work, work);
    this.serial = result.catch(() => undefined);
    return result;
  }
}

const OUTCOMES = {
  PENDING: 'is taking effect already',
  APPLIED: 'has taken effect already',
  SUPERSEDED: 'gave way to another one',
  CANCELLED: 'was cancelled',
  DISCARDED: 'did not come, because the session has ended',
} as const;

function tooLate({ status }: SwitchReceipt): DomainError {
  return new DomainError('CONFLICT', `The prompt ${OUTCOMES[status]}; plan another one.`);
}

/** A video needs a prompt from its beginning. */
function mustBeginSomewhere({ when }: SwitchReceipt, next: SwitchReceipt['when'] | undefined): void {
  if (typeof when === 'string' || when.block > 0) return;
  if (typeof next === 'object' && next.block === 0) return;
  throw new DomainError(
    'CONFLICT',
    'The prompt at the beginning stays there; give it another text, or switch to another prompt.',
  );
}

function isThat(receipt: SwitchReceipt, { prompt, mode, transition, when }: ReturnType<typeof checkMove>): boolean {
  const at = (value: SwitchReceipt['when']) => (typeof value === 'string' ? value : value.block);
  const same = receipt.prompt === prompt && receipt.mode === mode && at(receipt.when) === at(when);
  return same && sameTransition(receipt.transition, transition);
}
