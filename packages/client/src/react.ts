/** `@longlive/client/react`: what a session is doing, as a hook. */
import { useCallback, useRef, useSyncExternalStore } from 'react';
import type { Outcome } from './control.js';
import type { RequestedEvent, SessionEvent } from './events.js';
import type { Session } from './session.js';
import type { State } from './state.js';

/** A prompt that somebody asked for, and what became of it so far. */
export interface WatchedPrompt extends Pick<RequestedEvent, 'receiptId' | 'prompt'> {
  readonly outcome: Outcome['status'] | 'pending';
}

export interface Watched {
  readonly state: State;
  /** Those of the time since it is watched, the oldest first. */
  readonly prompts: readonly WatchedPrompt[];
  /** How much video there is. */
  readonly seconds: number;
}

/** Watches a session as long as the component is there. Without one it is connecting. */
export function useSession(session: Session | undefined): Watched {
  const kept = useRef<{ session: Session | undefined; watched: Watched } | undefined>(undefined);
  if (kept.current?.session !== session) kept.current = { session, watched: begin(session) };
  const subscribe = useCallback(
    (changed: () => void) =>
      session?.watch((event) => {
        const now = kept.current;
        if (now?.session !== session) return;
        const watched = after(now?.watched ?? begin(session), session.state, event);
        if (watched === now?.watched) return;
        kept.current = { session, watched };
        changed();
      }) ?? (() => undefined),
    [session],
  );
  const snapshot = (): Watched => (kept.current as { watched: Watched }).watched;
  return useSyncExternalStore(subscribe, snapshot, snapshot);
}

const begin = (session: Session | undefined): Watched => ({
  state: session?.state ?? { status: 'connecting' },
  prompts: [],
  seconds: session?.facts.seconds ?? 0,
});

/** The same object where nothing changed that a page shows. */
export function after(before: Watched, state: State, event: SessionEvent | undefined): Watched {
  const seconds = event?.type === 'chunk' ? event.startSeconds + event.durationSeconds : before.seconds;
  const prompts = event ? promptsAfter(before.prompts, event) : before.prompts;
  const same = state === before.state && seconds === before.seconds && prompts === before.prompts;
  return same ? before : { state, prompts, seconds };
}

function promptsAfter(prompts: readonly WatchedPrompt[], event: SessionEvent): readonly WatchedPrompt[] {
  switch (event.type) {
    case 'requested':
      return [...prompts, { receiptId: event.receiptId, prompt: event.prompt, outcome: 'pending' }];
    case 'moved':
      return prompts.map((prompt) =>
        prompt.receiptId === event.receiptId ? { ...prompt, prompt: event.prompt } : prompt,
      );
    case 'applied':
    case 'superseded':
    case 'cancelled':
      return prompts.map((prompt) =>
        prompt.receiptId === event.receiptId ? { ...prompt, outcome: event.type } : prompt,
      );
    case 'ended':
      return prompts.map((prompt) =>
        prompt.outcome === 'pending' ? { ...prompt, outcome: 'discarded' as const } : prompt,
      );
    default:
      return prompts;
  }
}
