import { printable } from '../files/printable.js';

export { printable };

/** The same for what has lines of its own; what others wrote was made printable when it entered a line. */
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
