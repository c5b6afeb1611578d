import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { withLock } from '../../../src/import/lock.js';

const TIMES = { renewMs: 20, deadMs: 2_000 };

let root: string;
let lock: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'longlive-lock-'));
  lock = join(root, 'mine.lock');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** As by a process that wrote it so long ago. */
function leave(secondsAgo: number, content = `${crypto.randomUUID()} process 7 on elsewhere`): void {
  writeFileSync(lock, content);
  const at = Date.now() / 1_000 - secondsAgo;
  utimesSync(lock, at, at);
}

const enter = <T>(work: (lost: AbortSignal) => Promise<T>) => withLock(lock, work, TIMES);

describe('the lock of an import', () => {
  it('lets one in at a time, says who is inside, and leaves nothing behind', async () => {
    let inside = 0;
    const work = async () => {
      inside++;
      await expect(enter(async () => undefined)).rejects.toThrow(
        new RegExp(`Another import .* is running: process ${process.pid} on `),
      );
      expect(existsSync(lock)).toBe(true);
      return 'done';
    };
    expect(await enter(work)).toBe('done');
    expect(await enter(work)).toBe('done');
    expect(inside).toBe(2);
    expect(readdirSync(root)).toEqual([]);
  });

  it('is given back when the work fails', async () => {
    await expect(enter(() => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(readdirSync(root)).toEqual([]);
  });

  it('is taken from a process that is silent for long, by one of many', async () => {
    for (let round = 0; round < 5; round++) {
      leave(10);
      let [inside, most, entered] = [0, 0, 0];
      const attempts = Array.from({ length: 8 }, () =>
        enter(async () => {
          most = Math.max(most, ++inside);
          entered++;
          await sleep(20);
          inside--;
        }),
      );
      await Promise.allSettled(attempts);
      expect(entered).toBeGreaterThanOrEqual(1);
      expect(most).toBe(1);
      expect(readdirSync(root)).toEqual([]);
    }
  });

  it('is waited for when its holder was killed just now', async () => {
    leave(1.8);
    expect(await enter(async () => 'done')).toBe('done');
  });

  it('tells the work when somebody has taken it all the same', async () => {
    const work = async (lost: AbortSignal) => {
      leave(0);
      await expect.poll(() => lost.aborted).toBe(true);
      lost.throwIfAborted();
    };
    await expect(enter(work)).rejects.toThrow('taken over by another process');
    expect(readFileSync(lock, 'utf8')).toContain('elsewhere');
  });

  it('says so when something else is in its place, and leaves that alone', async () => {
    leave(10, 'my notes');
    await expect(enter(async () => undefined)).rejects.toThrow(/mine\.lock is not a lock/);
    expect(readFileSync(lock, 'utf8')).toBe('my notes');
  });
});
