/** A server that answers like S3 and is nobody's friend. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { withoutPaths } from '../../../src/api/index.js';
import { systemClock } from '../../../src/sessions/index.js';
import { type ObjectStore, StoreError } from '../../../src/sessions/ports.js';
import { Vault } from '../../../src/sessions/stored/vault.js';
import { openStore } from '../../../src/storage/index.js';
import { mutate, randomFrom } from '../../fuzz/mutate.js';

/** For a busy machine. */
vi.setConfig({ testTimeout: 60_000 });

type Answer = (request: URL, response: ServerResponse) => void;

let server: Server;
let store: ObjectStore;
let answer: Answer;
let asked: URL[];

beforeAll(async () => {
  server = createServer((request: IncomingMessage, response) => {
    asked.push(new URL(request.url ?? '/', 'http://localhost'));
    answer(asked.at(-1) as URL, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const credentials = { accessKeyId: 'a', secretAccessKey: 's' };
  store = openStore('s3://bucket/here', { endpoint, region: 'us-east-1', credentials, maxAttempts: 1 });
});
afterAll(() => {
  server?.closeAllConnections();
  server?.close();
});

const page = (keys: readonly string[], more = '') =>
  `<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>` +
  `<Prefix>here/</Prefix><KeyCount>${keys.length}</KeyCount><MaxKeys>1000</MaxKeys>` +
  (more ? `<IsTruncated>true</IsTruncated><NextContinuationToken>${more}</NextContinuationToken>` : '') +
  keys.map((key) => `<Contents><Key>${key}</Key><ETag>&quot;x&quot;</ETag><Size>12</Size></Contents>`).join('') +
  `</ListBucketResult>`;

const saying =
  (text: string | Buffer, status = 200): Answer =>
  (_, response) =>
    response.writeHead(status, { 'content-type': 'application/xml' }).end(text);

async function keysOf(after?: string): Promise<string[]> {
  asked = [];
  const keys: string[] = [];
  for await (const { key } of store.list('sessions/', after === undefined ? {} : { after })) keys.push(key);
  return keys;
}

const failure = async (): Promise<StoreError> => {
  const error = await keysOf().then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(StoreError);
  return error as StoreError;
};

test('keys that were not asked for, or that no store of ours has, are nobody’s', async () => {
  answer = saying(
    page([
      ...['here/sessions/a', 'here/other/b', 'elsewhere/sessions/c', 'sessions/d', 'here/sessions/', ''],
      ...[
        'here/sessions/../../etc',
        'here/sessions/.hidden',
        'here/sessions/&#27;[2J',
        `here/sessions/${'x'.repeat(201)}`,
      ],
      ...['here/sessions//e', 'here/sessions/f'],
    ]),
  );
  expect(await keysOf()).toEqual(['sessions/a', 'sessions/f']);
  expect(await keysOf('sessions/a')).toEqual(['sessions/f']);
});

test('keys that a server escapes without being asked are read', async () => {
  const escaped = page(['here%2Fsessions%2Fa%3Db', 'here%2Fsessions%2F%ZZ']).replace(
    '<MaxKeys>',
    '<EncodingType>url</EncodingType><MaxKeys>',
  );
  answer = saying(escaped);
  expect(await keysOf()).toEqual(['sessions/a=b']);
});

test.each([
  ['"abc"', '"abc"'],
  ['W/"abc"', '"abc"'],
  ['abc', '"abc"'],
])('the tag %s is one that a condition fits', async (etag, wanted) => {
  answer = (_, response) => response.writeHead(200, { etag }).end();
  expect(await store.put('sessions/a', Buffer.from('x'))).toEqual({ etag: wanted });
  expect(await store.head('sessions/a')).toMatchObject({ etag: wanted });
  expect(await store.get('sessions/a')).toMatchObject({ etag: wanted });
});

test.each([
  [403, 'RequestTimeTooSkewed', 'DENIED', "this machine's clock differs from the server's"],
  [400, 'ExpiredToken', 'DENIED', 'the credentials have expired; renew them'],
  [403, 'InvalidAccessKeyId', 'DENIED', 'does not know this access key'],
  [403, 'SignatureDoesNotMatch', 'DENIED', 'the secret key is wrong, or a proxy changes requests'],
  [403, 'AccessDenied', 'DENIED', 'check the credentials and the bucket policy'],
  [503, 'SlowDown', 'UNREACHABLE', 'has too much to do just now'],
  [429, 'TooManyRequests', 'UNREACHABLE', 'has too much to do just now'],
  [500, 'InternalError', 'UNREACHABLE', 'or a proxy in front of it, has an error'],
  [502, '', 'UNREACHABLE', /a proxy in front of it, has an error; it is asked again later \(HTTP 502/],
  [400, 'XMinioAdminBucketQuotaExceeded', 'NO_SPACE', 'over its quota'],
  [403, 'QuotaExceeded', 'NO_SPACE', 'over its quota'],
  [404, 'NoSuchBucket', 'UNREACHABLE', 'there is no such bucket'],
  [
    307,
    'TemporaryRedirect',
    'UNREACHABLE',
    /redirects to another address: check s3Endpoint.*Endpoint eu\.example\.com/,
  ],
  [
    301,
    'PermanentRedirect',
    'UNREACHABLE',
    /redirects to another address: check s3Endpoint.*Endpoint eu\.example\.com/,
  ],
  [411, 'MissingContentLength', 'UNREACHABLE', 'MissingContentLength'],
])('%i %s is said as what it is', async (status, name, code, words) => {
  answer = saying(`<Error><Code>${name}</Code><Message>m</Message><Endpoint>eu.example.com</Endpoint></Error>`, status);
  for (const failed of [failure(), store.put('sessions/a', Buffer.from('x')).catch((error: unknown) => error)]) {
    const { code: found, message } = (await failed) as StoreError;
    expect([found, message]).toEqual([code, expect.stringMatching(words)]);
  }
});

test('a listing that goes round in circles is given up', async () => {
  answer = saying(page(['here/sessions/a'], 'again'));
  expect(await failure()).toMatchObject({
    code: 'UNUSABLE',
    message: expect.stringContaining('without end') as string,
  });
  expect(asked).toHaveLength(2);
  let count = 0;
  answer = (url, response) => saying(page(['here/sessions/a'], `token${count++}`))(url, response);
  expect(await failure()).toMatchObject({ code: 'UNUSABLE' });
  expect(asked.length).toBeLessThan(150);
});

test('empty pages before the last one are none of that', async () => {
  let count = 0;
  answer = (url, response) =>
    saying(count < 50 ? page([], `token${count++}`) : page(['here/sessions/z']))(url, response);
  expect(await keysOf()).toEqual(['sessions/z']);
});

test('an answer without end is left, as a refusal', async () => {
  const part = Buffer.alloc(1 << 20, '<Contents></Contents>');
  for (const status of [200, 403]) {
    let sent = 0;
    answer = (_, response) => {
      response.writeHead(status, { 'content-type': 'application/xml' });
      const go = (): void => {
        while (!response.destroyed && sent++ < 2000) if (!response.write(part)) return void response.once('drain', go);
      };
      go();
    };
    expect((await failure()).message).toContain('more than');
    expect(sent).toBeLessThan(200);
  }
});

test.each([
  ['a document type', `<!DOCTYPE x [<!ENTITY a "aaaa">]>${page(['here/sessions/a'])}`],
  ['many of them', '<!doctype x>'.repeat(200_000)],
  ['tags within tags', '<a>'.repeat(1_000_000)],
  ['one long tag', `<${'a'.repeat(1_000_000)}`],
  ['references', `<ListBucketResult>${'&#x110000;&lt'.repeat(50_000)}</ListBucketResult>`],
  ['nothing', ''],
  ['something else', '{"Contents": []}'],
])('%s instead of a listing harms nobody', async (_, text) => {
  answer = saying(text);
  const began = performance.now();
  await keysOf().catch((error: unknown) => expect(error).toBeInstanceOf(StoreError));
  expect(performance.now() - began).toBeLessThan(30_000);
});

test('what the server says of a failure is said in one line', async () => {
  answer = saying(
    `<Error><Code>AccessDenied</Code><Message>no&#27;[2J&#10;FATAL ${'x'.repeat(9000)}</Message></Error>`,
    403,
  );
  const { code, message } = await failure();
  expect(code).toBe('DENIED');
  expect(message).toMatch(/^[^\p{Cc}]{0,1200}$/u);
});

test('a damaged listing is a failure of the store, or one with fewer keys', async () => {
  const whole = Buffer.from(page(Array.from({ length: 20 }, (_, at) => `here/sessions/${at}`)));
  const random = randomFrom(7);
  for (let round = 0; round < 200; round++) {
    answer = saying(mutate(whole, [[0, whole.length]], random));
    const keys = await keysOf().catch((error: unknown) => {
      expect(error).toBeInstanceOf(StoreError);
      return [];
    });
    for (const key of keys) expect(key).toMatch(/^sessions\/[^/\p{Cc}]+(?:\/[^/\p{Cc}]+)*$/u);
  }
});

const PORTAL = '<!DOCTYPE html><html><body>Please log in to use this network.</body></html>';

describe.each([
  ['a login page', PORTAL, 'text/html; charset=utf-8'],
  ['one without a document type', PORTAL.replace('<!DOCTYPE html>', ''), 'text/html'],
  ['a page that says it is bytes', PORTAL, 'application/octet-stream'],
])('%s with the status of a success', (_, text, type) => {
  const asks: Record<string, () => Promise<unknown>> = {
    get: () => store.get('sessions/a/session.json'),
    'get in part': () => store.get('sessions/a/session.json', { start: 0, end: 3 }),
    head: () => store.head('sessions/a/session.json'),
    put: () => store.put('sessions/a/session.json', Buffer.from('{}'), { ifNoneMatch: '*' }),
    'put of a stream': () => store.putStream('sessions/a/video.mp4', Readable.from([Buffer.alloc(9 << 20)])),
    list: () => keysOf(),
    check: () => store.check(),
    ...(type.startsWith('text/html') && { delete: () => store.delete('sessions/a/session.json') }),
  };
  test.each(Object.keys(asks))('is no answer to %s', async (name) => {
    answer = (_url, response) => response.writeHead(200, { 'content-type': type }).end(text);
    asked = [];
    const error: unknown = await asks[name]?.().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(StoreError);
    expect(error).toMatchObject({ code: 'UNREACHABLE', message: expect.stringContaining('is no S3') as string });
  });
});

test('a login page is told a client as a store that cannot be reached, without keys', async () => {
  answer = (_url, response) => response.writeHead(200, { 'content-type': 'text/html' }).end(PORTAL);
  asked = [];
  const vault = new Vault(store, systemClock, 5);
  const error = await vault.read('sessions/a/session.json').catch((reason: unknown) => reason);
  expect(error).toMatchObject({
    code: 'STORAGE',
    cause: { message: expect.stringContaining('asks for a login') as string },
  });
  expect(withoutPaths((error as Error).message)).toBe(
    'The store cannot be reached: check its address and network, then try again or resume the session.',
  );
});

test('an object larger than whatever the service writes is not read whole', async () => {
  let sent = 0;
  answer = (_url, response) => {
    response.writeHead(200, { etag: '"x"', 'content-type': 'application/json' });
    const go = (): void => {
      while (!response.destroyed && sent++ < 1000)
        if (!response.write(Buffer.alloc(1 << 20, ' '))) return void response.once('drain', go);
    };
    go();
  };
  asked = [];
  const vault = new Vault(store, systemClock, 5);
  await expect(vault.read('sessions/a/session.json')).rejects.toThrow('which the service never writes');
  expect(sent).toBeLessThan(100);
});
