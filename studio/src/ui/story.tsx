import type { Planned } from '../lib/plans';
import { type Prompt } from '../lib/prompts';
import { clock, span } from './format';

interface Props {
  prompts: readonly Prompt[];
  planned: readonly Planned[];
  onSeek: (seconds: number) => void;
}

/** Every prompt, the newest first, and what became of it. */
export function Story({ prompts, planned, onSeek }: Props) {
  const times = new Map(planned.map(({ receiptId, seconds }) => [receiptId, seconds]));
  const texts = new Map(prompts.map(({ receiptId, prompt }) => [receiptId, prompt]));
  if (texts.size === 0) return null;
  return (
    <ol class="story" aria-label="Prompts">
      {prompts.toReversed().map((prompt) => (
        <li key={prompt.receiptId} class={prompt.outcome}>
          {prompt.seconds === undefined ? (
            <span class="when">{prompt.outcome === 'pending' ? '…' : '–'}</span>
          ) : (
            <button class="when" onClick={() => onSeek(prompt.seconds ?? 0)}>
              {clock(prompt.seconds)}
            </button>
          )}
          <p>{prompt.prompt}</p>
          <small>{describe(prompt, times.get(prompt.receiptId))}</small>
        </li>
      ))}
    </ol>
  );
}

function describe(prompt: Prompt, plannedSeconds: number | undefined): string {
  const { outcome, seconds, waitedMilliseconds, recacheMilliseconds, seenMilliseconds } = prompt;
  if (outcome === 'pending' && plannedSeconds !== undefined) return `planned for ${clock(plannedSeconds)}`;
  if (outcome === 'pending') return 'on its way';
  if (outcome === 'cancelled') return 'taken back';
  if (outcome === 'superseded') return 'never shown: a later prompt took its place';
  if (outcome === 'discarded') return 'never shown: the session ended before';
  const parts = [
    waitedMilliseconds !== undefined && `took effect after ${span(waitedMilliseconds)}`,
    seenMilliseconds !== undefined && `on screen after ${span(seenMilliseconds)}`,
    (seconds ?? 0) > 0 && recacheMilliseconds !== undefined && `recache ${span(recacheMilliseconds)}`,
  ];
  return parts.filter(Boolean).join(' · ');
}

/** Of the newest prompt. */
export function Unknown({ words }: { words: readonly string[] }) {
  if (words.length === 0) return null;
  return (
    <p class="unknown" role="note">
      This model was never taught: {words.map((word) => `“${word}”`).join(', ')}. Describe it in other words.
    </p>
  );
}
