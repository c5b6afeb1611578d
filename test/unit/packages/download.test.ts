import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ChecksumError, download, type DownloadOptions, readSmall } from '../../../src/packages/download.js';
import { leave } from '../../../src/files/body.js';
import { HttpFolder } from '../../../src/packages/http-folder.js';
import { LocalFolder } from '../../../src/packages/remote-folder.js';
import { type Fault, RangeServer } from '../../support/range-server.js';

// Real files that are synced, on machines that may be busy.
vi.setConfig({ testTimeout: 60_000 });

const KB = 1024;
const PATIENT_MS = 30_000;
const STALL_MS = 150;

let root: string;
let server: RangeServer;
let folder: HttpFolder;
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'longlive-fetch-'));
  server = new RangeServer();
  folder = new HttpFolder(await server.start(), { stallMs: PATIENT_MS });
});
afterEach(async () => {
  await server.stop();
  rmSync(root, { recursive: true, force: true });
});

function put(file: string, bytes: number) {
  const content = randomBytes(bytes);
  server.files.set(file, content);
  return { bytes, sha256: createHash('sha256').update(content).digest('hex') };
}

const FAST: DownloadOptions = { connections: 4, partBytes: 64 * KB, retryMs: 1 };

function fetchAll(files: Record<string, { bytes: number; sha256: string }>, options: DownloadOptions = {}) {
  return download(folder, files, root, { ...FAST, ...options });
}

function expectWhole(...files: string[]): void {
  for (const file of files) expect(readFileSync(join(root, file)).equals(server.files.get(file) as Buffer)).toBe(true);
}

/** The fault for the first requests of a file. */
const first = (times: number, fault: Fault) => (_request: unknown, count: number) =>
  count <= times ? fault : undefined;

describe('a download', () => {
  it('brings every file whole, in parts, by no more connections than allowed', async () => {
    const files = { a: put('a', 1000 * KB + 7), b: put('b', 3), empty: put('empty', 0), c: put('c', 64 * KB) };
    const told = new Map<string, number>();
    server.delayMs = 10;
    await fetchAll(files, { onBytes: (bytes, file) => told.set(file, (told.get(file) ?? 0) + bytes) });
    expectWhole('a', 'b', 'empty', 'c');
    expect(told.get('a')).toBe(files.a.bytes);
    expect(server.requests).toHaveLength(16 + 1 + 1);
    expect(server.mostActive).toBeGreaterThan(1);
    expect(server.mostActive).toBeLessThanOrEqual(4);
  });

  it('goes on at the byte reached when connections drop', async () => {
    const files = { a: put('a', 300 * KB) };
    server.fault = first(6, { after: 10 * KB });
    await fetchAll(files);
    expectWhole('a');
    const starts = server.requests.map(({ range }) => Number(/(\d+)-/.exec(range ?? '')?.[1]));
    expect(starts.some((start) => start % (64 * KB) !== 0)).toBe(true);
  });

  it('ends waiting for a server that sends nothing more, and tries again', async () => {
    const files = { a: put('a', 100 * KB) };
    server.fault = first(2, { after: 1 * KB, stall: true });
    folder = new HttpFolder(folder.address, { stallMs: STALL_MS });
    await fetchAll(files);
    expectWhole('a');
  });

  it('ends an attempt that takes too long although bytes drip, and keeps them', async () => {
    const files = { a: put('a', 40 * KB) };
    server.fault = first(1, { after: 20 * KB, stall: true });
    await fetchAll(files, { attemptMs: 200 });
    expectWhole('a');
    expect(server.requests.at(-1)?.range).toBe(`bytes=${20 * KB}-${40 * KB - 1}`);
  });

  it('waits as long as an overloaded server asks for', async () => {
    const files = { a: put('a', 10) };
    server.fault = first(1, { status: 503, headers: { 'retry-after': '1' } });
    const before = Date.now();
    await fetchAll(files);
    expect(Date.now() - before).toBeGreaterThan(950);
  });

  it('gives up after the attempts it has', async () => {
    const files = { a: put('a', 10) };
    server.fault = () => ({ status: 500 });
    await expect(fetchAll(files, { attempts: 3 })).rejects.toThrow('answered 500');
    expect(server.requests).toHaveLength(3);
  });

  it.each([
    ['a file that is not there', { status: 404 }, /answered 404/],
    ['a refusal', { status: 403 }, /answered 403/],
    ['a server without ranges', { whole: true }, /byte ranges/],
    ['another range than asked for', { headers: { 'content-range': 'bytes 1-65536/307200' } }, /different range/],
    ['compression', { headers: { 'content-encoding': 'gzip' } }, /compressed/],
    [
      'a way to a file',
      { status: 302, headers: { location: 'file:///etc/passwd' } },
      /redirects to a disallowed address/,
    ],
    [
      'a way to another scheme',
      { status: 302, headers: { location: 'http://example.com/a' } },
      /redirects to a disallowed address/,
    ],
    ['a way in circles', { status: 302, headers: { location: '/a' } }, /redirects too/],
  ])('refuses %s at once', async (_name, fault, message) => {
    const files = { a: put('a', 300 * KB) };
    server.fault = () => fault;
    await expect(fetchAll(files, { connections: 1 })).rejects.toThrow(message);
    expect(server.requests.length).toBeLessThanOrEqual(6);
  });

  it('follows a redirect', async () => {
    const files = { a: put('a', 100) };
    server.fault = first(1, { status: 307, headers: { location: 'a' } });
    await fetchAll(files);
    expectWhole('a');
  });

  it('notices an object that changes on the way', async () => {
    const files = { a: put('a', 300 * KB) };
    server.fault = (_request, count) => {
      if (count === 3) server.etag = '"two"';
      return undefined;
    };
    await expect(fetchAll(files, { connections: 1 })).rejects.toThrow('changed while');
    expect(server.requests[1]?.ifRange).toBe('"one"');
  });

  it('refuses wrong bytes, and a file of another size before reading it', async () => {
    const files = { a: put('a', 100 * KB), b: put('b', 10) };
    server.fault = ({ file }) => (file === 'a' ? { change: (body) => Buffer.from(body).fill(7, 0, 1) } : undefined);
    await expect(fetchAll(files)).rejects.toThrow(ChecksumError);
    server.fault = () => undefined;
    const refused = download(folder, { b: { ...files.b, bytes: 5 } }, root, { ...FAST });
    await expect(refused).rejects.toThrow('has 10 bytes; the manifest says 5');
  });

  it('goes on after its process died, with what is on disk', async () => {
    const files = { a: put('a', 300 * KB) };
    const content = server.files.get('a') as Buffer;
    writeFileSync(join(root, 'a'), content.subarray(0, 100 * KB + 1));
    await fetchAll(files);
    expectWhole('a');
    expect(server.requests[0]?.range).toMatch(new RegExp(`^bytes=${100 * KB + 1}-`));
  });

  it('leaves nothing to go on with when the beginning on disk was of something else', async () => {
    const files = { a: put('a', 300 * KB) };
    writeFileSync(join(root, 'a'), randomBytes(1000));
    await expect(fetchAll(files)).rejects.toThrow(ChecksumError);
    expect(statSync(join(root, 'a')).size).toBe(0);
    await fetchAll(files);
    expectWhole('a');
  });

  it('stops when it is told to', async () => {
    const files = { a: put('a', 300 * KB) };
    const stop = new AbortController();
    const fetching = fetchAll(files, {
      signal: stop.signal,
      connections: 1,
      onBytes: () => stop.abort(new Error('enough')),
    });
    await expect(fetching).rejects.toThrow('enough');
    expect(statSync(join(root, 'a')).size).toBeLessThan(300 * KB);
  });

  it('keeps no more in memory than its buffers', async () => {
    const MB = KB * KB;
    const part = randomBytes(MB);
    const hash = createHash('sha256');
    const parts = 48;
    for (let i = 0; i < parts; i++) hash.update(part);
    let most = 0;
    let reads = 0;
    const endless = {
      address: 'memory',
      read: async () => ({
        size: parts * MB,
        validator: 'x',
        bytes: (async function* () {
          reads++;
          for (let at = 0; at < MB; at += 64 * KB) yield part.subarray(at, at + 64 * KB);
          most = Math.max(most, process.memoryUsage().arrayBuffers);
        })(),
      }),
    };
    const before = process.memoryUsage().arrayBuffers;
    const files = { a: { bytes: parts * MB, sha256: hash.digest('hex') } };
    await download(endless, files, root, { connections: 4, partBytes: MB });
    expect(reads).toBe(parts);
    expect(most - before).toBeLessThan(8 * MB);
  });
});

describe('an address', () => {
  it.each([
    'ftp://example.com/',
    'http://example.com/x',
    'https://user:secret@example.com/',
    'https://example.com/?key=1',
  ])('%s is refused', (address) => {
    expect(() => new HttpFolder(address)).toThrow(TypeError);
  });

  it('is a folder, with or without a slash at its end', () => {
    expect(new HttpFolder('https://example.com/models/pocket').address).toBe('https://example.com/models/pocket/');
  });
});

describe('a small file', () => {
  it('is not read further than it may be long', async () => {
    put('manifest.json', 200);
    await expect(readSmall(folder, 'manifest.json', 100)).rejects.toThrow('larger than the limit of 100 bytes');
    expect(await readSmall(folder, 'manifest.json', 200)).toHaveLength(200);
    expect(existsSync(join(root, 'manifest.json'))).toBe(false);
  });

  it('is asked for again when the connection drops', async () => {
    put('manifest.json', 200);
    server.fault = first(2, { after: 10 });
    expect(await readSmall(folder, 'manifest.json', 1000, { retryMs: 1 })).toHaveLength(200);
  });
});

describe('a body that nobody reads', () => {
  it('gives its connection back', async () => {
    server.files.set('large', randomBytes(8 << 20));
    for (let i = 0; i < 5; i++) await leave((await folder.read('large')).bytes);
    await vi.waitFor(() => expect(server.active).toBe(0));
  });

  it('opens no file of a directory, even of one that is gone by then', async () => {
    writeFileSync(join(root, 'file'), 'bytes');
    const before = readdirSync('/proc/self/fd').length;
    const bodies = await Promise.all(Array.from({ length: 20 }, () => new LocalFolder(root).read('file')));
    rmSync(join(root, 'file'));
    expect(readdirSync('/proc/self/fd').length - before).toBeLessThan(5);
    await Promise.all(bodies.map(({ bytes }) => leave(bytes)));
  });
});
