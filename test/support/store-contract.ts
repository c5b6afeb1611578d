/** What every ObjectStore does, whatever is behind it. */
import { randomBytes } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { leave } from '../../src/files/body.js';
import type { ObjectStore, StoreErrorCode } from '../../src/sessions/ports.js';

export async function readBody(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of body) parts.push(part);
  return Buffer.concat(parts);
}

export async function* inParts(bytes: Uint8Array, partBytes: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += partBytes) yield bytes.subarray(at, at + partBytes);
}

export const withCode = (code: StoreErrorCode): unknown =>
  expect.objectContaining({ name: 'StoreError', code }) as unknown;

async function keysOf(store: ObjectStore, prefix: string, after?: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of store.list(prefix, { after })) keys.push(key);
  return keys;
}

/** `open` is called once and gives an empty store. */
export function describeStore(name: string, open: () => Promise<ObjectStore>): void {
  describe(`${name} as an object store`, () => {
    let store: ObjectStore;
    beforeAll(async () => {
      store = await open();
    });

    it('gives back what was put', async () => {
      const { etag } = await store.put('sessions/a/init.mp4', Buffer.from('hello'), { contentType: 'video/mp4' });
      const stored = await store.get('sessions/a/init.mp4');
      expect((await readBody(stored.body)).toString()).toBe('hello');
      expect(stored).toMatchObject({ size: 5, etag, contentType: 'video/mp4' });
      expect(await store.head('sessions/a/init.mp4')).toEqual({ size: 5, etag, contentType: 'video/mp4' });
    });

    it('knows content types by extension', async () => {
      await store.put('types/1.m4s', Buffer.from('x'));
      await store.put('types/index.m3u8', Buffer.from('x'));
      await store.put('types/unknown', Buffer.from('x'));
      expect((await store.head('types/1.m4s'))?.contentType).toBe('video/iso.segment');
      expect((await store.head('types/index.m3u8'))?.contentType).toBe('application/vnd.apple.mpegurl');
      expect((await store.head('types/unknown'))?.contentType).toBe('application/octet-stream');
    });

    it('keeps empty objects and replaces objects', async () => {
      const empty = await store.put('replace', new Uint8Array(0));
      expect((await store.head('replace'))?.size).toBe(0);
      const full = await store.put('replace', Buffer.from('now'));
      expect(full.etag).not.toBe(empty.etag);
      expect((await readBody((await store.get('replace')).body)).toString()).toBe('now');
    });

    it('reads ranges, both ends included, and tells the whole size', async () => {
      await store.put('range', Buffer.from('0123456789'));
      const middle = await store.get('range', { start: 2, end: 4 });
      expect((await readBody(middle.body)).toString()).toBe('234');
      expect(middle.size).toBe(10);
      expect((await readBody((await store.get('range', { start: 8, end: 99 })).body)).toString()).toBe('89');
      await expect(store.get('range', { start: 10, end: 12 })).rejects.toThrow(RangeError);
    });

    it('streams bodies that are larger than a part', async () => {
      const bytes = randomBytes(12 << 20);
      const { etag } = await store.putStream('large/video.mp4', inParts(bytes, 100_003));
      expect((await store.head('large/video.mp4'))?.etag).toBe(etag);
      expect((await readBody((await store.get('large/video.mp4')).body)).equals(bytes)).toBe(true);
    });

    it('goes on serving when readers leave before the first byte', async () => {
      await store.put('left', randomBytes(2 << 20));
      for (let i = 0; i < 60; i++) await leave((await store.get('left')).body);
      expect((await readBody((await store.get('left')).body)).length).toBe(2 << 20);
    });

    it('streams small and empty bodies', async () => {
      await store.putStream('small', inParts(Buffer.from('small'), 2));
      expect((await readBody((await store.get('small')).body)).toString()).toBe('small');
      await store.putStream('none', inParts(new Uint8Array(0), 1));
      expect((await store.head('none'))?.size).toBe(0);
    });

    it('keeps the old object when a stream fails, and passes the failure on', async () => {
      await store.put('broken/video.mp4', Buffer.from('old'));
      async function* broken(): AsyncGenerator<Uint8Array> {
        yield randomBytes(9 << 20);
        throw new Error('the source broke');
      }
      await expect(store.putStream('broken/video.mp4', broken())).rejects.toThrow('the source broke');
      expect((await readBody((await store.get('broken/video.mp4')).body)).toString()).toBe('old');
      expect(await keysOf(store, 'broken/')).toEqual(['broken/video.mp4']);
    });

    it('lists by prefix in order', async () => {
      for (const key of ['l/b/2', 'l/b/10', 'l/b-c', 'l/a', 'lx']) await store.put(key, Buffer.from(key));
      expect(await keysOf(store, 'l/')).toEqual(['l/a', 'l/b-c', 'l/b/10', 'l/b/2']);
      expect(await keysOf(store, 'l/b/1')).toEqual(['l/b/10']);
      expect(await keysOf(store, 'l/b')).toEqual(['l/b-c', 'l/b/10', 'l/b/2']);
      expect(await keysOf(store, 'nothing/')).toEqual([]);
      expect(await keysOf(store, '')).toEqual(expect.arrayContaining(['l/a', 'lx']));
      for await (const entry of store.list('lx')) expect(entry).toEqual({ key: 'lx', size: 2 });
    });

    it('lists what is behind a key, whether there is such a key or not', async () => {
      for (const key of ['from/b/2', 'from/b/10', 'from/b-c', 'from/a']) await store.put(key, Buffer.from(key));
      expect(await keysOf(store, 'from/', 'from/a')).toEqual(['from/b-c', 'from/b/10', 'from/b/2']);
      expect(await keysOf(store, 'from/', 'from/b-c')).toEqual(['from/b/10', 'from/b/2']);
      expect(await keysOf(store, 'from/', 'from/b/1')).toEqual(['from/b/10', 'from/b/2']);
      expect(await keysOf(store, 'from/', 'from/b/10')).toEqual(['from/b/2']);
      expect(await keysOf(store, 'from/b/', 'from/b/2')).toEqual([]);
      expect(await keysOf(store, 'from/b/', 'a')).toEqual(['from/b/10', 'from/b/2']);
    });

    it('deletes, also what is not there', async () => {
      await store.put('gone/deep/er', Buffer.from('x'));
      await store.delete('gone/deep/er');
      expect(await store.head('gone/deep/er')).toBeUndefined();
      await expect(store.delete('gone/deep/er')).resolves.toBeUndefined();
      await store.put('gone/deep', Buffer.from('a folder no more'));
      expect(await keysOf(store, 'gone/')).toEqual(['gone/deep']);
    });

    it('says when there is no such object', async () => {
      await expect(store.get('missing')).rejects.toEqual(withCode('NOT_FOUND'));
      expect(await store.head('missing')).toBeUndefined();
      expect(await store.head('range/under-an-object')).toBeUndefined();
    });

    it('creates only once', async () => {
      const { etag } = await store.put('once', Buffer.from('first'), { ifNoneMatch: '*' });
      await expect(store.put('once', Buffer.from('second'), { ifNoneMatch: '*' })).rejects.toEqual(
        withCode('CONFLICT'),
      );
      expect(await store.head('once')).toMatchObject({ etag });
      expect((await readBody((await store.get('once')).body)).toString()).toBe('first');
    });

    it('creates only once from a stream', async () => {
      await store.putStream('once-streamed', inParts(randomBytes(9 << 20), 1 << 20), { ifNoneMatch: '*' });
      const again = store.putStream('once-streamed', inParts(randomBytes(9 << 20), 1 << 20), { ifNoneMatch: '*' });
      await expect(again).rejects.toEqual(withCode('CONFLICT'));
    });

    it('replaces only what the writer has seen', async () => {
      const first = await store.put('owned.json', Buffer.from('{"owner":1}'));
      const second = await store.put('owned.json', Buffer.from('{"owner":2}'), { ifMatch: first.etag });
      await expect(store.put('owned.json', Buffer.from('{}'), { ifMatch: first.etag })).rejects.toEqual(
        withCode('CONFLICT'),
      );
      await store.put('owned.json', Buffer.from('{"owner":3}'), { ifMatch: second.etag });
      expect((await readBody((await store.get('owned.json')).body)).toString()).toBe('{"owner":3}');
    });

    it('does not replace what is gone', async () => {
      const { etag } = await store.put('removed.json', Buffer.from('{}'));
      await store.delete('removed.json');
      await expect(store.put('removed.json', Buffer.from('{}'), { ifMatch: etag })).rejects.toEqual(
        withCode('CONFLICT'),
      );
    });

    it('lets one of many rivals win', async () => {
      const rivals = Array.from({ length: 8 }, (_, i) => store.put('race', Buffer.from(`${i}`), { ifNoneMatch: '*' }));
      const created = await Promise.allSettled(rivals);
      expect(created.filter((result) => result.status === 'fulfilled')).toHaveLength(1);
      const etag = (await store.head('race'))!.etag;
      const replaced = await Promise.allSettled(
        Array.from({ length: 8 }, (_, i) => store.put('race', Buffer.from(`new ${i}`), { ifMatch: etag })),
      );
      expect(replaced.filter((result) => result.status === 'fulfilled')).toHaveLength(1);
      for (const result of [...created, ...replaced]) {
        if (result.status === 'rejected') expect(result.reason).toEqual(withCode('CONFLICT'));
      }
    });

    it.each([
      '',
      '/absolute',
      'a//b',
      'a/',
      '../outside',
      'a/../../outside',
      '.hidden',
      'a/.scratch',
      'back\\slash',
      'nul\0',
      'x'.repeat(201),
      `${'long/'.repeat(200)}x`,
    ])('refuses the key %j', async (key) => {
      await expect(store.put(key, new Uint8Array(1))).rejects.toEqual(withCode('INVALID_KEY'));
      await expect(store.putStream(key, inParts(new Uint8Array(1), 1))).rejects.toEqual(withCode('INVALID_KEY'));
      await expect(store.get(key)).rejects.toEqual(withCode('INVALID_KEY'));
      await expect(store.head(key)).rejects.toEqual(withCode('INVALID_KEY'));
      await expect(store.delete(key)).rejects.toEqual(withCode('INVALID_KEY'));
      await expect(store.presign(key, { expiresInSeconds: 60 })).rejects.toEqual(withCode('INVALID_KEY'));
    });

    it('keeps names in every script', async () => {
      const key = 'names/Zürich 東京 50% + &?#.txt';
      await store.put(key, Buffer.from('x'));
      expect(await keysOf(store, 'names/')).toEqual([key]);
      expect((await readBody((await store.get(key)).body)).toString()).toBe('x');
    });

    it('is ready', async () => {
      await expect(store.check()).resolves.toBeUndefined();
      expect((await keysOf(store, '')).filter((key) => key.includes('scratch'))).toEqual([]);
    });
  });
}
