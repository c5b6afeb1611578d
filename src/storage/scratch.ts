/**
 * Files on their way into a directory store. Their names say which process writes them, so that what a killed one left is
 * removed by the next that starts on the same machine; what others left is removed when nobody has written it for long.
 */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { errorCode, ignore } from './file-errors.js';

/** By the file system's clock, as all times here: a file of another machine that was not written for so long is nobody's. */
const ABANDONED_MS = 3600_000;
const OWNER = /^(?<host>[^~]+)~(?<pid>\d+)~(?<started>\d+)/;

/** `host~pid~start`: a process number alone comes again, in containers at once. */
export const OWN = `${hostname().replace(/[^\w.-]/g, '_') || 'host'}~${process.pid}~${startOf(process.pid) ?? 0}`;

/** Whether the name was given by a process of this machine that is no more. */
export function isOfTheDead(name: string): boolean {
  const { host, pid, started } = OWNER.exec(name)?.groups ?? {};
  if (host === undefined || host !== OWNER.exec(OWN)?.groups?.['host']) return false;
  const start = startOf(Number(pid));
  return start === undefined ? !isRunning(Number(pid)) : String(start) !== started;
}

export class Scratch {
  private swept: Promise<void> | undefined;

  constructor(readonly folder: string) {}

  /** Makes the folder and, once and then every hour, clears what killed processes left there. */
  async create(): Promise<void> {
    await ignore(['EEXIST'], mkdir(this.folder));
    await (this.swept ??= this.sweepNowAndThen());
  }

  newPath(): string {
    return join(this.folder, `${OWN}~${randomUUID()}`);
  }

  private async sweepNowAndThen(): Promise<void> {
    setInterval(() => void this.sweep().catch(() => undefined), ABANDONED_MS).unref();
    await this.sweep();
  }

  private async sweep(): Promise<void> {
    const now = await this.now();
    for (const name of await readdir(this.folder)) {
      const path = join(this.folder, name);
      const stats = await ignore(['ENOENT'], stat(path));
      if (stats && (isOfTheDead(name) || now - stats.mtimeMs > ABANDONED_MS)) await rm(path, { force: true });
    }
  }

  private async now(): Promise<number> {
    const path = this.newPath();
    await writeFile(path, '');
    try {
      return (await stat(path)).mtimeMs;
    } finally {
      await rm(path, { force: true });
    }
  }
}

/** In ticks since the machine started; undefined where that is not told, and of a process that is no more. */
function startOf(pid: number): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errorCode(error) !== 'ESRCH';
  }
}
