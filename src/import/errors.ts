import { printable, printed } from '../files/printable.js';

/** A source of weights that cannot be used; the message says what is wrong and, where there is one, the way out. */
export class ImportError extends Error {
  override readonly name = 'ImportError';
}

/** The same with the file it happened in; used around whole readers, so that inner messages need not repeat it. */
export async function inFile<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const place = printable(path);
    if (!(error instanceof ImportError) || error.message.startsWith(place)) throw error;
    error.message = `${place}: ${error.message}`;
    throw error;
  }
}

/** "1 tensor", "2 tensors". */
export function counted(count: number, one: string, several = `${one}s`): string {
  return `${count} ${count === 1 ? one : several}`;
}

/** Of many names the first ones are told. */
const TOLD = 8;

/** A message of several lines, each of which is fit for a terminal. */
export function lined(...lines: string[]): string {
  return lines.filter((line) => line !== '').join('\n');
}

/** Names, a line each. */
export function listed(names: readonly string[], indent = '    ', longest?: number): string {
  const lines = names.slice(0, TOLD).map((name) => `${indent}${shown(name, longest)}`);
  const more = names.length - TOLD;
  return [...lines, ...(more > 0 ? [`${indent}… and ${more} more`] : [])].join('\n');
}

/** Printable as it is, but for what a terminal would obey, and for what is too long to be read. */
export function shown(name: string, longest = 200): string {
  return printable(name.length > longest ? `${name.slice(0, longest)}…` : name);
}

/** A text from a stranger's file, fit for a terminal. */
export function quoted(text: string): string {
  return printable(JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text));
}

/** Refuses a file for the names that it has, if there are any. */
export function refuse(path: string, problem: string, names: readonly string[], advice?: string): void {
  if (names.length === 0) return;
  throw new ImportError(lined(printed`${path} ${problem}:`, listed(names), advice ?? ''));
}
