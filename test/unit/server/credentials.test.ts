import { beforeEach, describe, expect, test } from 'vitest';
import { Authenticator, type AuthenticatorParts } from '../../../src/server/credentials/authenticator.js';
import { ClientTokens } from '../../../src/server/credentials/client-tokens.js';
import { KeyFile, KEYS } from '../../../src/server/credentials/key-file.js';
import { KeyRing } from '../../../src/server/credentials/key-ring.js';
import { type Scope, SILENT } from '../../../src/sessions/index.js';
import { StoreError } from '../../../src/sessions/index.js';
import { MemoryStore } from '../../support/memory-store.js';

let store: MemoryStore;
let now: number;
let file: KeyFile;
let ring: KeyRing;
let clientTokens: ClientTokens;

beforeEach(async () => {
  store = new MemoryStore();
  now = Date.parse('2026-11-30T12:00:00Z');
  file = new KeyFile(store, () => new Date(now));
  clientTokens = new ClientTokens('the key that signs', () => now);
  ring = new KeyRing(file, SILENT, () => now);
});

const create = (scopes: Scope[] = ['session:watch'], expiresAt?: Date) =>
  file.create({ tenant: 'acme', scopes, expiresAt });
/** As much later as it takes for the keys to be looked at again. */
const later = () => void (now += 5_000);

async function authenticator(parts: Partial<AuthenticatorParts> = {}): Promise<Authenticator> {
  await ring.start();
  ring.close();
  return new Authenticator({
    token: undefined,
    open: false,
    loopback: true,
    keys: ring,
    clientTokens,
    now: () => now,
    ...parts,
  });
}

describe('an API key', () => {
  test('says who calls, and nothing of it can be found in the store', async () => {
    const { key, record } = await create(['session:watch', 'session:list']);
    const login = await (await authenticator()).login(`Bearer ${key}`);
    expect(login?.principal).toEqual({
      ...{ tenant: 'acme', subject: `key:${record.id}` },
      scopes: new Set(['session:watch', 'session:list']),
    });
    expect(Buffer.from(store.objects.get(KEYS)?.bytes ?? []).toString()).not.toContain(key.split('_')[2]);
  });

  test('that is altered, of another store, or half of one is not taken, also where nobody is asked otherwise', async () => {
    const { key } = await create();
    const { key: foreign } = await new KeyFile(new MemoryStore()).create({ tenant: 'acme', scopes: ['admin'] });
    const open = await authenticator({ open: true });
    for (const wrong of [`${key.slice(0, -1)}_`, key.slice(0, -1), `${key}x`, foreign, 'll_', 'll_x_y', 'other'])
      expect(await open.login(`Bearer ${wrong}`), wrong).toBeUndefined();
  });

  test('that was made a moment ago is found, however often strangers try others', async () => {
    const known = await authenticator();
    let heads = 0;
    const head = store.head.bind(store);
    store.head = (key) => (heads++, head(key));
    later();
    const { key: foreign } = await new KeyFile(new MemoryStore()).create({ tenant: 'acme', scopes: [] });
    await Promise.all(Array.from({ length: 100 }, () => known.login(`Bearer ${foreign}`)));
    expect(heads).toBe(1);
    const { key } = await create();
    later();
    expect(await known.login(`Bearer ${key}`)).toBeDefined();
  });

  test('has two secrets while it is replaced, and then one', async () => {
    const { key, record } = await create();
    const known = await authenticator();
    const second = await file.rotate(record.id);
    await ring.start();
    ring.close();
    const [old, fresh] = [await known.login(`Bearer ${key}`), await known.login(`Bearer ${second}`)];
    expect([old?.valid(), fresh?.valid()]).toEqual([true, true]);
    expect(fresh?.principal).toEqual(old?.principal);
    await file.revokeOld(record.id);
    await ring.start();
    ring.close();
    expect([old?.valid(), fresh?.valid()]).toEqual([false, true]);
    expect(await known.login(`Bearer ${key}`)).toBeUndefined();
    // A third one ends the first.
    await file.rotate(record.id);
    const fourth = await file.rotate(record.id);
    await ring.start();
    ring.close();
    expect(await known.login(`Bearer ${second}`)).toBeUndefined();
    expect(await known.login(`Bearer ${fourth}`)).toBeDefined();
  });

  test('ends when it is revoked, and when its time is over', async () => {
    const { key, record } = await create();
    const { key: short } = await create(['session:watch'], new Date(now + 60_000));
    const known = await authenticator();
    const [login, brief] = [await known.login(`Bearer ${key}`), await known.login(`Bearer ${short}`)];
    expect([login?.valid(), brief?.valid()]).toEqual([true, true]);
    now += 60_000;
    expect([login?.valid(), brief?.valid()]).toEqual([true, false]);
    expect(await known.login(`Bearer ${short}`)).toBeUndefined();
    await file.revoke(record.id);
    await ring.start();
    ring.close();
    expect(login?.valid()).toBe(false);
    expect(await known.login(`Bearer ${key}`)).toBeUndefined();
    await expect(file.rotate(record.id)).rejects.toThrow(/revoked/);
  });

  test('is changed by two at once without losing either change', async () => {
    const all = await Promise.all(Array.from({ length: 4 }, () => create()));
    expect((await file.read()).keys.map(({ id }) => id).sort()).toEqual(all.map(({ record }) => record.id).sort());
  });

  test('shows when it was last used', async () => {
    const { key, record } = await create();
    expect(await file.lastUse(record.id)).toBeUndefined();
    await (await authenticator()).login(`Bearer ${key}`);
    await Promise.resolve();
    expect(await file.lastUse(record.id)).toEqual(new Date(now));
  });

  test('has no scope that this release does not know', async () => {
    const { key } = await file.create({ tenant: 'acme', scopes: ['session:watch', 'session:dream'] });
    const login = await (await authenticator()).login(`Bearer ${key}`);
    expect(login?.principal.scopes).toEqual(new Set(['session:watch']));
  });
});

describe("the operator's token", () => {
  test('is taken whole, after "Bearer", and is all of it', async () => {
    const known = await authenticator({ token: 'secret', open: true });
    expect((await known.login('Bearer secret'))?.principal.scopes.has('admin')).toBe(true);
    for (const wrong of [undefined, '', 'Bearer ', 'Bearer secrets', 'Bearer secre', 'secret', 'Basic secret', 7])
      expect(await known.login(wrong), String(wrong)).toBeUndefined();
  });
});

describe('nobody in particular', () => {
  test('is the operator where there are no credentials, on this machine or where it is said so', async () => {
    for (const parts of [{}, { loopback: false, open: true }]) {
      const known = await authenticator(parts);
      expect(known.asks).toBe(false);
      expect((await known.login(undefined))?.principal.scopes.has('admin')).toBe(true);
      expect((await known.login('Bearer of another service'))?.anonymous).toBe(true);
    }
  });

  test('is asked for a credential as soon as there is a key, also a revoked one', async () => {
    const known = await authenticator();
    const login = await known.login(undefined);
    const { record } = await create();
    await file.revoke(record.id);
    await ring.start();
    ring.close();
    expect([known.asks, login?.valid(), await known.login(undefined)]).toEqual([true, false, undefined]);
  });

  test('is no operator where others have keys and everybody is served', async () => {
    await create();
    const login = await (await authenticator({ open: true })).login(undefined);
    expect(login?.principal).toMatchObject({ tenant: 'default', subject: 'anonymous' });
    expect(login?.principal.scopes.has('admin')).toBe(false);
  });

  test('is not served while the store does not say whether there are keys', async () => {
    store.head = () => Promise.reject(new StoreError('UNREACHABLE', 'No answer.'));
    const known = await authenticator();
    expect([known.asks, known.undecided, await known.login(undefined)]).toEqual([true, true, undefined]);
  });
});
