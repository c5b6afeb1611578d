/** Random access to the bytes of a file, whole or not at all. */

import { printed } from '../files/printable.js';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { ImportError } from './errors.js';

export interface ByteSource {
  readonly size: number;
  /** Exactly the bytes from..to; an ImportError if the source has fewer. */
  read(from: number, to: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Not waited for: a pipe opens at once, and is refused. */
const READ = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);

export async function openBytes(path: string): Promise<ByteSource> {
  const file = await open(path, READ).catch((error: Error) => {
    throw new ImportError(printed`${path} cannot be opened: ${error.message}`);
  });
  const found = await file.stat();
  if (!found.isFile()) {
    await file.close();
    throw new ImportError(printed`${path} is not a file.`);
  }
  const { size } = found;
  return {
    size,
    close: () => file.close(),
    async read(from, to) {
      checkRange(from, to, size);
      // Not zeroed first; all of it is overwritten.
      const bytes = new Uint8Array(Buffer.allocUnsafeSlow(to - from).buffer);
      for (let done = 0; done < bytes.length;) {
        const { bytesRead } = await file.read(bytes, done, bytes.length - done, from + done);
        if (bytesRead === 0) throw new ImportError('The file was truncated while it was being read.');
        done += bytesRead;
      }
      return bytes;
    },
  };
}

/** A whole file that has to be small. */
export async function readSmall(path: string, most: number): Promise<Buffer> {
  const file = await openBytes(path);
  try {
    if (file.size > most)
      throw new ImportError(printed`${path} is too large: ${file.size} bytes; the limit is ${most}.`);
    return Buffer.from(await file.read(0, file.size));
  } finally {
    await file.close();
  }
}

/**
 * The same bytes for a reader that goes from front to back in small steps: it is given a page at a time.
 */
export function inPages(file: ByteSource): Pick<ByteSource, 'read'> {
  let from = 0;
  let page: Uint8Array = new Uint8Array();
  return {
    async read(begin, end) {
      if (end - begin > PAGE) return file.read(begin, end);
      if (begin < from || end > from + page.length) {
        checkRange(begin, end, file.size);
        [from, page] = [begin, await file.read(begin, Math.min(begin + PAGE, file.size))];
      }
      return page.slice(begin - from, end - from);
    },
  };
}

const PAGE = 4_096;

/** Bytes in memory; what is read is a copy. */
export function memoryBytes(bytes: Uint8Array): ByteSource {
  return {
    size: bytes.length,
    close: async () => undefined,
    async read(from, to) {
      checkRange(from, to, bytes.length);
      return new Uint8Array(bytes.subarray(from, to));
    },
  };
}

function checkRange(from: number, to: number, size: number): void {
  if (!Number.isSafeInteger(from) || !Number.isSafeInteger(to) || from < 0 || to < from || to > size) {
    throw new ImportError(printed`The file is truncated or damaged: it refers to bytes ${from} to ${to} of ${size}.`);
  }
}
