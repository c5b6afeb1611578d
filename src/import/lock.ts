/**
 * One import at a time into a package. The lock is a file that names its process; it is made whole or not at all, and one
 * whose process is gone is taken over.
 */

import { randomUUID } from 'node:crypto';
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { z } from 'zod';
import { ImportError } from './errors.js';

const ownerSchema = z.object({ id: z.string(), pid: z.number().int().positive(), host: z.string() });
type Owner = z.infer<typeof ownerSchema>;

/** Locks that this process holds, by their ids. */
const held = new Set<string>();

/** Does the work while nobody else does any under the same path. */
export async function withLock<T>(path: string, work: () => Promise<T>): Promise<T> {
  const owner = { id: randomUUID(), pid: process.pid, host: hostname() };
  held.add(owner.id);
  try {
    await acquire(path, owner);
    try {
      return await work();
    } finally {
      if ((await ownerOf(path))?.id === owner.id) await rm(path, { force: true });
    }
  } finally {
    held.delete(owner.id);
  }
}

async function acquire(path: string, owner: Owner): Promise<void> {
  const own = `${path}.${owner.id}`;
  await writeFile(own, JSON.stringify(owner));
  try {
    // The second attempt is for a lock that somebody left behind.
    for (const last of [false, true]) {
      if (await linked(own, path)) return;
      const other = await ownerOf(path);
      if (other && (last || isAlive(other))) throw busy(path, other);
      if (other) await takeAway(path, other);
    }
    throw new ImportError(`${path} cannot be made, and what is there is not a lock; remove it.`);
  } finally {
    await rm(own, { force: true });
  }
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw new ImportError(`${to} cannot be made: ${(error as Error).message}`);
  }
}

async function ownerOf(path: string): Promise<Owner | undefined> {
  try {
    return ownerSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch {
    return undefined;
  }
}

/** A process of another machine may be alive for all that is known here. */
function isAlive({ id, pid, host }: Owner): boolean {
  if (host !== hostname()) return true;
  // The number of this process may have been somebody else's before, as in a container that started again.
  if (pid === process.pid) return held.has(id);
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Moved aside first: whoever loses this race finds that he moved nothing, or puts back what was not what he saw. */
async function takeAway(path: string, dead: Owner): Promise<void> {
  const aside = `${path}.${randomUUID()}`;
  await rename(path, aside).catch(() => undefined);
  const moved = await ownerOf(aside);
  if (moved && moved.id !== dead.id) await linked(aside, path);
  await rm(aside, { force: true });
}

function busy(path: string, { pid, host }: Owner): ImportError {
  return new ImportError(
    `Another import into the same place is running: process ${pid} on ${host}. ` +
      `Wait for it, or, if it is gone, remove ${path}.`,
  );
}
