import type { SwitchReceipt as Receipt, SwitchWhen as When, TimelineEntry as Entry } from '../sessions/index.js';
import { builder } from './builder.js';
import { weigh } from './paging.js';
import { TRANSITION, WHOLE_SECONDS } from './transition.js';

export const RecacheMode = builder.enumType('RecacheMode', {
  description: 'What a prompt switch does to the KV cache, which remembers the old prompt.',
  values: {
    RECACHE: { description: 'Rebuild it from the recent frames under the new prompt: the new story, without a cut.' },
    KEEP_CACHE: { description: 'Keep it: the smoothest and slowest change.' },
    CLEAR_CACHE: { description: 'Drop it: the new story at once, with a cut.' },
  } as const,
});

export const SwitchWhen = builder.enumType('SwitchWhen', {
  description: 'When a prompt switch takes effect.',
  values: {
    NEXT_BLOCK: { description: 'Before the next block.' },
    IMMEDIATE: { description: 'Now: the block that is being made is abandoned and made again under the new prompt.' },
    AT_BLOCK: { description: 'At the block given as `atBlock`.' },
  } as const,
});

const ReceiptStatus = builder.enumType('SwitchStatus', {
  description: 'What became of a prompt switch.',
  values: {
    PENDING: { description: 'It waits for its block.' },
    APPLIED: { description: 'It took effect; see `appliedBlock`.' },
    SUPERSEDED: { description: 'A later switch took its place before its block began.' },
    CANCELLED: { description: 'A client took it back.' },
    DISCARDED: { description: 'The session ended first.' },
  } as const,
});

export const TimelineEntry = builder.objectRef<Entry>('TimelineEntry').implement({
  description: 'A prompt that took effect.',
  fields: (t) => ({
    prompt: t.exposeString('prompt', { description: 'The prompt.' }),
    mode: t.expose('mode', { description: 'What the switch did to the KV cache.', type: RecacheMode }),
    transition: t.field({ ...TRANSITION, resolve: ({ transition }) => transition }),
    block: t.exposeInt('block', { description: 'The first block under it.' }),
    frame: t.exposeInt('frame', { description: 'The first frame under it.' }),
    seconds: t.exposeFloat('seconds', { description: 'From the start of the session.' }),
    wholeSeconds: t.float({
      description: WHOLE_SECONDS,
      resolve: ({ wholeSeconds, seconds }) => wholeSeconds ?? seconds,
    }),
    receiptId: t.id({ description: 'The receipt of the request.', resolve: ({ receiptId }) => receiptId }),
    recacheMilliseconds: t.exposeFloat('recacheMilliseconds', {
      description: 'Time spent on rebuilding the KV cache.',
    }),
  }),
});

/** The field of a receipt, and of the event that tells of it. */
export const UNKNOWN_WORDS = {
  type: ['String'] as ['String'],
  nullable: true,
  description:
    'Words of the prompt that the model was never taught: they change nothing, or not what you expect. At most 32. Null when the model does not say what it was taught, and with adapters.',
  ...weigh(32),
} as const;

export const whenName = (when: When) => (typeof when === 'object' ? 'AT_BLOCK' : when);
export const whenBlock = (when: When) => (typeof when === 'object' ? when.block : null);

export const SwitchReceipt = builder.objectRef<Receipt>('SwitchReceipt').implement({
  description:
    'A prompt that was asked for. The outcome follows in the stream, as `PromptApplied`, `PromptSuperseded` or `PromptCancelled`.',
  fields: (t) => ({
    id: t.exposeID('id', { description: 'What `PromptApplied.receiptId` and the other events say.' }),
    accepted: t.exposeBoolean('accepted', { description: 'Always true: what is refused is an error.' }),
    prompt: t.exposeString('prompt', { description: 'The prompt that was asked for.' }),
    mode: t.expose('mode', { description: 'What the switch does to the KV cache.', type: RecacheMode }),
    transition: t.field({ ...TRANSITION, resolve: ({ transition }) => transition }),
    when: t.field({
      description: 'When it was asked to take effect.',
      type: SwitchWhen,
      resolve: ({ when }) => whenName(when),
    }),
    atBlock: t.int({
      description: 'The block that was asked for, with `when: AT_BLOCK`.',
      nullable: true,
      resolve: ({ when }) => whenBlock(when),
    }),
    unknownWords: t.field({
      ...UNKNOWN_WORDS,
      resolve: ({ unknownWords }) => unknownWords && [...unknownWords],
    }),
    requestedAt: t.expose('requestedAt', { description: 'When it was asked for.', type: 'DateTime' }),
    status: t.expose('status', { type: ReceiptStatus, description: 'At the time of this answer.' }),
    expectedBlock: t.exposeInt('expectedBlock', {
      description: 'The block before which it is expected to take effect.',
    }),
    expectedFrame: t.exposeInt('expectedFrame', { description: 'The first frame of that block.' }),
    expectedSeconds: t.exposeFloat('expectedSeconds', {
      description: 'Where that block plays, from the start of the session.',
    }),
    appliedBlock: t.exposeInt('appliedBlock', {
      description: 'The block before which it took effect; null while it has not.',
      nullable: true,
    }),
    supersededBy: t.exposeID('supersededBy', { nullable: true, description: 'The id of the receipt that won.' }),
  }),
});
