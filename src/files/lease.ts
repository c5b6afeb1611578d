/**
 * A file that keeps others away while a living process is at work. Its holder writes it anew all the time; what was not
 * written for long was left behind by a process that died. Times are those of the file system, so clocks need not agree,
 * and process numbers mean nothing, so containers may share the directory.
 */

import { randomUUID } from 'node:crypto';
import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface LeaseTimes {
  renewMs: number;
  deadMs: number;
}

export const LEASE_TIMES: LeaseTimes = { renewMs: 5_000, deadMs: 60_000 };

/** A token that no two leases share, and for people whose it is; nothing yet, when its maker died on the way. */
const CONTENT = /^(?:[0-9a-f-]{36}(?: (?<holder>process \d+ on .*))?)?$/;

export class Lease {
  private readonly lostController = new AbortController();
  private readonly timer: NodeJS.Timeout;
  private renewing: Promise<void> = Promise.resolve();

  private constructor(
    private readonly path: string,
    private readonly content: string,
    { renewMs }: LeaseTimes,
  ) {
    this.timer = setInterval(() => void (this.renewing = this.renew()), renewMs);
    this.timer.unref();
  }

  /** Aborted when somebody took this process for dead. */
  get lost(): AbortSignal {
    return this.lostController.signal;
  }

  /** `undefined` when a living process holds it; rejects when what is at the path is no lease. */
  static async take(path: string, times: LeaseTimes = LEASE_TIMES): Promise<Lease | undefined> {
    const content = `${randomUUID()} process ${process.pid} on ${hostname()}`;
    for (;;) {
      try {
        await writeFile(path, content, { flag: 'wx' });
        return new Lease(path, content, times);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      if (!(await bury(path, times))) return undefined;
    }
  }

  /** The same, but of one whose holder gives no sign of life it waits until that is certain. */
  static async takeFromSilent(path: string, times: LeaseTimes): Promise<Lease | undefined> {
    const before = await writtenAt(path);
    for (;;) {
      const lease = await Lease.take(path, times);
      if (lease) return lease;
      if (before !== undefined && (await writtenAt(path)) !== before) return undefined;
      await sleep(times.renewMs / 2);
    }
  }

  async release(): Promise<void> {
    clearInterval(this.timer);
    await this.renewing;
    if (!this.lost.aborted && (await this.isMine())) await rm(this.path, { force: true });
  }

  private async renew(): Promise<void> {
    try {
      if (await this.isMine()) await writeFile(this.path, this.content, { flag: 'r+' });
      else this.lose();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') this.lose();
    }
  }

  private lose(): void {
    clearInterval(this.timer);
    this.lostController.abort(new Error(`${this.path} was taken over by another process.`));
  }

  private async isMine(): Promise<boolean> {
    return (await readFile(this.path, 'utf8').catch(() => '')) === this.content;
  }
}

/** Whether a living process holds the lease at a path. */
export async function isAlive(path: string, { deadMs }: LeaseTimes = LEASE_TIMES): Promise<boolean> {
  const written = await writtenAt(path);
  return written !== undefined && (await now(dirname(path))) - written < deadMs;
}

/** Whose lease it is, for people. */
export async function holderOf(path: string): Promise<string> {
  const content = await readFile(path, 'utf8').catch(() => '');
  return CONTENT.exec(content)?.groups?.['holder'] ?? 'another process';
}

/**
 * Removes what a dead process left behind; false when it is alive after all, or somebody else is at it.
 *
 * Whoever makes the file that is named after the dead lease may remove it, and nobody else: one who saw it dead long ago
 * cannot remove what has come in its place.
 */
async function bury(path: string, times: LeaseTimes): Promise<boolean> {
  if (await isAlive(path, times)) return false;
  const dead = await readFile(path, 'utf8').catch(() => undefined);
  if (dead === undefined) return true;
  if (!CONTENT.test(dead)) {
    throw new Error(`${path} is not a lock of this program. Remove it if nothing needs it.`);
  }
  const grave = `${path}.${dead.slice(0, 36) || 'unnamed'}`;
  try {
    await writeFile(grave, '', { flag: 'wx' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    if (await isAlive(grave, times)) return false;
    await rm(grave, { force: true });
    return true;
  }
  try {
    const still = await readFile(path, 'utf8').catch(() => undefined);
    if (still === dead && !(await isAlive(path, times))) await rm(path, { force: true });
    return true;
  } finally {
    await rm(grave, { force: true });
  }
}

async function writtenAt(path: string): Promise<number | undefined> {
  return stat(path).then(
    ({ mtimeMs }) => mtimeMs,
    () => undefined,
  );
}

async function now(directory: string): Promise<number> {
  const path = join(directory, `.clock-${randomUUID()}`);
  await writeFile(path, '');
  try {
    return (await stat(path)).mtimeMs;
  } finally {
    await rm(path, { force: true });
  }
}
