/** Prompts that were sent, to be recalled; and the one that is being written, which outlives the page. */
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

export const draft = (): string => sessionStorage.getItem(DRAFT) ?? '';
export const keepDraft = (text: string): void => keep(sessionStorage, DRAFT, text);

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
