/** Control characters, and those that reorder or break lines: what a terminal would obey instead of showing it. */
// eslint-disable-next-line no-control-regex
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/** A message of one line or more whose values may be texts of others: those are shown as `printable` has them. */
export function printed(words: TemplateStringsArray, ...values: readonly unknown[]): string {
  return String.raw({ raw: words }, ...values.map((value) => printable(String(value))));
}

/** Text of others (a package, a file, a service) as it may be shown. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
