/** Sessions by what they are called, by their prompts, and by whether people want to find them again. */

import type { SessionFilter } from '../sessions.js';
import { NO_LABEL, type Session } from '../session.js';
import { isLasting } from '../stored/checksum.js';
import { keysOf } from '../stored/keys.js';
import { readLabel } from '../stored/label.js';
import { DeletedError } from '../stored/record.js';
import type { Vault } from '../stored/vault.js';
import { checkSearch } from '../label-validation.js';

type Searched = Pick<Session, 'prompt' | 'timeline'>;

/**
 * Undefined where nothing is asked for. `find`: as far as its record tells, which has the newest prompts. What cannot be read is
 * not found.
 */
export function matcherOf(
  vault: Vault,
  find: (id: string) => Promise<Searched | undefined>,
  { search, favourite }: SessionFilter,
): ((id: string) => Promise<boolean>) | undefined {
  const words = search === undefined ? [] : wordsOf(checkSearch(search));
  if (words.length === 0 && favourite === undefined) return undefined;
  return async (id) => {
    try {
      const label = await readLabel(vault, keysOf(id));
      if (favourite !== undefined && label.favourite !== favourite) return false;
      return words.length === 0 || has(words, textOf(await find(id), label));
    } catch (error) {
      if (error instanceof DeletedError || isLasting(error)) return false;
      throw error;
    }
  };
}

function textOf(session: Searched | undefined, { title } = NO_LABEL): string {
  if (!session) return '';
  return folded([title ?? '', session.prompt, ...session.timeline.map(({ prompt }) => prompt)].join('\n'));
}

function has(words: readonly string[], text: string): boolean {
  return words.every((word) => text.includes(word));
}

function wordsOf(search: string): string[] {
  return folded(search).split(/\s+/u).filter(Boolean);
}

/** Without case, and however its letters were put together. */
function folded(text: string): string {
  return text.normalize('NFKC').toLowerCase();
}
