import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, mkdir, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { leave } from '../../../src/files/body.js';
import { fileError } from '../../../src/storage/file-errors.js';
import { FileStore } from '../../../src/storage/file-store.js';
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

  it.each([10, 3 << 20])('keeps no file of %i bytes open for a body that nobody reads', async (size) => {
    await store.put('body', Buffer.alloc(size));
    const open = async () => (await readdir('/proc/self/fd')).length;
    const before = await open();
    for (let i = 0; i < 20; i++) await store.get('body');
    for (let i = 0; i < 20; i++) await leave((await store.get('body', { start: 1, end: size - 2 })).body);
    for (let i = 0; i < 20; i++) for await (const part of (await store.get('body')).body) if (part.length > 0) break;
    expect((await open()) - before).toBeLessThan(5);
  });

  it('reads a small object as it was, and says when a large one was replaced before it was read', async () => {
    const [small, large] = [Buffer.from('small'), Buffer.alloc(3 << 20)];
    await store.put('small', small);
    await store.put('large', large);
    const bodies = { small: (await store.get('small')).body, large: (await store.get('large')).body };
    await store.put('small', Buffer.from('other'));
    await store.put('large', large);
    expect((await readBody(bodies.small)).toString()).toBe('small');
    await expect(readBody(bodies.large)).rejects.toEqual(withCode('CONFLICT'));
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

  it('clears what killed processes of this machine left, and what others have not written for an hour', async () => {
    const dead = spawnSync('true').pid;
    const host = hostname().replace(/[^\w.-]/g, '_');
    await mkdir(join(root, '.scratch'));
    const names = ['old', 'new', `${host}~${dead}~77~x`, `elsewhere~${dead}~77~x`, `${host}~${process.pid}~1~x`];
    for (const name of names) await writeFile(join(root, '.scratch', name), 'x');
    const longAgo = new Date(Date.now() - 2 * 3600_000);
    await utimes(join(root, '.scratch', 'old'), longAgo, longAgo);
    await store.check();
    expect((await readdir(join(root, '.scratch'))).sort()).toEqual([`elsewhere~${dead}~77~x`, 'new']);
  });

  it('leaves alone what living processes write', async () => {
    let seen: string[] = [];
    async function* slow(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('x');
      await new FileStore(root).check();
      seen = await readdir(join(root, '.scratch'));
    }
    await store.putStream('video.mp4', slow());
    expect(seen).toHaveLength(1);
    expect((await store.head('video.mp4'))?.size).toBe(1);
  });

  it('clears what a killed process was writing', async () => {
    const script = `
      import { FileStore } from './src/storage/file-store.ts';
      async function* endless() { for (;;) { yield Buffer.from('x'); process.stdout.write('.'); await new Promise((r) => setTimeout(r, 20)); } }
      await new FileStore(process.argv[1]).putStream('video.mp4', endless());
    `;
    const args = ['--import', 'tsx', '--input-type=module', '-e', script, root];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    expect(await readdir(join(root, '.scratch'))).toHaveLength(1);
    child.kill('SIGKILL');
    await once(child, 'exit');
    await store.check();
    expect(await readdir(join(root, '.scratch'))).toEqual([]);
  }, 60_000);

  it('gets past the lock of a process that died', async () => {
    const { etag } = await store.put('owned', Buffer.from('1'));
    const lock = join(root, '.scratch', `${createHash('sha256').update('owned').digest('hex')}.lock`);
    await writeFile(lock, `${hostname().replace(/[^\w.-]/g, '_')}~${spawnSync('true').pid}~77`);
    await store.put('owned', Buffer.from('2'), { ifMatch: etag });
    expect((await readBody((await store.get('owned')).body)).toString()).toBe('2');
  });

  it.each([
    ['is gone', async () => undefined],
    ['is an empty one, as where its volume was unmounted,', async () => mkdir(root)],
  ])('says what it is when the directory %s while it runs, and writes nothing there', async (_what, replace) => {
    const { etag } = await store.put('owned', Buffer.from('1'));
    await rename(root, `${root}-away`);
    folders.push(`${root}-away`);
    await replace();
    const gone = expect.objectContaining({
      code: 'UNREACHABLE',
      message: expect.stringContaining('directory is gone') as string,
    }) as unknown;
    await expect(store.put('owned', Buffer.from('2'), { ifMatch: etag })).rejects.toEqual(gone);
    await expect(store.put('new', Buffer.from('2'), { ifNoneMatch: '*' })).rejects.toEqual(gone);
    await expect(store.get('owned')).rejects.toEqual(gone);
    await expect(store.head('owned')).rejects.toEqual(gone);
    await expect(store.check()).rejects.toEqual(gone);
    await expect(store.list('').next()).rejects.toEqual(gone);
    await expect(store.delete('owned')).rejects.toEqual(gone);
    await rm(root, { recursive: true, force: true });
    await rename(`${root}-away`, root);
    await store.put('owned', Buffer.from('2'), { ifMatch: etag });
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
