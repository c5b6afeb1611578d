/** Prompts that come over several chunks: how they are asked for and told of. */

import type { Transition as Asked, TransitionInput as Input } from '../sessions/index.js';
import { builder } from './builder.js';

const BlendKind = builder.enumType('BlendKind', {
  description: 'How what lies between two prompts is found.',
  values: {
    LINEAR: { description: 'On the straight line from one to the other.' },
    SLERP: { description: 'On the arc from one to the other, word by word: nothing fades on the way.' },
  } as const,
});

const TransitionCurve = builder.enumType('TransitionCurve', {
  description: 'How far each chunk of a transition is.',
  values: {
    EVEN: { description: 'Equal steps: chunk 1 of 4 is a quarter of the way, chunk 4 is the new prompt.' },
    SCOPE: { description: 'As in daydream scope: the first chunk is still the old prompt. Needs at least 2 chunks.' },
  } as const,
});

export const TransitionInput = builder.inputType('TransitionInput', {
  description:
    'Lets a prompt come over several chunks instead of at once. The KV cache is treated as `mode` says at each of them; CLEAR_CACHE is ' +
    'not possible. A prompt that comes meanwhile goes on from what is shown by then.',
  fields: (t) => ({
    chunks: t.int({
      required: true,
      description:
        'How many, from 1 (at once) to 100; the last one is the new prompt. A chunk has `4 * Model.framesPerBlock` frames.',
    }),
    kind: t.field({ type: BlendKind, defaultValue: 'LINEAR', description: 'What lies between the prompts.' }),
    curve: t.field({ type: TransitionCurve, defaultValue: 'EVEN', description: 'How far each chunk is.' }),
  }),
});

export interface TransitionArgs {
  chunks: number;
  kind?: Input['kind'] | null;
  curve?: Input['curve'] | null;
}

/** As a part of the domain's input; nothing where there is none. */
export function transitionOf(args: TransitionArgs | null | undefined): { transition?: Input } {
  if (!args) return {};
  const { chunks, kind, curve } = args;
  return { transition: { chunks, ...(kind && { kind }), ...(curve && { curve }) } };
}

const Transition = builder.objectRef<Asked>('Transition').implement({
  description: 'A prompt that comes over several chunks.',
  fields: (t) => ({
    chunks: t.exposeInt('chunks', { description: 'How many; the last one is the new prompt.' }),
    kind: t.expose('kind', { type: BlendKind, description: 'What lies between the prompts.' }),
    curve: t.expose('curve', { type: TransitionCurve, description: 'How far each chunk is.' }),
  }),
});

/** The field of receipts, of what took effect, and of the events that tell of it. */
export const TRANSITION = {
  type: Transition,
  nullable: true,
  description: 'Over how many chunks the prompt comes; null when it comes at once.',
} as const;

export const WHOLE_SECONDS =
  'Where the prompt alone is shown, from the start of the session: behind a transition; `seconds` when it came at once.';
