/** Control characters, and those that reorder or break lines: what a terminal would obey instead of showing it. */
// eslint-disable-next-line no-control-regex
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/** Text of others (a package, a file, a service) as it may be shown. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** The same for what has lines of its own. */
export function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n');
}

/** Where log lines go: JSON escapes less than a terminal obeys, and this is escaped as JSON would. */
export function logStream(out: { write(line: string): void }): { write(line: string): void } {
  return { write: (line) => out.write(printableLines(line)) };
}

/** To standard output: the only way out of a command, so that nothing of others reaches a terminal as it is. */
export function print(text: string): void {
  process.stdout.write(printableLines(text));
}

export function complain(text: string): void {
  process.stderr.write(printableLines(text));
}
