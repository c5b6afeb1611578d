/** Servers that call themselves S3-compatible, as they document to differ from it. */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, beforeEach, describe, expect, it, test, vi } from 'vitest';
import type { ObjectStore } from '../../../src/sessions/ports.js';
import { openStore, probe } from '../../../src/storage/index.js';
import { type Dialect, DialectServer } from '../../support/s3-dialect.js';
import { readBody, withCode } from '../../support/store-contract.js';

/** For a busy machine. */
vi.setConfig({ testTimeout: 60_000 });

let server: DialectServer;
let store: ObjectStore;

beforeAll(async () => {
  server = await DialectServer.start();
});
afterAll(async () => {
  await server?.stop();
});
beforeEach(() => {
  const credentials = { accessKeyId: 'a', secretAccessKey: 's' };
  store = openStore('s3://bucket/here', { endpoint: server.endpoint, region: 'auto', credentials, maxAttempts: 1 });
});

const bytes = (text: string) => Buffer.from(text);
const sha = (body: Buffer) => createHash('sha256').update(body).digest('hex');
/** Of SDKs since January 2025, which older servers refuse or store as a part of the object. */
const NEW_HEADERS = /x-amz-(?:checksum|sdk-checksum|trailer)|aws-chunked|streaming-/i;

async function keysOf(prefix: string, after?: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of store.list(prefix, after === undefined ? {} : { after })) keys.push(key);
  return keys;
}

describe.each<[string, Dialect]>([
  ['MinIO: tags of its own for encrypted objects', { tag: (body) => `"${sha(body).slice(0, 32)}"` }],
  ['Ceph RGW, Garage, before they knew checksums', { refused: NEW_HEADERS }],
  ['R2: no checksums on parts, a length for each body', { refused: NEW_HEADERS, needsLength: true }],
  [
    'Google: tags that are no MD5, without quotes',
    { tag: (body) => `CK${sha(body).slice(0, 10)}=`, conditions: 'kept' },
  ],
  ['B2: long tags; a length for each body', { tag: (body) => `"${sha(body)}-1"`, needsLength: true }],
  ['SeaweedFS: start-after is not noticed', { startAfter: 'ignored', refused: NEW_HEADERS }],
  ['listings as of old, with a marker', { pages: 'marker' }],
  ['listings that do not say how to go on', { pages: 'truncated' }],
])('%s', (_, dialect) => {
  beforeEach(() => server.speak(dialect));

  it('stores, reads and lists', async () => {
    const { etag } = await store.put('sessions/a', bytes('one'), { ifNoneMatch: '*' });
    expect(etag).toMatch(/^".+"$/);
    expect(await store.head('sessions/a')).toMatchObject({ size: 3, etag });
    const part = await store.get('sessions/a', { start: 1, end: 1 });
    expect([(await readBody(part.body)).toString(), part.size]).toEqual(['n', 3]);
    const names = ['b', 'c', 'd', 'e', 'f'].map((name) => `sessions/${name}`);
    for (const name of names) await store.put(name, bytes(name));
    expect(await keysOf('sessions/')).toEqual(['sessions/a', ...names]);
    expect(await keysOf('sessions/', 'sessions/c')).toEqual(names.slice(2));
    await store.delete('sessions/a');
    expect(await store.head('sessions/a')).toBeUndefined();
  });

  it('takes what comes in parts', async () => {
    const parts = [Buffer.alloc(9 << 20, 1), Buffer.alloc(1 << 20, 2)];
    await store.putStream('sessions/video.mp4', Readable.from(parts), { ifNoneMatch: '*' });
    expect((await readBody((await store.get('sessions/video.mp4')).body)).equals(Buffer.concat(parts))).toBe(true);
    await store.putStream('sessions/short.mp4', Readable.from([bytes('short')]));
    expect(await store.head('sessions/short.mp4')).toMatchObject({ size: 5 });
  });
});

describe('conditional writes', () => {
  it.each<[string, Dialect['conditions']]>([
    ['B2, which says that it has none', { status: 501, code: 'NotImplemented' }],
    ['a server that does not know the header', { status: 400, code: 'InvalidArgument', message: 'If-None-Match' }],
    [
      'one that calls it an invalid request',
      { status: 400, code: 'InvalidRequest', message: 'if-match is unsupported' },
    ],
    ['one that names it not implemented with 400', { status: 400, code: 'NotImplemented' }],
    ['Google, which takes no notice of them', 'ignored'],
  ])('are named as what is missing: %s', async (_, conditions) => {
    server.speak({ conditions });
    await expect(probe(store)).rejects.toMatchObject({
      code: 'UNUSABLE',
      message: expect.stringContaining('does not support conditional writes') as string,
    });
  });

  it.each<[string, Dialect, string]>([
    ['deletes nothing, as under object lock', { deletions: 'refused' }, 'does not let objects be deleted'],
    ['takes no notice of ranges', { ranges: 'ignored' }, 'sends whole objects where a part is asked for'],
  ])('are not all that is tried: a store that %s cannot be used', async (_, dialect, message) => {
    server.speak(dialect);
    await expect(probe(store)).rejects.toMatchObject({
      code: 'UNUSABLE',
      message: expect.stringContaining(message) as string,
    });
  });

  it('are enough where the tag of equal bytes stays the same', async () => {
    server.speak({});
    await probe(store);
  });
});

describe('a refusal with the status of a success', () => {
  const refusal = (code: string) => `<?xml version="1.0"?><Error><Code>${code}</Code><Message>m</Message></Error>`;
  const asks: Record<string, () => Promise<unknown>> = {
    put: () => store.put('sessions/a', bytes('x')),
    list: () => keysOf('sessions/'),
    check: () => store.check(),
    delete: () => store.delete('sessions/a'),
  };

  test.each(Object.keys(asks))('is one to %s', async (name) => {
    for (const [code, wanted] of [
      ['SlowDown', 'has too much to do just now'],
      ['AccessDenied', 'check the credentials'],
    ] as const) {
      server.speak({ lies: () => refusal(code) });
      await expect(asks[name]?.()).rejects.toMatchObject({ message: expect.stringContaining(wanted) as string });
    }
  });

  test('is one to an upload that ends', async () => {
    server.speak({
      lies: ({ method, url = '' }) =>
        method === 'POST' && url.includes('uploadId') ? refusal('InternalError') : undefined,
    });
    const parts = [Buffer.alloc(9 << 20)];
    await expect(store.putStream('sessions/a', Readable.from(parts))).rejects.toEqual(withCode('UNREACHABLE'));
  });
});

test('a listing that stands still is given up', async () => {
  server.speak({ pages: 'truncated', startAfter: 'ignored' });
  for (const name of ['a', 'b', 'c']) await store.put(`sessions/${name}`, bytes(name));
  await expect(keysOf('sessions/')).rejects.toMatchObject({ code: 'UNUSABLE' });
});
