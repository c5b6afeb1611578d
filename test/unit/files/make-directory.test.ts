import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { makeDirectory } from '../../../src/files/make-directory.js';
import { loadConfig } from '../../../src/server/config.js';
import { withSecrets } from '../../../src/server/secrets.js';
import { FileStore } from '../../../src/storage/file-store.js';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'longlive-directory-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

test('is made with those above it, by several at once too', async () => {
  expect(await makeDirectory(join(root, 'a/b/c'), 0o700)).toBe(join(root, 'a'));
  expect(statSync(join(root, 'a/b/c')).mode & 0o777).toBe(0o700);
  expect(await makeDirectory(join(root, 'a/b/c'))).toBeUndefined();
  await Promise.all(Array.from({ length: 20 }, () => makeDirectory(join(root, 'd/e/f'))));
  expect(statSync(join(root, 'd/e/f')).isDirectory()).toBe(true);
});

test('is made while somebody else deletes it as often as it is empty', async () => {
  const place = join(root, 'a/b');
  let made = 0;
  const makes = Array.from({ length: 4 }, async () => {
    for (let times = 0; times < 500; times++) made += (await makeDirectory(place)) === undefined ? 0 : 1;
  });
  let over = false;
  const deletes = (async () => {
    while (!over) {
      await rmdir(place).catch(() => undefined);
      await sleep(1);
    }
  })();
  await Promise.all(makes).finally(() => (over = true));
  await deletes;
  expect(made).toBeGreaterThan(1);
});

test('is refused where a file is in the way', async () => {
  writeFileSync(join(root, 'file'), '');
  await expect(makeDirectory(join(root, 'file'))).rejects.toMatchObject({ code: 'EEXIST' });
  await expect(makeDirectory(join(root, 'file/a/b'))).rejects.toMatchObject({ code: 'ENOTDIR' });
});

test.runIf(process.platform === 'linux')('is refused at once where none can be', async () => {
  await expect(makeDirectory('/proc/x/y')).rejects.toMatchObject({ code: 'ENOENT' });
  await expect(withSecrets(loadConfig({}, { secrets: '/proc/x' }))).rejects.toThrow('can be neither read nor created');
  await expect(new FileStore('/proc/x').put('a', Buffer.from('a'))).rejects.toThrow();
});
