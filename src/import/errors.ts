/** A source of weights that cannot be used; the message says what is wrong and, where there is one, the way out. */
export class ImportError extends Error {
  override readonly name = 'ImportError';
}

/** The same with the file it happened in; used around whole readers, so that inner messages need not repeat it. */
export async function inFile<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ImportError) || error.message.startsWith(path)) throw error;
    error.message = `${path}: ${error.message}`;
    throw error;
  }
}

/** Of many names the first ones are told. */
const TOLD = 8;

/** Names, a line each. */
export function listed(names: readonly string[], indent = '    '): string {
  const lines = names.slice(0, TOLD).map((name) => `${indent}${name}`);
  const more = names.length - TOLD;
  return [...lines, ...(more > 0 ? [`${indent}… and ${more} more`] : [])].join('\n');
}
