import { createRequire } from 'node:module';
import { decodeHTML } from 'entities';
import type { fix_and_explain, fix_text } from 'ftfy-js';

/** What Python's `str.isspace` and `\s` take for white space; JavaScript's `\s` differs in five characters. */
// eslint-disable-next-line no-control-regex
const WHITE_SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/g;

/** What ftfy leaves as it is. */
const PLAIN = /^[\t\n\x20-\x25\x27-\x7e]*$/;

/**
 * The reference's cleaning of prompts: ftfy's repairs (UTF-8 read as something else, quotes, ligatures, full width, control
 * characters), then HTML entities and white space.
 */
export function cleanPrompt(text: string): string {
  return simplified(repaired(text));
}

/** HTML entities (twice), then every run of white space is one space: all that texts without damage need. */
export function simplified(text: string): string {
  return unescaped(unescaped(text)).replace(WHITE_SPACE, ' ').replace(/^ | $/g, '');
}

/** Outside ASCII, and of no script that damage would not look like. */
const DOUBTFUL = /[^\0-\x7f\u3000-\u9fff\uac00-\ud7af]/g;

/**
 * Of a text with more doubtful characters, stretches that were damaged in another way than the rest are left as they are. The library
 * mends one such stretch in each of its rounds, and there may be as many of them as characters: seconds for a prompt.
 */
const MOST_DOUBTFUL = 64;

/** The library weighs five megabytes, and most prompts do not need it. */
function repaired(text: string): string {
  if (PLAIN.test(text)) return text;
  ftfy ??= createRequire(import.meta.url)('ftfy-js') as Ftfy;
  if ((text.match(DOUBTFUL) ?? []).length <= MOST_DOUBTFUL) return ftfy.fix_text(text);
  const { fix_and_explain: fix } = ftfy;
  // It heeds the option only when it explains; lines are repaired one by one, as it does itself.
  const options = { explain: true, decode_inconsistent_utf8: false };
  return text.replace(/[^\n]*\n|[^\n]+$/g, (line) => fix(line, options).text);
}

interface Ftfy {
  fix_text: typeof fix_text;
  fix_and_explain: typeof fix_and_explain;
}

let ftfy: Ftfy | undefined;

const NUMBERED = /&#(?:x([0-9a-f]+)|(\d+));?/gi;

/** As Python's `html.unescape`: references to what is no character are nothing. */
function unescaped(text: string): string {
  const valid = text.replace(NUMBERED, (reference, hex?: string, decimal?: string) =>
    isCharacter(hex === undefined ? Number(decimal) : parseInt(hex, 16)) ? reference : '',
  );
  return decodeHTML(valid);
}

/** What HTML calls an error and gives no replacement for is none. */
function isCharacter(code: number): boolean {
  const control = (code >= 1 && code <= 8) || code === 0xb || (code >= 0xe && code <= 0x1f) || code === 0x7f;
  const never = (code >= 0xfdd0 && code <= 0xfdef) || (code <= 0x10ffff && (code & 0xfffe) === 0xfffe);
  return !control && !never;
}
