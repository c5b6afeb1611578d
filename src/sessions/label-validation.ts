/** What people may say of a session, and what they may search for. */

import { invalid } from './errors.js';
import type { SessionLabel } from './session.js';
import { LIMITS } from './validation.js';

/** A title without anything in it is none. */
export function checkLabelChanges({ title, favourite }: Partial<SessionLabel>): Partial<SessionLabel> {
  if (title === undefined && favourite === undefined)
    throw invalid('title', 'Nothing to change: give a title, or favourite.');
  return {
    ...(title !== undefined && { title: title === null ? null : checkTitle(title) }),
    ...(favourite !== undefined && { favourite }),
  };
}

function checkTitle(title: string): string | null {
  const line = title.replace(/[\p{Cc}\s]+/gu, ' ').trim();
  if (/\p{Cs}/u.test(line))
    throw invalid('title', 'title has half of a character in it (a lone surrogate); leave it out.');
  const { length } = [...line];
  if (length > LIMITS.titleCharacters)
    throw invalid('title', `title must have at most ${LIMITS.titleCharacters} characters; got ${length}.`);
  return line === '' ? null : line;
}

export function checkSearch(search: string): string {
  const { length } = search;
  if (length <= LIMITS.searchCharacters) return search;
  throw invalid('search', `search must have at most ${LIMITS.searchCharacters} characters; got ${length}.`);
}
