import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { ObjectStore, PutOptions } from '../../../src/sessions/ports.js';
import { openStore, probe } from '../../../src/storage/index.js';
import { type Asked, type Fault, FaultyProxy } from '../../support/faulty-proxy.js';
import { S3_SERVER_TIMEOUT_MS, startS3Server, type S3Server } from '../../support/s3-server.js';
import { readBody, withCode } from '../../support/store-contract.js';

let server: S3Server;
let proxy: FaultyProxy;
let store: ObjectStore;
let bucket: string;

beforeAll(async () => {
  server = await startS3Server();
  proxy = await FaultyProxy.start(server.endpoint);
}, S3_SERVER_TIMEOUT_MS);
afterAll(async () => {
  await proxy?.stop();
  await server?.stop();
});

beforeEach(async () => {
  const { region, credentials } = server;
  bucket = await server.createBucket();
  store = openStore(`s3://${bucket}/here`, { endpoint: proxy.endpoint, region, credentials, requestTimeoutMs: 1000 });
});
afterEach(() => {
  proxy.heal();
  vi.unstubAllEnvs();
});

const x = Buffer.from('x');
const text = async (key: string): Promise<string> => (await readBody((await store.get(key)).body)).toString();

/** The first `times` requests that fit go wrong. */
function wrong(times: number, fits: (asked: Asked) => boolean, fault: Fault): void {
  let left = times;
  proxy.fault = (asked) => (fits(asked) && left-- > 0 ? fault : undefined);
}

const puts = ({ method, conditional }: Asked): boolean => method === 'PUT' && conditional;

describe('a conditional write that the server asks to try again (409)', () => {
  it.each(['ConditionalRequestConflict', 'OperationAborted'])('is tried again: %s', async (code) => {
    const { etag } = await store.put('owned', x, { ifNoneMatch: '*' });
    wrong(3, puts, { status: 409, code });
    await store.put('owned', Buffer.from('second'), { ifMatch: etag });
    expect(await text('owned')).toBe('second');
  });

  it('is ours when the first answer got lost', async () => {
    const { etag } = await store.put('owned', x, { ifNoneMatch: '*' });
    let n = 0;
    proxy.fault = (asked) => {
      if (!puts(asked)) return undefined;
      n++;
      return n === 1 ? { loseAnswer: true } : n === 2 ? { status: 409 } : undefined;
    };
    await store.put('owned', Buffer.from('second'), { ifMatch: etag });
    expect(n).toBe(3);
    expect(await text('owned')).toBe('second');
  });

  it('is a conflict when a rival won after all', async () => {
    const { etag } = await store.put('owned', x, { ifNoneMatch: '*' });
    wrong(2, puts, { status: 409 });
    await store.put('owned', Buffer.from('rival'));
    await expect(store.put('owned', Buffer.from('late'), { ifMatch: etag })).rejects.toEqual(withCode('CONFLICT'));
  });

  it('is no conflict but a store that cannot be used now, when it goes on', async () => {
    wrong(100, puts, { status: 409 });
    await expect(store.put('owned', x, { ifNoneMatch: '*' })).rejects.toEqual(withCode('UNREACHABLE'));
  });

  it('is no conflict when something is read', async () => {
    await store.put('read', x);
    wrong(100, ({ method }) => method !== 'PUT', { status: 409 });
    await expect(store.get('read')).rejects.toEqual(withCode('UNREACHABLE'));
    await expect(store.head('read')).rejects.toEqual(withCode('UNREACHABLE'));
  });
});

describe('an answer', () => {
  it('that gets lost is not a rival', async () => {
    const { etag } = await store.put('owned', x, { ifNoneMatch: '*' });
    wrong(1, puts, { loseAnswer: true });
    const written = await store.put('owned', Buffer.from('mine'), { ifMatch: etag });
    expect((await store.head('owned'))?.etag).toBe(written.etag);
  });

  it('that is cut off is not taken for the whole', async () => {
    await store.put('long', randomBytes(300_000));
    wrong(1, ({ method }) => method === 'GET', { cutAnswerAt: 100_000 });
    await expect(store.get('long').then(({ body }) => readBody(body))).rejects.toEqual(withCode('UNREACHABLE'));
    expect((await readBody((await store.get('long')).body)).length).toBe(300_000);
  });

  it('that never comes ends the waiting', async () => {
    wrong(100, () => true, { hang: true });
    await expect(store.get('never')).rejects.toEqual(withCode('UNREACHABLE'));
  }, 20_000);
});

it('writes half of nothing', async () => {
  const { etag } = await store.put('half', Buffer.from('old'));
  wrong(1, puts, { cutRequestAt: 1000 });
  const bytes = randomBytes(200_000);
  await store.put('half', bytes, { ifMatch: etag });
  expect((await readBody((await store.get('half')).body)).equals(bytes)).toBe(true);
});

it.each([
  [403, 'DENIED'],
  [500, 'UNREACHABLE'],
  [503, 'UNREACHABLE'],
  [412, 'CONFLICT'],
  [507, 'NO_SPACE'],
] as const)('takes %i for %s', async (status, code) => {
  wrong(100, puts, { status });
  await expect(store.put('key', x, { ifNoneMatch: '*' })).rejects.toEqual(withCode(code));
});

describe('a server without conditional writes', () => {
  const names = expect.objectContaining({
    code: 'UNUSABLE',
    message: expect.stringContaining('conditional writes') as string,
  }) as unknown;

  it('that says so (501) is named, at once', async () => {
    const from = proxy.asked.length;
    wrong(100, puts, { status: 501 });
    await expect(store.put('key', x, { ifNoneMatch: '*' })).rejects.toEqual(names);
    await expect(store.put('key', x, { ifMatch: '"etag"' })).rejects.toEqual(names);
    expect(proxy.asked.slice(from).filter(({ key }) => key === 'here/key')).toHaveLength(2);
    await expect(probe(store)).rejects.toEqual(names);
  });

  it.each(['ifNoneMatch', 'ifMatch'])('that takes no notice of %s is found out by a probe', async (condition) => {
    const careless = Object.assign(Object.create(store) as ObjectStore, {
      put: (key: string, body: Uint8Array, options: PutOptions) =>
        store.put(key, body, { ...options, [condition]: undefined }),
      delete: (key: string) => store.delete(key),
    });
    await expect(probe(careless)).rejects.toEqual(names);
  });

  it('is not what this one is, and the probe leaves nothing behind', async () => {
    await probe(store);
    for await (const { key } of store.list('')) expect(key).toBe('none');
  });
});

describe('where the bucket is', () => {
  const inRegion = expect.objectContaining({
    code: 'UNUSABLE',
    message: expect.stringMatching(/region eu-central-1.*LONGLIVE_S3_REGION/) as string,
  }) as unknown;

  it.each([301, 400])('is said when it is another region (%i)', async (status) => {
    wrong(100, () => true, { status, headers: { 'x-amz-bucket-region': 'eu-central-1' } });
    await expect(store.check()).rejects.toEqual(inRegion);
    await expect(store.put('key', x)).rejects.toEqual(inRegion);
    await expect(store.get('key')).rejects.toEqual(inRegion);
    await expect(store.head('key')).rejects.toEqual(inRegion);
    await expect(store.list('')[Symbol.asyncIterator]().next()).rejects.toEqual(inRegion);
  });

  const regionOf = (authorization: string | undefined): string | undefined => authorization?.split('/')[2];

  it('follows from the profile when nothing else says it', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'longlive-aws-'));
    await writeFile(join(folder, 'config'), '[profile films]\nregion = eu-west-3\n');
    vi.stubEnv('AWS_CONFIG_FILE', join(folder, 'config'));
    vi.stubEnv('AWS_PROFILE', 'films');
    vi.stubEnv('AWS_REGION', undefined);
    const { credentials } = server;
    const from = proxy.asked.length;
    await openStore(`s3://${bucket}`, { endpoint: proxy.endpoint, credentials })
      .head('key')
      .catch(() => undefined);
    expect(regionOf(proxy.asked[from]?.headers.authorization)).toBe('eu-west-3');
    await rm(folder, { recursive: true });
  });

  it.each(['AWS_ENDPOINT_URL_S3', 'AWS_ENDPOINT_URL'])('is taken from %s as from our own setting', async (name) => {
    vi.stubEnv(name, proxy.endpoint);
    vi.stubEnv('AWS_ENDPOINT_URL_S3', name === 'AWS_ENDPOINT_URL' ? undefined : proxy.endpoint);
    const { region, credentials } = server;
    const from = proxy.asked.length;
    await openStore(`s3://${bucket}`, { region, credentials }).put('by-environment', x);
    const [asked] = proxy.asked.slice(from);
    expect(asked?.key).toBe('by-environment');
    expect(Object.keys(asked?.headers ?? {}).filter((header) => header.includes('checksum'))).toEqual([]);
  });

  it('is taken from the profile too', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'longlive-aws-'));
    const sections = `[default]\nservices = here\n[services here]\ns3 =\n  endpoint_url = ${proxy.endpoint}\n`;
    await writeFile(join(folder, 'config'), sections);
    vi.stubEnv('AWS_CONFIG_FILE', join(folder, 'config'));
    const { region, credentials } = server;
    const from = proxy.asked.length;
    await openStore(`s3://${bucket}`, { region, credentials }).put('by-profile', x);
    expect(proxy.asked[from]?.key).toBe('by-profile');
    await rm(folder, { recursive: true });
  });
});

it('takes connections back from bodies that nobody reads', async () => {
  await store.put('unread', randomBytes(2 << 20));
  for (let i = 0; i < 50; i++) await store.get('unread');
  expect((await readBody((await store.get('unread')).body)).length).toBe(2 << 20);
});
