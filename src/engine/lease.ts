/**
 * A file that says that a living process is at work. Its holder writes it anew all the time; what was not written for
 * long was left behind by a process that died. Times are those of the file system, so clocks need not agree.
 */

import { randomUUID } from 'node:crypto';
import { link, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

export interface LeaseTimes {
  renewMs: number;
  deadMs: number;
}

export const LEASE_TIMES: LeaseTimes = { renewMs: 5_000, deadMs: 60_000 };

export class Lease {
  private readonly lostController = new AbortController();
  private readonly timer: NodeJS.Timeout;
  private renewing: Promise<void> = Promise.resolve();

  private constructor(
    private readonly path: string,
    private readonly token: string,
    { renewMs }: LeaseTimes,
  ) {
    this.timer = setInterval(() => void (this.renewing = this.renew()), renewMs);
    this.timer.unref();
  }

  /** Aborted when somebody took this process for dead. */
  get lost(): AbortSignal {
    return this.lostController.signal;
  }

  /** `undefined` when a living process holds it. */
  static async take(path: string, times: LeaseTimes = LEASE_TIMES): Promise<Lease | undefined> {
    const token = randomUUID();
    for (;;) {
      try {
        await writeFile(path, token, { flag: 'wx' });
        return new Lease(path, token, times);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      if (!(await bury(path, token, times))) return undefined;
    }
  }

  async release(): Promise<void> {
    clearInterval(this.timer);
    await this.renewing;
    if (!this.lost.aborted && (await this.isMine())) await rm(this.path, { force: true });
  }

  private async renew(): Promise<void> {
    try {
      if (await this.isMine()) await writeFile(this.path, this.token, { flag: 'r+' });
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
    return (await readFile(this.path, 'utf8').catch(() => '')) === this.token;
  }
}

/** Whether a living process holds the lease at a path. */
export async function isAlive(path: string, { deadMs }: LeaseTimes = LEASE_TIMES): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found !== undefined && (await now(dirname(path))) - found.mtimeMs < deadMs;
}

/** Removes what a dead process left behind; false when it is alive after all. */
async function bury(path: string, token: string, times: LeaseTimes): Promise<boolean> {
  if (await isAlive(path, times)) return false;
  const grave = `${path}.${token}`;
  const moved = await rename(path, grave).then(
    () => true,
    () => false,
  );
  if (!moved) return true;
  // Somebody may have been faster, and what was moved away be the new holder's.
  const alive = await isAlive(grave, times);
  if (alive) await link(grave, path).catch(() => undefined);
  await rm(grave, { force: true });
  return !alive;
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
