import { describe, expect, test } from 'vitest';
import { ConfigError, loadConfig } from '../../../src/server/index.js';
import { CountingGate } from '../../../src/server/gate.js';
import { SignedLinks } from '../../../src/server/links.js';
import { MediaCache } from '../../../src/server/media-cache.js';
import { parseRange } from '../../../src/server/range.js';
import { MemoryStore } from '../../support/memory-store.js';

describe('ranges', () => {
  test.each([
    ['bytes=0-3', { start: 0, end: 3 }],
    ['bytes=4-', { start: 4, end: 9 }],
    ['bytes=-3', { start: 7, end: 9 }],
    ['bytes=-30', { start: 0, end: 9 }],
    ['bytes=8-30', { start: 8, end: 9 }],
    ['bytes=10-', 'unsatisfiable'],
    ['bytes=-0', 'unsatisfiable'],
    ['bytes=5-2', undefined],
    ['bytes=0-1,3-4', undefined],
    ['lines=1-2', undefined],
    [undefined, undefined],
  ])('%s of ten bytes', (header, expected) => expect(parseRange(header, 10)).toEqual(expected));
});

describe('signed links', () => {
  const now = 1_700_000_000_000;
  const links = (at = now, secret = 'a secret of some length') => new SignedLinks(secret, 3600, () => at);
  const query = (url: string) => new URL(url, 'http://x').searchParams;
  const { url, expiresAt } = links().to('sessions/abc/chunks/000001.m4s');

  const KEY = 'sessions/abc/chunks/000001.m4s';
  const outcome = (given: URLSearchParams | string, key = KEY, at = links()) =>
    at.verify(key, new URLSearchParams(given)).outcome;

  test('open the files of their session until they expire', () => {
    expect(outcome(query(url))).toBe('valid');
    expect(outcome(query(url), 'sessions/abc/video.mp4')).toBe('valid');
    expect(outcome(query(url), KEY, links(expiresAt.getTime() + 1000))).toBe('expired');
    expect(links().verify(KEY, query(url))).toMatchObject({ expiry: expiresAt.getTime() / 1000 });
  });

  test('open nothing else', () => {
    const later = query(url);
    later.set('e', String(Number(later.get('e')) + 1));
    expect(outcome(query(url), 'sessions/abd/chunks/000001.m4s')).toBe('forged');
    expect(outcome(later)).toBe('forged');
    expect(outcome('')).toBe('forged');
    expect(outcome(query(url), KEY, links(now, 'another secret of length'))).toBe('forged');
  });

  test('of one file open that file', () => {
    const { url: one, expiresAt: until } = links().file(KEY, 1_700_000_123);
    expect(until.getTime()).toBe(1_700_000_123_000);
    expect(outcome(query(one))).toBe('valid');
    for (const other of ['chunks/000002.m4s', 'video.mp4', 'timeline.jsonl', 'index.m3u8'])
      expect(outcome(query(one), `sessions/abc/${other}`)).toBe('forged');
    expect(outcome(one.split('?')[1]?.replace('f=', 's=') ?? '')).toBe('forged');
  });

  test('are taken in the text they were given out in, and no other', () => {
    const text = url.split('?')[1] ?? '';
    const [e = '', s = ''] = text.split('&');
    for (const other of [
      `${text}==`,
      `${text}%3D%3D%0Ahttp://x`,
      `${text}%00`,
      `${text}.`,
      `${e}&${s}&${s}`,
      `${e}&${e}&${s}`,
      `${e.replace('=', '=0')}&${s}`,
      `${e.replace('=', '=+')}&${s}`,
      `${e}.0&${s}`,
      `${e}%20&${s}`,
      `${e}&s=`,
      `e=NaN&${s}`,
    ])
      expect(outcome(other), other).toBe('forged');
  });

  test('stay the same for a while, so that caches work', () => {
    expect(links(now + 60_000).to('sessions/abc/chunks/000001.m4s').url).toBe(url);
  });
});

describe('the media cache', () => {
  const filled = async (files: Record<string, number>) => {
    const store = new MemoryStore();
    for (const [key, size] of Object.entries(files)) await store.put(key, new Uint8Array(size));
    let reads = 0;
    store.fault = (operation) => {
      if (operation === 'get') reads++;
      return undefined;
    };
    return { store, reads: () => reads };
  };

  test('reads a file once for many who ask at the same time', async () => {
    const { store, reads } = await filled({ a: 10 });
    const cache = new MediaCache(store, 100);
    await Promise.all([cache.read('a'), cache.read('a'), cache.read('a')]);
    await cache.read('a');
    expect(reads()).toBe(1);
  });

  test('forgets what was used least recently when it is full', async () => {
    const { store, reads } = await filled({ a: 40, b: 40, c: 40 });
    const cache = new MediaCache(store, 100);
    for (const key of ['a', 'b', 'a', 'c', 'a']) await cache.read(key);
    expect(reads()).toBe(3);
    await cache.read('b');
    expect(reads()).toBe(4);
  });

  test('hands over what it is still reading when others have filled it, and what is too large for it', async () => {
    const { store } = await filled({ slow: 40, b: 40, c: 40, d: 40, large: 400 });
    let answer!: () => void;
    const waiting = new Promise<void>((resolve) => (answer = resolve));
    const cache = new MediaCache({ get: async (key) => (key === 'slow' && (await waiting), store.get(key)) }, 100);
    const slow = cache.read('slow');
    for (const key of ['b', 'c', 'd']) await cache.read(key);
    answer();
    expect(await slow).toHaveLength(40);
    expect(await cache.read('large')).toHaveLength(400);
  });

  test('does not remember a failure', async () => {
    const { store } = await filled({});
    const cache = new MediaCache(store, 100);
    await expect(cache.read('a')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await store.put('a', new Uint8Array(1));
    expect(await cache.read('a')).toHaveLength(1);
  });
});

describe('the gate', () => {
  test('counts each departure once', () => {
    const gate = new CountingGate(1);
    const leave = gate.enter('a');
    expect(gate.enter('a')).toBeUndefined();
    expect(gate.enter('b')).toBeDefined();
    leave?.();
    leave?.();
    expect(gate.total).toBe(1);
    expect(gate.enter('a')).toBeDefined();
  });
});

describe('settings', () => {
  test('come from flags, then the environment, then defaults', () => {
    const environment = {
      PORT: '5000',
      LONGLIVE_LEAD_SECONDS: '3',
      LONGLIVE_MODELS: '',
      LONGLIVE_CORS_ORIGINS: 'http://a, http://b',
    };
    const config = loadConfig(environment, { leadSeconds: 4 });
    expect(config).toMatchObject({
      port: 5000,
      leadSeconds: 4,
      models: ['./models'],
      corsOrigins: ['http://a', 'http://b'],
    });
  });

  test('that cannot be used are named, all at once', () => {
    const load = () => loadConfig({ LONGLIVE_DEVICE: 'abacus', LONGLIVE_PORT: '99999' });
    expect(load).toThrow(ConfigError);
    expect(load).toThrow(/LONGLIVE_PORT[\s\S]*LONGLIVE_DEVICE/);
  });
});
