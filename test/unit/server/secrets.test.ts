import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { loadConfig } from '../../../src/server/index.js';
import { makeSecrets, withSecrets } from '../../../src/server/secrets.js';

let directory: string;
beforeEach(async () => void (directory = await mkdtemp(join(tmpdir(), 'longlive-secrets-'))));
afterEach(() => rm(directory, { recursive: true, force: true }));

const start = (settings: Record<string, unknown> = {}) =>
  withSecrets(loadConfig({}, { secrets: directory, ...settings }));
const mode = async (path: string) => (await stat(path)).mode & 0o777;

describe('secrets of a deployment', () => {
  test('are made at the first start and kept for every other one', async () => {
    const secrets = join(directory, 'deeper', '.secrets');
    const first = await start({ secrets });
    expect(first.token).toMatchObject({ made: true, path: join(secrets, 'token') });
    expect(first.config.token).toMatch(/^[\w-]{43}$/);
    expect(first.config.signingKey).toMatch(/^[\w-]{43}$/);
    expect(first.config.signingKey).not.toBe(first.config.token);
    const second = await start({ secrets });
    expect(second.token?.made).toBe(false);
    expect(second.config).toEqual(first.config);
    expect([await mode(secrets), await mode(join(secrets, 'token')), await mode(join(secrets, 'signing-key'))]).toEqual(
      [0o700, 0o600, 0o600],
    );
  });

  test('are the same for all that start at once', async () => {
    const all = await Promise.all(Array.from({ length: 12 }, () => start()));
    expect(new Set(all.map(({ config }) => `${config.token} ${config.signingKey}`)).size).toBe(1);
    expect(all.filter(({ token }) => token?.made)).toHaveLength(1);
  });

  test('leave what is set as it is, and make no token where none is to be asked for', async () => {
    expect((await start({ token: 'mine', signingKey: 'also mine, and long' })).config).toMatchObject({
      token: 'mine',
      signingKey: 'also mine, and long',
    });
    expect((await start({ open: true })).config.token).toBeUndefined();
    expect((await withSecrets(loadConfig({}))).config.token).toBeUndefined();
  });

  test('that cannot be read, made or trusted end the start with what to do', async () => {
    await writeFile(join(directory, 'token'), 'short\n');
    await expect(start()).rejects.toThrow(/token: a secret must have at least 16 characters/);
    await writeFile(join(directory, 'file'), '');
    await expect(start({ secrets: join(directory, 'file') })).rejects.toThrow(/LONGLIVE_SECRETS[\s\S]*LONGLIVE_TOKEN/);
  });

  test('may be made for others to read', async () => {
    const secrets = join(directory, 'shared');
    const { token } = await makeSecrets(secrets, true);
    expect([await mode(secrets), await mode(token.path)]).toEqual([0o755, 0o644]);
    expect((await readFile(token.path, 'utf8')).trim()).toBe(token.value);
    expect((await makeSecrets(secrets, true)).token).toMatchObject({ made: false, value: token.value });
  });
});
