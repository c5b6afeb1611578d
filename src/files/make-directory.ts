import { mkdir, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';

/** Others may delete at the same moment what is made here. */
const MOST_TRIES = 20;

/**
 * The directory and those above it, as `mkdir` with `recursive` makes them; resolves to the first one that was made. Node's own
 * tries for ever where a directory is there and denies that anything can be in it, such as /proc.
 */
export async function makeDirectory(path: string, mode?: number): Promise<string | undefined> {
  const place = resolve(path);
  let first: string | undefined;
  for (let tries = 1; ; tries++) {
    try {
      await mkdir(place, { mode });
      return first ?? place;
    } catch (error) {
      const found = await kindOf(place);
      if (found === 'directory') return first;
      const { code } = error as NodeJS.ErrnoException;
      // Deleted in between, it or what it lies in: it is made anew.
      const retried = code === 'ENOENT' || (code === 'EEXIST' && found === 'nothing');
      if (!retried || tries === MOST_TRIES) throw error;
      if (code === 'ENOENT') first = (await makeDirectory(dirname(place), mode)) ?? first;
    }
  }
}

async function kindOf(path: string): Promise<'directory' | 'nothing' | 'other'> {
  return stat(path).then(
    (found) => (found.isDirectory() ? 'directory' : 'other'),
    (error: NodeJS.ErrnoException) => (error.code === 'ENOENT' ? 'nothing' : 'other'),
  );
}
