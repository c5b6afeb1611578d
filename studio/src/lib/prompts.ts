/** The prompts of a session as the page shows them, from what was stored and what happens. */
import type { PromptFacts, SessionEvent } from '@longlive/client';

export interface Prompt {
  readonly receiptId: string;
  readonly prompt: string;
  readonly unknownWords: readonly string[];
  readonly outcome: PromptFacts['outcome'];
  /** How much video there was when it was asked for; undefined where nobody here saw it. */
  readonly askedSeconds?: number | undefined;
  /** From here on it is in effect. */
  readonly seconds?: number | undefined;
  /** From here on it is shown alone. */
  readonly wholeSeconds?: number | undefined;
  readonly recacheMilliseconds?: number | undefined;
  readonly waitedMilliseconds?: number | undefined;
  /** From sending it in this page to its first picture on the screen. */
  readonly seenMilliseconds?: number | undefined;
  /** Its first picture was on this screen. */
  readonly seen?: boolean;
}

export function fromFacts(facts: readonly PromptFacts[]): Prompt[] {
  return facts.map(({ receiptId, prompt, unknownWords, outcome, applied }) => ({
    ...{ receiptId, prompt, outcome, unknownWords: unknownWords ?? [] },
    ...(applied && {
      ...{ seconds: applied.seconds, wholeSeconds: applied.wholeSeconds },
      recacheMilliseconds: applied.recacheMilliseconds,
    }),
  }));
}

/** What was stored, and what this page knows besides. Both may be ahead of the other. */
export function joined(stored: readonly Prompt[], known: readonly Prompt[]): Prompt[] {
  const mine = new Map(known.map((prompt) => [prompt.receiptId, prompt]));
  const both = stored.map((prompt) => {
    const here = mine.get(prompt.receiptId);
    mine.delete(prompt.receiptId);
    return here && here.outcome !== 'pending' ? { ...prompt, ...here } : { ...here, ...prompt };
  });
  return inOrder([...both, ...mine.values()]);
}

/** The same list where the event changes nothing in it. */
export function after(prompts: readonly Prompt[], event: SessionEvent, seconds: number): readonly Prompt[] {
  switch (event.type) {
    case 'requested': {
      const unknownWords = event.unknownWords ?? [];
      return changed(prompts, event, { unknownWords, askedSeconds: seconds });
    }
    case 'applied':
      return inOrder(
        changed(prompts, event, {
          ...{ outcome: 'applied', seconds: event.seconds, wholeSeconds: event.wholeSeconds },
          recacheMilliseconds: event.recacheMilliseconds,
          waitedMilliseconds: event.waitedMilliseconds ?? undefined,
        }),
      );
    case 'moved':
      return prompts.map((prompt) =>
        prompt.receiptId === event.receiptId ? { ...prompt, prompt: event.prompt } : prompt,
      );
    case 'superseded':
    case 'cancelled':
      return prompts.map((prompt) =>
        prompt.receiptId === event.receiptId ? { ...prompt, outcome: event.type } : prompt,
      );
    case 'ended':
      return prompts.map((prompt) => (prompt.outcome === 'pending' ? { ...prompt, outcome: 'discarded' } : prompt));
    default:
      return prompts;
  }
}

/** The prompt whose pictures are shown at the time. */
export function shownAt(prompts: readonly Prompt[], seconds: number): Prompt | undefined {
  return prompts.findLast((prompt) => prompt.seconds !== undefined && prompt.seconds <= seconds + 0.05);
}

export type Applied = Prompt & { readonly seconds: number };
export const isApplied = (prompt: Prompt): prompt is Applied => prompt.seconds !== undefined;

function changed(
  prompts: readonly Prompt[],
  { receiptId, prompt }: { receiptId: string; prompt: string },
  change: Partial<Prompt>,
): readonly Prompt[] {
  const known = prompts.some((each) => each.receiptId === receiptId);
  if (!known) return [...prompts, { receiptId, prompt, unknownWords: [], outcome: 'pending', ...change }];
  return prompts.map((each) => (each.receiptId === receiptId ? { ...each, ...change } : each));
}

/** Those that took effect by when they did; the others stay where they were asked for. */
function inOrder(prompts: readonly Prompt[]): Prompt[] {
  const applied = prompts.filter(isApplied).sort((one, other) => one.seconds - other.seconds);
  return prompts.map((prompt) => (isApplied(prompt) ? (applied.shift() as Prompt) : prompt));
}
