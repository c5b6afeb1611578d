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

/** The bytes together, or undefined where there are more than that; then whoever sends them is left. */
export async function collectWithin(
  body: AsyncIterable<Uint8Array>,
  mostBytes: number,
): Promise<Buffer<ArrayBuffer> | undefined> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of body) {
    size += part.length;
    if (size > mostBytes) return undefined;
    parts.push(part);
  }
  return Buffer.concat(parts);
}
