/** Prompts that were sent, to be recalled; and the one that is being written, which outlives the page. */
import { Store } from './store';

const KEPT = 50;
const SENT = 'longlive-prompts';
const DRAFT = 'longlive-draft';

export function sentPrompts(): string[] {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(SENT) ?? '[]');
    return Array.isArray(kept) ? kept.filter((each) => typeof each === 'string') : [];
  } catch {
    return [];
  }
}

export function remember(prompt: string): void {
  const others = sentPrompts().filter((each) => each !== prompt);
  keep(localStorage, SENT, JSON.stringify([...others, prompt].slice(-KEPT)));
}

/** One text for every box of the page: what was not sent stays, wherever one goes. */
export const written = new Store<{ text: string }>({ text: read() });
written.watch(() => keep(sessionStorage, DRAFT, written.state.text));

function read(): string {
  return (globalThis as { sessionStorage?: Storage }).sessionStorage?.getItem(DRAFT) ?? '';
}

/** Where there is no room for it, it is not kept. */
function keep(storage: Storage, name: string, text: string): void {
  try {
    storage.setItem(name, text);
  } catch {
    storage.removeItem(name);
  }
}

/** What is left in the box when a text was taken that was sent from it: what was typed meanwhile. */
export function rest(box: string, sent: string): string {
  return box.startsWith(sent) ? box.slice(sent.length).trimStart() : box;
}
