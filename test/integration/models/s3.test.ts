import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { download } from '../../../src/packages/download.js';
import { openEngine } from '../../../src/engine/index.js';
import { PackageCache } from '../../../src/packages/index.js';
import { StoreFolder } from '../../../src/packages/remote-folder.js';
import { S3Store } from '../../../src/storage/s3-store.js';
import { FakeAddon, writePackage } from '../../support/model-packages.js';
import { S3_SERVER_TIMEOUT_MS, type S3Server, startS3Server } from '../../support/s3-server.js';

let server: S3Server;
let root: string;
let bucket: string;
beforeAll(async () => {
  server = await startS3Server();
}, S3_SERVER_TIMEOUT_MS);
afterAll(() => server.stop());
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'longlive-s3-models-'));
  bucket = await server.createBucket();
  return () => rmSync(root, { recursive: true, force: true });
});

function store(prefix = ''): S3Store {
  const { endpoint, region, credentials } = server;
  return new S3Store({ endpoint, region, credentials, bucket, prefix });
}

async function upload(directory: string, prefix: string): Promise<void> {
  for (const file of readdirSync(directory)) await store(prefix).put(file, readFileSync(join(directory, file)));
}

function open(address: string, addon = new FakeAddon()) {
  const cache = new PackageCache({ directory: join(root, 'cache'), limitBytes: 1e9 });
  const openStore = (url: string) => store(`${new URL(url).pathname.replace(/^\/|\/$/g, '')}/`);
  return openEngine({ models: [address], addon, cache, openStore, download: { partBytes: 100_000 } });
}

test('a package in a bucket is fetched in parts and loaded from the cache', async () => {
  const weights = randomBytes(1_234_567);
  const directory = writePackage(root, 'far', { files: { 'dit.safetensors': weights } });
  await upload(directory, 'models/far/');
  const addon = new FakeAddon();
  const engine = await open(`s3://${bucket}/models/far/`, addon);
  const [cached = ''] = addon.loaded;
  expect(cached).toContain(join(root, 'cache'));
  expect(readFileSync(join(cached, 'dit.safetensors')).equals(weights)).toBe(true);
  await engine.close();
});

test('a bucket without such a package says what is missing', async () => {
  await expect(open(`s3://${bucket}/nothing/here/`)).rejects.toThrow(/manifest\.json: there is no such object/);
});

test('wrong bytes in the bucket are refused', async () => {
  const directory = writePackage(root, 'far', { files: { 'dit.safetensors': 'right' } });
  await upload(directory, 'far/');
  await store('far/').put('dit.safetensors', Buffer.from('wrong'));
  await expect(open(`s3://${bucket}/far/`)).rejects.toThrow('dit.safetensors does not match the manifest');
});

test('an object that is replaced while it is read is noticed', async () => {
  const content = randomBytes(400_000);
  await store().put('a', content);
  const sha256 = createHash('sha256').update(content).digest('hex');
  const get = store();
  let reads = 0;
  const replacing = {
    get: async (key: string, range?: { start: number; end: number }) => {
      if (++reads === 3) await store().put('a', randomBytes(400_000));
      return get.get(key, range);
    },
  };
  const folder = new StoreFolder('s3://bucket/', replacing);
  const options = { connections: 1, partBytes: 100_000 };
  await expect(download(folder, { a: { bytes: 400_000, sha256 } }, root, options)).rejects.toThrow('changed while');
});
