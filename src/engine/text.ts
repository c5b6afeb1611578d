import { createRequire } from 'node:module';
import { decodeHTML } from 'entities';
import type { fix_text } from 'ftfy-js';

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

/** The library weighs five megabytes, and most prompts do not need it. */
function repaired(text: string): string {
  if (PLAIN.test(text)) return text;
  fix ??= (createRequire(import.meta.url)('ftfy-js') as { fix_text: typeof fix_text }).fix_text;
  return fix(text);
}

let fix: typeof fix_text | undefined;

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
