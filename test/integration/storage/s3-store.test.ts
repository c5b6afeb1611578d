import { randomBytes } from 'node:crypto';
import { connect, createServer, type Socket } from 'node:net';
import { ListMultipartUploadsCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ObjectStore } from '../../../src/sessions/ports.js';
import { openStore, type StoreOptions } from '../../../src/storage/index.js';
import { freePort, S3_SERVER_TIMEOUT_MS, startS3Server, type S3Server } from '../../support/s3-server.js';
import { describeStore, inParts, readBody, withCode } from '../../support/store-contract.js';

let server: S3Server;
let options: StoreOptions;

beforeAll(async () => {
  server = await startS3Server();
  const { endpoint, region, credentials } = server;
  options = { endpoint, region, credentials };
}, S3_SERVER_TIMEOUT_MS);
afterAll(() => server?.stop());

const open = async (): Promise<ObjectStore> => openStore(`s3://${await server.createBucket()}/videos/here`, options);

describeStore('a bucket', open);

describe('a bucket', () => {
  let bucket: string;
  let store: ObjectStore;
  beforeAll(async () => {
    bucket = await server.createBucket();
    store = openStore(`s3://${bucket}/prefix`, options);
  });

  const unfinishedUploads = async (): Promise<number> => {
    const client = new S3Client({ ...options, forcePathStyle: true });
    return (await client.send(new ListMultipartUploadsCommand({ Bucket: bucket }))).Uploads?.length ?? 0;
  };

  it('keeps what is under one prefix from another', async () => {
    await store.put('mine', Buffer.from('x'));
    const other = openStore(`s3://${bucket}/other`, options);
    expect(await other.head('mine')).toBeUndefined();
    expect(await openStore(`s3://${bucket}`, options).head('prefix/mine')).toMatchObject({ size: 1 });
  });

  it('leaves no parts behind when a stream fails', async () => {
    async function* broken(): AsyncGenerator<Uint8Array> {
      for (let i = 0; i < 3; i++) yield randomBytes(8 << 20);
      throw new Error('the source broke');
    }
    await expect(store.putStream('parts', broken())).rejects.toThrow('the source broke');
    expect(await unfinishedUploads()).toBe(0);
    expect(await store.head('parts')).toBeUndefined();
  });

  it('leaves no parts behind when another writer was first', async () => {
    await store.put('taken', Buffer.from('first'));
    const late = store.putStream('taken', inParts(randomBytes(12 << 20), 1 << 20), { ifNoneMatch: '*' });
    await expect(late).rejects.toEqual(withCode('CONFLICT'));
    expect(await unfinishedUploads()).toBe(0);
    expect((await store.head('taken'))?.size).toBe(5);
  });

  it('does not take its own lost answer for a rival', async () => {
    const flaky = await interfere(server.endpoint, (upstream, client, n) => {
      if (n === 1) upstream.once('data', () => client.destroy());
      else upstream.pipe(client);
    });
    const through = openStore(`s3://${bucket}/prefix`, { ...options, endpoint: flaky.endpoint });
    const { etag } = await through.put('lost', Buffer.from('mine'), { ifNoneMatch: '*' });
    expect(flaky.connections()).toBeGreaterThan(1);
    expect(await store.head('lost')).toMatchObject({ etag, size: 4 });
    flaky.close();
  });

  it('gives up a body that stops arriving', async () => {
    await store.put('stalls', randomBytes(4 << 20));
    const stalling = await interfere(server.endpoint, (upstream, client) => {
      upstream.once('data', (bytes: Buffer) => client.write(bytes));
      upstream.once('data', () => upstream.pause());
    });
    const through = openStore(`s3://${bucket}/prefix`, {
      ...options,
      endpoint: stalling.endpoint,
      requestTimeoutMs: 500,
    });
    const { body } = await through.get('stalls');
    await expect(readBody(body)).rejects.toEqual(withCode('UNREACHABLE'));
    stalling.close();
  });

  describe('pre-signed', () => {
    const bytes = randomBytes(1000);
    const sign = async (options: Partial<{ expiresInSeconds: number; downloadName: string }> = {}): Promise<string> =>
      (await store.presign('video.mp4', { expiresInSeconds: 60, ...options }))!;
    beforeAll(() => store.put('video.mp4', bytes, { contentType: 'video/mp4', cacheControl: 'max-age=60' }));

    it('downloads need no credentials', async () => {
      const answer = await fetch(await sign());
      expect(answer.status).toBe(200);
      expect(answer.headers.get('content-type')).toBe('video/mp4');
      expect(answer.headers.get('cache-control')).toBe('max-age=60');
      expect(Buffer.from(await answer.arrayBuffer()).equals(bytes)).toBe(true);
    });

    it('downloads obey Range', async () => {
      const answer = await fetch(await sign(), { headers: { range: 'bytes=100-199' } });
      expect(answer.status).toBe(206);
      expect(answer.headers.get('content-range')).toBe('bytes 100-199/1000');
      expect(Buffer.from(await answer.arrayBuffer()).equals(bytes.subarray(100, 200))).toBe(true);
    });

    it('downloads carry a file name', async () => {
      const answer = await fetch(await sign({ downloadName: 'Meine "Katze" 猫.mp4' }));
      expect(answer.headers.get('content-disposition')).toBe(
        `attachment; filename="Meine _Katze_ _.mp4"; filename*=UTF-8''Meine%20%22Katze%22%20%E7%8C%AB.mp4`,
      );
    });

    it('URLs open nothing else, and not for ever', async () => {
      const url = new URL(await sign({ expiresInSeconds: 1 }));
      const tampered = new URL(url);
      tampered.pathname = tampered.pathname.replace('video.mp4', 'mine');
      expect((await fetch(tampered)).status).toBe(403);
      const longer = new URL(url);
      longer.searchParams.set('X-Amz-Expires', '600');
      expect((await fetch(longer)).status).toBe(403);
      const unsigned = new URL(url);
      unsigned.search = '';
      expect((await fetch(unsigned)).ok).toBe(false);
      await new Promise((resolve) => setTimeout(resolve, 2100));
      expect((await fetch(url)).status).toBe(403);
    });

    it('URLs point where clients reach the server', async () => {
      const publicEndpoint = server.endpoint.replace('127.0.0.1', 'localhost');
      const outside = openStore(`s3://${bucket}/prefix`, { ...options, publicEndpoint });
      const url = (await outside.presign('video.mp4', { expiresInSeconds: 60 }))!;
      expect(url.startsWith(`${publicEndpoint}/`)).toBe(true);
      expect((await fetch(url)).status).toBe(200);
    });
  });
});

describe('a bucket that cannot be used', () => {
  it('is told apart when the credentials are wrong', async () => {
    const bucket = await server.createBucket();
    const wrong = { accessKeyId: server.credentials.accessKeyId, secretAccessKey: 'wrong' };
    const store = openStore(`s3://${bucket}`, { ...options, credentials: wrong });
    await expect(store.put('key', Buffer.from('x'))).rejects.toEqual(withCode('DENIED'));
    await expect(store.get('key')).rejects.toEqual(withCode('DENIED'));
    await expect(store.check()).rejects.toEqual(withCode('DENIED'));
  });

  it('is unreachable when it does not exist', async () => {
    const store = openStore('s3://no-such-bucket', options);
    await expect(store.put('key', Buffer.from('x'))).rejects.toEqual(withCode('UNREACHABLE'));
    await expect(store.check()).rejects.toEqual(withCode('UNREACHABLE'));
  });

  it('is unreachable when nobody listens', async () => {
    const store = openStore('s3://bucket', { ...options, endpoint: `http://127.0.0.1:${await freePort()}` });
    await expect(store.put('key', Buffer.from('x'))).rejects.toEqual(withCode('UNREACHABLE'));
    await expect(store.putStream('key', inParts(randomBytes(9 << 20), 1 << 20))).rejects.toEqual(
      withCode('UNREACHABLE'),
    );
    await expect(store.get('key')).rejects.toEqual(withCode('UNREACHABLE'));
    await expect(store.head('key')).rejects.toEqual(withCode('UNREACHABLE'));
    await expect(store.check()).rejects.toEqual(withCode('UNREACHABLE'));
  });

  it('is given up in bounded time when it never answers', async () => {
    const silent = await listenSilently();
    const store = openStore('s3://bucket', {
      ...options,
      endpoint: `http://127.0.0.1:${silent.port}`,
      requestTimeoutMs: 300,
      maxAttempts: 2,
    });
    await expect(store.put('key', Buffer.from('x'))).rejects.toEqual(withCode('UNREACHABLE'));
    await expect(store.get('key')).rejects.toEqual(withCode('UNREACHABLE'));
    silent.close();
  }, 20_000);
});

/** A proxy that passes requests on and leaves the answer of the n-th connection to `answer`. */
async function interfere(
  endpoint: string,
  answer: (upstream: Socket, client: Socket, n: number) => void,
): Promise<{ endpoint: string; connections(): number; close(): void }> {
  const { hostname, port } = new URL(endpoint);
  let connections = 0;
  const proxy = createServer((client) => {
    const upstream = connect(Number(port), hostname);
    client.on('error', () => undefined).on('close', () => upstream.destroy());
    upstream.on('error', () => client.destroy());
    client.pipe(upstream);
    answer(upstream, client, ++connections);
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const own = (proxy.address() as { port: number }).port;
  return { endpoint: `http://127.0.0.1:${own}`, connections: () => connections, close: () => void proxy.close() };
}

/** Accepts connections and says nothing. */
async function listenSilently(): Promise<{ port: number; close: () => void }> {
  const sockets: Socket[] = [];
  const silent = createServer((socket) => sockets.push(socket.on('error', () => undefined)));
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  const close = (): void => {
    silent.close();
    for (const socket of sockets) socket.destroy();
  };
  return { port: (silent.address() as { port: number }).port, close };
}
