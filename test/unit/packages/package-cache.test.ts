import { createHash, randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { isAlive, Lease } from '../../../src/files/lease.js';
import { PackageCache } from '../../../src/packages/package-cache.js';

// Real files that are synced, on machines that may be busy.
vi.setConfig({ testTimeout: 60_000 });

const LEASES = { renewMs: 20, deadMs: 2_000 };

let root: string;
beforeEach(() => (root = mkdtempSync(join(tmpdir(), 'longlive-cache-'))));
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** Each stands for a process of its own. */
function cache(limitBytes = 1e6): PackageCache {
  return new PackageCache({ directory: root, limitBytes, leases: LEASES, pollMs: 5 });
}

const digest = (name: string) => createHash('sha256').update(name).digest('hex');

function filling(bytes: number, log: string[] = []) {
  return async (directory: string) => {
    log.push(directory);
    await sleep(20);
    writeFileSync(join(directory, 'weights'), Buffer.alloc(bytes));
    writeFileSync(join(directory, 'manifest.json'), '{}');
  };
}

async function visit(name: string, bytes: number, limitBytes: number): Promise<void> {
  const held = await cache(limitBytes).hold(digest(name), bytes, filling(bytes));
  await held.release();
}

/** What is here, by name. */
function present(...names: string[]): string[] {
  return names.filter((name) => existsSync(join(root, digest(name), 'manifest.json')));
}

/** Uses are told apart by the time of a directory, whose resolution is that of the file system. */
function usedAt(name: string, seconds: number): void {
  utimesSync(join(root, digest(name)), seconds, seconds);
}

describe('the cache of packages', () => {
  it('fills a package once, however many processes want it', async () => {
    const filled: string[] = [];
    const held = await Promise.all([1, 2, 3].map(() => cache().hold(digest('a'), 10, filling(10, filled))));
    expect(filled).toEqual([join(root, `${digest('a')}.partial`)]);
    expect(new Set(held.map(({ directory }) => directory))).toEqual(new Set([join(root, digest('a'))]));
    await Promise.all(held.map((each) => each.release()));
    expect(readdirSync(root)).toEqual([digest('a')]);
  });

  it('keeps what a failed attempt has brought, and shows it to nobody but the next one', async () => {
    const torn = cache().hold(digest('a'), 10, async (directory) => {
      writeFileSync(join(directory, 'weights'), 'abc');
      throw new Error('the network is gone');
    });
    await expect(torn).rejects.toThrow('the network is gone');
    expect(await cache().has(digest('a'))).toBe(false);
    const held = await cache().hold(digest('a'), 10, async (directory) => {
      expect(readFileSync(join(directory, 'weights'), 'utf8')).toBe('abc');
      writeFileSync(join(directory, 'manifest.json'), '{}');
    });
    expect(await cache().has(digest('a'))).toBe(true);
    await held.release();
  });

  it('evicts what was used longest ago', async () => {
    await visit('a', 400, 1_000);
    await visit('b', 400, 1_000);
    usedAt('a', 100);
    usedAt('b', 50);
    await visit('c', 400, 1_000);
    expect(present('a', 'b', 'c')).toEqual(['a', 'c']);
  });

  it('does not evict what another process uses', async () => {
    const held = await cache(1_000).hold(digest('a'), 600, filling(600));
    usedAt('a', 1);
    await expect(visit('b', 600, 1_000)).rejects.toMatchObject({ code: 'AT_CAPACITY' });
    expect(present('a', 'b')).toEqual(['a']);
    await held.release();
    await visit('b', 600, 1_000);
    expect(present('a', 'b')).toEqual(['b']);
  });

  it('evicts what a process used that died', async () => {
    await visit('a', 600, 1_000);
    const left = join(root, `${digest('a')}.use.of-a-dead-process`);
    writeFileSync(left, randomUUID());
    utimesSync(left, 1, 1);
    await visit('b', 600, 1_000);
    expect(present('a', 'b')).toEqual(['b']);
    expect(existsSync(left)).toBe(false);
  });

  it('goes on where a process died while it filled', async () => {
    const lock = join(root, `${digest('a')}.lock`);
    writeFileSync(lock, randomUUID());
    utimesSync(lock, 1, 1);
    await visit('a', 10, 1_000);
    expect(present('a')).toEqual(['a']);
    expect(readdirSync(root)).toEqual([digest('a')]);
  });

  it('evicts what was begun and given up', async () => {
    await cache(1_000)
      .hold(digest('a'), 600, async (directory) => {
        writeFileSync(join(directory, 'weights'), Buffer.alloc(600));
        throw new Error('given up');
      })
      .catch(() => undefined);
    await visit('b', 600, 1_000);
    expect(readdirSync(root)).toEqual([digest('b')]);
  });

  it('says that it cannot be written, and which setting says where it is', async () => {
    writeFileSync(join(root, 'file'), '');
    const nowhere = new PackageCache({ directory: join(root, 'file', 'cache'), limitBytes: 1e6 });
    const holding = nowhere.hold(digest('a'), 10, filling(10));
    await expect(holding).rejects.toMatchObject({ code: 'MODEL_UNAVAILABLE' });
    await expect(holding).rejects.toThrow('--model-cache');
  });

  it('refuses what is larger than it may be, and says which setting to change', async () => {
    await expect(visit('a', 2_000, 1_000)).rejects.toThrow('--model-cache-gigabytes');
  });
});

describe('a lease', () => {
  it('lives as long as its holder, longer than one that is not renewed', async () => {
    const times = { renewMs: 20, deadMs: 1_500 };
    const path = join(root, 'lock');
    const lease = await Lease.take(path, times);
    writeFileSync(join(root, 'forgotten'), '');
    await sleep(1_800);
    expect(await isAlive(path, times)).toBe(true);
    expect(await isAlive(join(root, 'forgotten'), times)).toBe(false);
    expect(await Lease.take(path, times)).toBeUndefined();
    await lease?.release();
    expect(existsSync(path)).toBe(false);
  });

  it('tells its holder that it was taken over', async () => {
    const path = join(root, 'lock');
    const lease = await Lease.take(path, LEASES);
    writeFileSync(path, 'somebody else');
    await expect.poll(() => lease?.lost.aborted).toBe(true);
    await lease?.release();
    expect(readFileSync(path, 'utf8')).toBe('somebody else');
  });
});
