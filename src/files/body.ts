/** Bytes that are being fetched, for a reader who may leave at any time. */

/** Calls `end` when the reader leaves, also before the first byte: a generator that was never begun runs no `finally`. */
export function leavable(parts: AsyncGenerator<Uint8Array>, end: () => void): AsyncIterableIterator<Uint8Array> {
  const body: AsyncIterableIterator<Uint8Array> = {
    next: () => parts.next(),
    return: async () => {
      end();
      return parts.return(undefined);
    },
    [Symbol.asyncIterator]: () => body,
  };
  return body;
}

/** Gives back what stands behind bytes that nobody will read. */
export async function leave(bytes: AsyncIterable<unknown>): Promise<void> {
  await bytes[Symbol.asyncIterator]().return?.();
}
