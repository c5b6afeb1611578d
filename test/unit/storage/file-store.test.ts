import { createHash } from 'node:crypto';
import { mkdtemp, mkdir, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { fileError, FileStore } from '../../../src/storage/file-store.js';
import { openStore } from '../../../src/storage/index.js';
import { describeStore, inParts, readBody, withCode } from '../../support/store-contract.js';

const folders: string[] = [];
afterAll(async () => {
  for (const folder of folders) await rm(folder, { recursive: true, force: true });
});

async function temporary(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'longlive-store-'));
  folders.push(folder);
  return folder;
}

describeStore('a directory', async () => new FileStore(await temporary()));

describe('a directory', () => {
  let root: string;
  let store: FileStore;
  beforeEach(async () => {
    root = await temporary();
    store = new FileStore(root);
  });

  it('is made when it is first needed', async () => {
    const nested = new FileStore(join(root, 'not', 'yet'));
    await nested.put('key', Buffer.from('x'));
    expect((await nested.head('key'))?.size).toBe(1);
  });

  it('signs nothing', async () => {
    expect(await store.presign('key')).toBeUndefined();
  });

  it('shows no half-written object', async () => {
    let seen: unknown = 'not asked';
    async function* slow(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('half');
      seen = await store.head('video.mp4');
      yield Buffer.from('whole');
    }
    await store.putStream('video.mp4', slow());
    expect(seen).toBeUndefined();
    expect((await store.head('video.mp4'))?.size).toBe(9);
  });

  it('leaves no scratch files, whether a write succeeds or fails', async () => {
    await store.put('a', Buffer.from('x'));
    await store.put('a', Buffer.from('x'), { ifNoneMatch: '*' }).catch(() => undefined);
    // eslint-disable-next-line require-yield
    async function* broken(): AsyncGenerator<Uint8Array> {
      throw new Error('broken');
    }
    await store.putStream('b', broken()).catch(() => undefined);
    expect(await readdir(join(root, '.scratch'))).toEqual([]);
  });

  it('clears what killed processes left a day ago', async () => {
    await mkdir(join(root, '.scratch'));
    const yesterday = new Date(Date.now() - 25 * 3600_000);
    for (const name of ['old', 'new']) await writeFile(join(root, '.scratch', name), 'x');
    await utimes(join(root, '.scratch', 'old'), yesterday, yesterday);
    await store.check();
    expect(await readdir(join(root, '.scratch'))).toEqual(['new']);
  });

  it('gets past the lock of a process that died', async () => {
    const { etag } = await store.put('owned', Buffer.from('1'));
    const lock = join(root, '.scratch', `${createHash('sha256').update('owned').digest('hex')}.lock`);
    await writeFile(lock, '');
    const longAgo = new Date(Date.now() - 60_000);
    await utimes(lock, longAgo, longAgo);
    await store.put('owned', Buffer.from('2'), { ifMatch: etag });
    expect((await readBody((await store.get('owned')).body)).toString()).toBe('2');
  });

  it('removes the folders that a deletion leaves empty', async () => {
    await store.put('s/1/chunks/0', Buffer.from('x'));
    await store.put('s/2', Buffer.from('x'));
    await store.delete('s/1/chunks/0');
    expect(await readdir(join(root, 's'))).toEqual(['2']);
  });

  it('survives deletions beside writes', async () => {
    await Promise.all(
      Array.from({ length: 40 }, async (_, i) => {
        await store.put(`busy/deep/${i}`, Buffer.from('x'));
        if (i % 2) await store.delete(`busy/deep/${i}`);
      }),
    );
    const left: string[] = [];
    for await (const { key } of store.list('busy/')) left.push(key);
    expect(left).toHaveLength(20);
  });

  it('refuses an object where a folder is, and under an object', async () => {
    await store.put('folder/object', Buffer.from('x'));
    await expect(store.put('folder', Buffer.from('x'))).rejects.toEqual(withCode('INVALID_KEY'));
    await expect(store.put('folder/object/below', Buffer.from('x'))).rejects.toEqual(withCode('INVALID_KEY'));
    await expect(store.get('folder')).rejects.toEqual(withCode('NOT_FOUND'));
  });

  it('fails its check when the place is taken by a file', async () => {
    await writeFile(join(root, 'file'), '');
    await expect(new FileStore(join(root, 'file')).check()).rejects.toEqual(withCode('INVALID_KEY'));
  });

  it('writes a stream through without gathering it', async () => {
    const part = Buffer.alloc(1 << 20, 1);
    const before = process.memoryUsage().arrayBuffers;
    let most = 0;
    async function* many(): AsyncGenerator<Uint8Array> {
      for (let i = 0; i < 64; i++) {
        most = Math.max(most, process.memoryUsage().arrayBuffers - before);
        yield part;
      }
    }
    await store.putStream('big', many());
    expect((await stat(join(root, 'big'))).size).toBe(64 << 20);
    expect(most).toBeLessThan(32 << 20);
    await store.delete('big');
  });
});

describe('errors of the file system', () => {
  it.each([
    ['ENOSPC', 'NO_SPACE'],
    ['EDQUOT', 'NO_SPACE'],
    ['EACCES', 'DENIED'],
    ['EROFS', 'DENIED'],
    ['EIO', 'UNREACHABLE'],
  ])('%s means %s', (system, code) => {
    const error = fileError(Object.assign(new Error('no'), { code: system }), 'some/key');
    expect(error).toEqual(withCode(code as 'NO_SPACE'));
    expect(error.message).toContain('some/key');
  });
});

describe('a store URL', () => {
  it('opens a directory, absolute or relative', async () => {
    const root = await temporary();
    const absolute = openStore(`file://${root}`);
    await absolute.put('a', Buffer.from('x'));
    expect(await readdir(root)).toContain('a');
    expect(openStore('file:./data')).toBeInstanceOf(FileStore);
  });

  it('opens a bucket', async () => {
    const credentials = { accessKeyId: 'id', secretAccessKey: 'secret' };
    const store = openStore('s3://bucket/some/prefix/', { endpoint: 'http://127.0.0.1:1', credentials });
    expect(await store.presign('key', { expiresInSeconds: 60 })).toMatch(
      /^http:\/\/127.0.0.1:1\/bucket\/some\/prefix\/key\?/,
    );
  });

  it.each([
    '',
    'data',
    'http://host/bucket',
    'file://host/path',
    's3:///prefix',
    's3://bucket?region=x',
    's3://bucket/../x//y',
  ])('refuses %j', (url) => {
    expect(() => openStore(url)).toThrow(/store|valid key/);
  });

  it('takes parts as they come', async () => {
    const store = openStore(`file://${await temporary()}`);
    await store.putStream('parts', inParts(Buffer.from('abcdef'), 4));
    expect((await store.head('parts'))?.size).toBe(6);
  });
});
