import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { withLock } from '../../../src/import/lock.js';

let root: string;
let lock: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'longlive-lock-'));
  lock = join(root, 'mine.lock');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const leave = (owner: object) => writeFileSync(lock, JSON.stringify({ id: 'left', host: hostname(), ...owner }));
const deadProcess = () => spawnSync(process.execPath, ['-e', '']).pid;

describe('the lock of an import', () => {
  it('lets one in at a time and leaves nothing behind', async () => {
    let inside = 0;
    const work = async () => {
      inside++;
      await expect(withLock(lock, async () => undefined)).rejects.toThrow(
        new RegExp(`process ${process.pid} on .*remove .*mine\\.lock`),
      );
      expect(existsSync(lock)).toBe(true);
      return 'done';
    };
    expect(await withLock(lock, work)).toBe('done');
    expect(await withLock(lock, work)).toBe('done');
    expect(inside).toBe(2);
    expect(readdirSync(root)).toEqual([]);
  });

  it('is given back when the work fails', async () => {
    await expect(withLock(lock, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(readdirSync(root)).toEqual([]);
  });

  it('is taken from a process that is gone, by one of many', async () => {
    leave({ pid: deadProcess() });
    let inside = 0;
    const attempts = Array.from({ length: 8 }, () =>
      withLock(lock, async () => {
        inside++;
        expect(inside).toBe(1);
        await new Promise((done) => setTimeout(done, 50));
        inside--;
      }),
    );
    const outcomes = await Promise.allSettled(attempts);
    expect(outcomes.filter(({ status }) => status === 'fulfilled').length).toBeGreaterThanOrEqual(1);
    expect(readdirSync(root)).toEqual([]);
  });

  it('is taken from an earlier process with this one’s number', async () => {
    leave({ pid: process.pid });
    expect(await withLock(lock, async () => 'done')).toBe('done');
  });

  it('is not taken from another machine, nor from a process that lives', async () => {
    leave({ pid: deadProcess(), host: 'elsewhere' });
    await expect(withLock(lock, async () => undefined)).rejects.toThrow(/on elsewhere/);
    leave({ pid: process.ppid });
    await expect(withLock(lock, async () => undefined)).rejects.toThrow(`process ${process.ppid} `);
    expect(readFileSync(lock, 'utf8')).toContain('left');
  });

  it('says so when something else is in its place', async () => {
    writeFileSync(lock, 'not a lock');
    await expect(withLock(lock, async () => undefined)).rejects.toThrow(/not a lock; remove it/);
  });
});
