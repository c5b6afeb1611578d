import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { EXIT, explain } from '../../../src/cli/failure.js';
import { keysCommand } from '../../../src/cli/keys.js';

let root: string;
let printed: string;
const write = vi.spyOn(process.stdout, 'write');
const complaints = vi.spyOn(process.stderr, 'write');

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'longlive-keys-'));
  printed = '';
  write.mockImplementation((text) => ((printed += text as string), true));
  complaints.mockImplementation(() => true);
});
afterEach(() => {
  write.mockReset();
  complaints.mockReset();
  rmSync(root, { recursive: true, force: true });
});

/** What it prints. */
async function keys(...words: string[]): Promise<string> {
  printed = '';
  const command = keysCommand();
  for (const each of [command, ...command.commands]) each.exitOverride();
  await command.parseAsync([...words, '--store', join(root, 'data')], { from: 'user' });
  return printed;
}
const create = async (...more: string[]) =>
  (await keys('create', '--tenant', 'acme', '--scopes', 'session:watch,session:list', ...more)).trim();
const idOf = (key: string) => key.split('_')[1] as string;
const listed = async () => JSON.parse(await keys('list', '--json')) as Record<string, unknown>;

describe('longlive keys', () => {
  it('creates a key that is printed once; the list has all of it but its secret', async () => {
    const key = await create(
      '--name',
      'the page',
      '--expires-days',
      '2',
      '--creations-per-minute',
      '5',
      '--cost-per-minute',
      '900',
    );
    expect(key).toMatch(/^ll_[0-9a-z]{12}_[\w-]{43}$/);
    const list = await keys('list');
    expect(list).toMatch(
      new RegExp(
        `^${idOf(key)}  active  tenant acme  session:watch,session:list  created \\d{4}-\\d\\d-\\d\\d  never used  at most 5 sessions/min, 900 cost/min  the page\n$`,
      ),
    );
    const json = await listed();
    expect(json).toMatchObject({
      ...{
        id: idOf(key),
        tenant: 'acme',
        scopes: ['session:watch', 'session:list'],
        name: 'the page',
        state: 'active',
      },
      ...{ limits: { creations: 5, cost: 900 }, lastUsedAt: null },
    });
    const secret = key.slice(key.lastIndexOf('_', 16) + 1);
    const stored = readFileSync(join(root, 'data/access/keys.json'), 'utf8');
    for (const text of [list, JSON.stringify(json), stored]) expect(text).not.toContain(secret);
    expect(JSON.stringify(json)).not.toMatch(/[0-9a-f]{64}/);
  });

  it('gives a key two secrets by rotate, and one by revoke --old', async () => {
    const first = await create();
    const second = (await keys('rotate', idOf(first))).trim();
    expect([idOf(second), second === first]).toEqual([idOf(first), false]);
    expect(await keys('list')).toContain('  two secrets');
    expect(await keys('revoke', '--old', idOf(first))).toBe(`${idOf(first)}: only the newest secret is taken now\n`);
    expect((await listed())['secrets']).toHaveLength(1);
  });

  it('revokes one for good', async () => {
    const id = idOf(await create());
    expect(await keys('revoke', id)).toBe(`${id}: revoked\n`);
    expect(await keys('list')).toContain(`${id}  revoked`);
    const rotated = await keys('rotate', id).catch(explain);
    expect(rotated).toMatchObject({ exitCode: EXIT.usage, message: expect.stringContaining('is revoked') as string });
  });

  it.each([
    ['a key that is not there', ['revoke', 'nosuchkey123'], 'There is no key "nosuchkey123" in this store'],
    ['a tenant that is none', ['create', '--tenant', '../acme', '--scopes', 'admin'], 'A tenant has 1 to 64'],
    [
      'a scope that is none',
      ['create', '--tenant', 'acme', '--scopes', 'session:watch,dream'],
      '"dream" is not a scope',
    ],
    ['no scopes', ['create', '--tenant', 'acme'], '--scopes'],
    ['no tenant', ['create', '--scopes', 'admin'], '--tenant'],
    ['days that are none', ['create', '--tenant', 'a', '--scopes', 'admin', '--expires-days', '0'], 'number of days'],
    [
      'half a session',
      ['create', '--tenant', 'a', '--scopes', 'admin', '--creations-per-minute', '0.5'],
      'whole number',
    ],
    ['no prompts', ['create', '--tenant', 'a', '--scopes', 'admin', '--prompts-per-second', '0'], 'whole number'],
  ])('refuses %s, and says what instead', async (_what, words, message) => {
    await create();
    await expect(keys(...words)).rejects.toThrow(message);
  });

  it('begins no store to list what is in it', async () => {
    const listing = await keys('list').catch(explain);
    expect(listing).toMatchObject({
      exitCode: EXIT.storage,
      message: expect.stringContaining('There is no store at') as string,
    });
  });
});
