import type { SwitchReceipt as Receipt, SwitchWhen as When, TimelineEntry as Entry } from '../sessions/index.js';
import { builder } from './builder.js';

export const RecacheMode = builder.enumType('RecacheMode', {
  description: 'What a prompt switch does to the KV cache, which remembers the old prompt.',
  values: {
    RECACHE: { description: 'Rebuild it from the recent frames under the new prompt: the new story, without a cut.' },
    KEEP_CACHE: { description: 'Keep it: the smoothest and slowest change.' },
    CLEAR_CACHE: { description: 'Drop it: the new story at once, with a cut.' },
  } as const,
});

export const SwitchWhen = builder.enumType('SwitchWhen', {
  values: {
    NEXT_BLOCK: { description: 'Before the next block.' },
    IMMEDIATE: { description: 'Now: the block that is being made is abandoned and made again under the new prompt.' },
    AT_BLOCK: { description: 'At the block given as `atBlock`.' },
  } as const,
});

const ReceiptStatus = builder.enumType('SwitchStatus', {
  values: {
    PENDING: {},
    APPLIED: {},
    SUPERSEDED: { description: 'A later switch took its place before its block began.' },
    DISCARDED: { description: 'The session ended first.' },
  } as const,
});

export const TimelineEntry = builder.objectRef<Entry>('TimelineEntry').implement({
  description: 'A prompt that took effect.',
  fields: (t) => ({
    prompt: t.exposeString('prompt'),
    mode: t.expose('mode', { type: RecacheMode }),
    block: t.exposeInt('block'),
    frame: t.exposeInt('frame'),
    seconds: t.exposeFloat('seconds', { description: 'From the start of the session.' }),
    receiptId: t.id({ description: 'The receipt of the request.', resolve: ({ requestId }) => requestId }),
    recacheMilliseconds: t.exposeFloat('recacheMilliseconds'),
  }),
});

export const whenName = (when: When) => (typeof when === 'object' ? 'AT_BLOCK' : when);
export const whenBlock = (when: When) => (typeof when === 'object' ? when.block : null);

export const SwitchReceipt = builder.objectRef<Receipt>('SwitchReceipt').implement({
  description:
    'The answer to a prompt switch. The outcome follows in the stream, as `PromptApplied` or `PromptSuperseded`.',
  fields: (t) => ({
    id: t.exposeID('id'),
    accepted: t.exposeBoolean('accepted'),
    prompt: t.exposeString('prompt'),
    mode: t.expose('mode', { type: RecacheMode }),
    when: t.field({ type: SwitchWhen, resolve: ({ when }) => whenName(when) }),
    atBlock: t.int({ nullable: true, resolve: ({ when }) => whenBlock(when) }),
    requestedAt: t.expose('requestedAt', { type: 'DateTime' }),
    status: t.expose('status', { type: ReceiptStatus, description: 'At the time of this answer.' }),
    expectedBlock: t.exposeInt('expectedBlock'),
    expectedFrame: t.exposeInt('expectedFrame'),
    expectedSeconds: t.exposeFloat('expectedSeconds'),
    appliedBlock: t.exposeInt('appliedBlock', { nullable: true }),
    supersededBy: t.exposeID('supersededBy', { nullable: true, description: 'The id of the receipt that won.' }),
  }),
});
