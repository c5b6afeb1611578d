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
    throw new ImportError(`${path}: ${error.message}`, { cause: error });
  }
}
