/** Prompts for a time to come: planned, moved, cancelled. */

import type { MovePromptInput, PlanPromptInput } from '../sessions/index.js';
import { builder } from './builder.js';
import type { ApiContext } from './context.js';
import {
  answering,
  ConflictError,
  ForbiddenError,
  InvalidInputError,
  NotFoundError,
  PROMPT_FAILURES,
  SessionEndedError,
  UnavailableError,
} from './errors.js';
import { localId, SESSION_ID } from './ids.js';
import { withoutNulls } from './nulls.js';
import { RecacheMode, SwitchReceipt } from './timeline.js';
import { type TransitionArgs, TransitionInput, transitionOf } from './transition.js';

const RECEIPT_ID = 'The `id` of its receipt.';
const AT_SECONDS = 'At the first block that starts at or after this time of the video.';
const AT_BLOCK = 'At this block. Instead of `atSeconds`.';

interface PlaceArgs {
  sessionId: string;
  atSeconds?: number | null;
  atBlock?: number | null;
  mode?: PlanPromptInput['mode'] | null;
  transition?: TransitionArgs | null;
}

builder.mutationField('planPrompt', (t) =>
  t.field({
    type: SwitchReceipt,
    description:
      'A prompt for a time to come, seen by every client (`PromptRequested`, `Session.planned`). Until its block is made it can be ' +
      'moved and cancelled. The same as `switchPrompt` with `when: AT_BLOCK`, by time or by block.',
    errors: { types: PROMPT_FAILURES },
    args: {
      sessionId: t.arg.id({ required: true, description: SESSION_ID }),
      prompt: t.arg.string({ required: true, description: 'What the picture shows from there on.' }),
      atSeconds: t.arg.float({ description: AT_SECONDS }),
      atBlock: t.arg.int({ description: AT_BLOCK }),
      mode: t.arg({ type: RecacheMode, defaultValue: 'RECACHE', description: 'What it does to the KV cache.' }),
      transition: t.arg({ type: TransitionInput, description: 'How it comes. Default: at once.' }),
      idempotencyKey: t.arg.string({ description: 'The same key within a session gives the same receipt.' }),
    },
    resolve: answering((_root: unknown, { sessionId, transition, ...input }: PlanArgs, { sessions }: ApiContext) =>
      sessions.planPrompt(localId('Session', sessionId, 'sessionId'), {
        ...withoutNulls(input),
        ...transitionOf(transition),
      }),
    ),
  }),
);

interface PlanArgs extends PlaceArgs {
  prompt: string;
  idempotencyKey?: string | null;
}

builder.mutationField('movePrompt', (t) =>
  t.field({
    type: SwitchReceipt,
    description:
      'Changes a prompt that waits: its time, its text, or how it comes; what is left out stays. `PromptMoved` tells every client. A ' +
      'conflict once its block is being made. Repeating it has no effect.',
    errors: { types: PROMPT_FAILURES },
    args: {
      sessionId: t.arg.id({ required: true, description: SESSION_ID }),
      receiptId: t.arg.id({ required: true, description: RECEIPT_ID }),
      prompt: t.arg.string({ description: 'Another text.' }),
      atSeconds: t.arg.float({ description: AT_SECONDS }),
      atBlock: t.arg.int({ description: AT_BLOCK }),
      mode: t.arg({ type: RecacheMode, description: 'What it does to the KV cache.' }),
      transition: t.arg({ type: TransitionInput, description: 'How it comes; null for at once.' }),
    },
    resolve: answering(
      (_root: unknown, { sessionId, receiptId, transition, ...input }: MoveArgs, { sessions }: ApiContext) =>
        sessions.movePrompt(localId('Session', sessionId, 'sessionId'), receiptId, {
          ...withoutNulls(input),
          ...changeOf(transition),
        }),
    ),
  }),
);

interface MoveArgs extends PlaceArgs {
  receiptId: string;
  prompt?: string | null;
}

function changeOf(transition: TransitionArgs | null | undefined): Pick<MovePromptInput, 'transition'> {
  return transition === null ? { transition } : transitionOf(transition);
}

builder.mutationField('cancelPrompt', (t) =>
  t.field({
    type: SwitchReceipt,
    description:
      'Takes back a prompt that waits. `PromptCancelled` tells every client. A conflict once its block is being made. Repeating it ' +
      'has no effect.',
    errors: {
      types: [InvalidInputError, ForbiddenError, NotFoundError, ConflictError, SessionEndedError, UnavailableError],
    },
    args: {
      sessionId: t.arg.id({ required: true, description: SESSION_ID }),
      receiptId: t.arg.id({ required: true, description: RECEIPT_ID }),
    },
    resolve: answering(
      (_root: unknown, { sessionId, receiptId }: { sessionId: string; receiptId: string }, { sessions }: ApiContext) =>
        sessions.cancelPrompt(localId('Session', sessionId, 'sessionId'), receiptId),
    ),
  }),
);
