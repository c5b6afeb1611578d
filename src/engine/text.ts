import { decodeHTML } from 'entities';

/** What Python's `str.isspace` and `\s` take for white space; JavaScript's `\s` differs in five characters. */
// eslint-disable-next-line no-control-regex
const WHITE_SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/g;

/** The reference's cleaning of prompts: HTML entities (twice), then every run of white space is one space. */
export function cleanPrompt(text: string): string {
  const cleaned = decodeHTML(decodeHTML(text)).replace(WHITE_SPACE, ' ');
  return cleaned.replace(/^ | $/g, '');
}
