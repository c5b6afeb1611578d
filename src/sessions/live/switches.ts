/** Requests for prompts: their receipts, and that the same idempotency key gives the same one. */

import { randomUUID } from 'node:crypto';
import { DomainError } from '../errors.js';
import { isEnded, type Session, type SwitchPromptInput, type SwitchReceipt } from '../session.js';
import type { SessionLog } from '../stored/log.js';
import { checkSwitch, sameTransition, type SwitchRequest } from '../validation.js';
import type { Context } from './context.js';
import { findModel } from './required-model.js';
import { expectedBlock, mustHaveRoom, type Progress } from './prompts.js';

export interface SwitchesHost {
  readonly context: Context;
  readonly log: SessionLog;
  readonly session: Session;
  readonly progress: Progress;
  /** When receipts were asked for here, by the monotonic clock. */
  readonly askedAt: Map<string, number>;
}

export class Switches {
  /** Those that are on their way to the log, by idempotency key. */
  private readonly pending = new Map<string, Promise<SwitchReceipt>>();

  /** Those that are being logged. */
  private readonly asked = new Set<Pick<SwitchReceipt, 'status' | 'when'>>();

  constructor(private readonly host: SwitchesHost) {}

  /**
   * The receipt that the command or the input's key was given before, CONFLICT when that was for another input; else a new one, logged
   * under the id of the command that asks for it, unless `allowed` throws.
   */
  async request(id: string, input: SwitchPromptInput, allowed: () => void): Promise<SwitchReceipt> {
    const { idempotencyKey: key } = input;
    const known =
      this.find(id) ??
      (key === undefined ? undefined : (this.pending.get(key) ?? receiptOfKey(this.host.session, key)));
    if (known) return sameRequest(await known, input);
    allowed();
    const request = checkSwitch(input, expectedBlock('NEXT_BLOCK', this.host.progress));
    const { session, context } = this.host;
    mustHaveRoom(request.when, [...session.receipts, ...this.asked], context.policy.maxPendingPrompts);
    const receipt = this.append(id, request);
    if (key === undefined) return receipt;
    this.pending.set(key, receipt);
    return receipt.finally(() => this.pending.delete(key));
  }

  /** Logs what was asked for when the session was made. */
  plan(planned: SwitchRequest): Promise<SwitchReceipt> {
    return this.append(randomUUID(), planned);
  }

  private async append(
    id: string,
    { prompt, mode, transition, when, idempotencyKey }: SwitchRequest,
  ): Promise<SwitchReceipt> {
    const { log, progress, session, context } = this.host;
    const unknownWords = unknownWordsOf(context, session, prompt);
    const asked = { status: 'PENDING', when } as const;
    this.asked.add(asked);
    this.host.askedAt.set(id, context.clock.monotonic());
    const draft = {
      ...({ type: 'PromptRequested', receiptId: id, prompt, mode, when } as const),
      ...(transition && { transition }),
      expectedBlock: expectedBlock(when, progress),
      ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
      ...(unknownWords && { unknownWords }),
    };
    // What ends the session may be on its way to the log already: behind that nothing is asked for any more.
    const unless = () => isEnded(this.host.session.state) || this.find(id) !== undefined;
    await log.append(draft, { unless }).finally(() => this.asked.delete(asked));
    const receipt = this.find(id);
    if (receipt) return receipt;
    throw new DomainError('ENDED', `The session is over (${this.host.session.state}); it accepts no more prompts.`);
  }

  private find(id: string): SwitchReceipt | undefined {
    return this.host.session.receipts.find((receipt) => receipt.id === id);
  }
}

/** See `Engine.unknownWords`. */
export function unknownWordsOf({ engine }: Context, session: Session, prompt: string): readonly string[] | undefined {
  const model = findModel(engine.models(), session)?.name;
  return model === undefined ? undefined : engine.unknownWords?.(model, session, prompt);
}

export function receiptOfKey({ receipts }: Session, key: string): SwitchReceipt | undefined {
  return receipts.find(({ idempotencyKey }) => idempotencyKey === key);
}

/** The receipt, unless the input is not the one it was given for. */
export function sameRequest(receipt: SwitchReceipt, input: SwitchPromptInput): SwitchReceipt {
  // It is what somebody has made of it since.
  if (receipt.moved !== undefined) return receipt;
  const { prompt, mode = 'RECACHE', transition, when = 'NEXT_BLOCK' } = input;
  const sameText = receipt.prompt === prompt.trim() && receipt.mode === mode;
  if (sameText && sameTransition(receipt.transition, transition) && sameWhen(receipt.when, when)) return receipt;
  throw new DomainError('CONFLICT', 'This idempotency key was used for another prompt switch.');
}

function sameWhen(a: SwitchReceipt['when'], b: SwitchReceipt['when']): boolean {
  return typeof a === 'string' || typeof b === 'string' ? a === b : a.block === b.block;
}
