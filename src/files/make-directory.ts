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
      if (await isDirectory(place)) return first;
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || tries === MOST_TRIES) throw error;
      first = (await makeDirectory(dirname(place), mode)) ?? first;
    }
  }
}

async function isDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
