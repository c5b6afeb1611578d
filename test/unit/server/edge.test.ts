import type { IncomingMessage } from 'node:http';
import { describe, expect, test } from 'vitest';
import { Edge, type EdgeOptions } from '../../../src/server/edge.js';

const OPEN: EdgeOptions = {
  host: '127.0.0.1',
  token: undefined,
  publicUrl: 'https://video.example/app',
  hosts: ['extra.example'],
  corsOrigins: ['https://friend.example'],
  trustedProxies: [],
};

interface Said {
  method?: string;
  url?: string;
  /** Name and value, one after the other. */
  headers?: string[];
  httpVersion?: string;
  from?: string;
  at?: string;
}

/** A request as Node's parser gives it. */
function request({ method = 'GET', url = '/', headers = ['Host', 'localhost'], httpVersion, from, at }: Said) {
  const named: Record<string, string> = {};
  for (let i = 0; i < headers.length; i += 2) named[headers[i]!.toLowerCase()] ??= headers[i + 1]!;
  const socket = { remoteAddress: from ?? '127.0.0.1', localAddress: at ?? '127.0.0.1' };
  return {
    ...{ method, url, rawHeaders: headers, headers: named, httpVersion: httpVersion ?? '1.1' },
    ...{ socket, connection: socket },
  } as unknown as IncomingMessage;
}

const read = (said: Said, options: Partial<EdgeOptions> = {}) => new Edge({ ...OPEN, ...options }).read(request(said));
const status = (said: Said, options: Partial<EdgeOptions> = {}) => read(said, options).refusal?.status ?? 200;
const withHost = (host: string, ...more: string[]): Said => ({ headers: ['Host', host, ...more] });

test('a worker serves what its keepers ask, and nothing else', () => {
  const worker = { role: 'worker', token: 'secret' } as const;
  const paths = ['/healthz', '/readyz', '/metrics', '/graphql', '/', '/sessions/a/index.m3u8'];
  expect(paths.map((url) => status({ url }, worker))).toEqual([200, 200, 200, 404, 404, 404]);
  expect(paths.map((url) => status({ url }, { ...worker, role: 'api' }))).toEqual([200, 200, 200, 200, 200, 200]);
});

describe('a request target', () => {
  test.each([
    '/',
    '/graphql',
    '/graphql?query={models{id}}',
    '/a/../b',
    '/%20',
    '/sessions/x/chunks/1.m4s?e=1&s=%0A',
    '/?%zz',
  ])('%s is a path', (url) => expect(status({ url })).toBe(200));

  test.each([
    ['//'],
    ['//?'],
    ['///'],
    ['//graphql'],
    ['//evil.example/graphql'],
    ['/\\evil.example'],
    ['\\'],
    [''],
    ['*'],
    ['?'],
    ['graphql'],
    ['#'],
    ['/#x'],
    ['/a b'],
    ['/%'],
    ['/%zz'],
    ['/%c3%28'],
    ['/%00'],
    ['/%ff'],
    ['/\0'],
    ['/\x7f'],
    ['/ü'],
    ['/\ud800'],
    ['/?a#b'],
    ['javascript:alert(1)'],
    ['file:///etc/passwd'],
    ['http://'],
    ['http:///graphql'],
    ['http://[bad/graphql'],
    ['http://a b/'],
    ['http://user@localhost/'],
    ['http://localhost:99999/'],
    ['http://localhost:port/'],
    ['https://localhost//graphql'],
    ['localhost:443'],
  ])('%j is none', (url) => expect(read({ url }).refusal).toMatchObject({ status: 400 }));

  test('that is a whole URL is asked of the host that it names', () => {
    expect(
      read({ url: 'http://LOCALHOST:4000/graphql?x=1', headers: ['Host', 'video.example'] }).incoming,
    ).toMatchObject({
      ...{ path: '/graphql', target: '/graphql?x=1', hostName: 'localhost', host: 'localhost:4000' },
    });
    expect(status({ url: 'http://rebind.example/graphql', headers: ['Host', 'localhost'] })).toBe(421);
    expect(read({ url: 'http://localhost?x=1' }).incoming).toMatchObject({ path: '/', target: '/?x=1' });
  });

  test('may be * for OPTIONS alone', () => {
    expect(status({ url: '*', method: 'OPTIONS' })).toBe(200);
    expect(status({ url: '*', method: 'GET' })).toBe(400);
  });

  test('has its dots resolved before anybody compares it', () => {
    expect(read({ url: '/x/%2e%2e/graphql' }).incoming).toMatchObject({ path: '/graphql', target: '/graphql' });
  });
});

describe('a host', () => {
  test.each([
    '[bad',
    'bad]',
    '[::1',
    '[::1]x',
    '[fe80::1%25eth0]',
    'a b',
    'a/b',
    'a@b',
    'a:b',
    'a:1:2',
    'a:70000',
    ':4000',
    '',
    '.',
    '-a',
    'a,b',
    'ä.example',
    '<script>',
    'a\\b',
    'x'.repeat(300),
  ])('%j is none', (host) => {
    expect(status(withHost(host))).toBe(400);
    expect(status(withHost(host), { token: 'a' })).toBe(400);
  });

  test('is said once, and in HTTP/1.1 always', () => {
    expect(status({ headers: ['Host', 'localhost', 'hOST', 'localhost'] })).toBe(400);
    expect(status({ headers: [] })).toBe(400);
    expect(status({ headers: [], httpVersion: '1.0' })).toBe(421);
    expect(status({ headers: [], httpVersion: '1.0', url: '/healthz' })).toBe(200);
    expect(status({ headers: [], httpVersion: '1.0' }, { token: 'a' })).toBe(200);
    expect(status({ headers: ['Host', 'localhost', 'Authorization', 'a', 'authorization', 'b'] })).toBe(400);
  });

  test.each([
    'localhost',
    'LocalHost:4000',
    'localhost.',
    'app.localhost:4000',
    '127.0.0.1',
    '127.9.9.9:1',
    '[::1]:4000',
    '[0:0:0:0:0:0:0:1]',
    '[::ffff:127.0.0.1]',
    'video.example',
    'VIDEO.example.:8443',
    'extra.example:80',
  ])('%s is ours without a token', (host) => expect(status(withHost(host))).toBe(200));

  test.each([
    'rebind.example:4000',
    'localhost.rebind.example',
    'notlocalhost',
    'video.example.org',
    '10.0.0.1',
    '0.0.0.0',
    '127.1',
    '2130706433',
    '[::2]',
    '128.0.0.1',
  ])('%s is not, with the same origin or without', (host) => {
    expect(status(withHost(host))).toBe(421);
    expect(status(withHost(host, 'Origin', `http://${host}`))).toBe(421);
    for (const url of ['/healthz', '/readyz', '/healthz?x']) expect(status({ ...withHost(host), url })).toBe(200);
    for (const url of ['/healthz/', '//healthz', '/healthz/../graphql', '/metrics', '/graphql'])
      expect(status({ ...withHost(host), url })).not.toBe(200);
    expect(status(withHost(host), { token: 'a' })).toBe(200);
    expect(status(withHost(host), { hosts: ['*'] })).toBe(200);
  });

  test('may be the address at which the connection came in, to which no name was rebound', () => {
    expect(status({ ...withHost('192.0.2.7:4000'), at: '::ffff:192.0.2.7' })).toBe(200);
    expect(status({ ...withHost('192.0.2.8:4000'), at: '192.0.2.7' })).toBe(421);
    expect(status({ ...withHost('[2001:db8::7]'), at: '2001:db8:0::7' })).toBe(200);
  });
});

describe('an origin', () => {
  const allowed = (origin: string, host = 'localhost:4000', options: Partial<EdgeOptions> = {}) =>
    read(withHost(host, 'Origin', origin), { token: 'a', ...options }).incoming?.originAllowed;

  test.each([
    ['http://localhost:4000', 'localhost:4000'],
    ['http://localhost', 'localhost:80'],
    ['https://localhost', 'localhost:443'],
    ['http://[::1]:4000', '[::1]:4000'],
    ['https://video.example', 'internal:4000'],
    ['https://friend.example', 'localhost:4000'],
  ])('%s may call at %s', (origin, host) => expect(allowed(origin, host)).toBe(true));

  test.each([
    ['http://localhost:4001', 'localhost:4000'],
    ['http://localhost', 'localhost:4000'],
    ['http://friend.example', 'localhost:4000'],
    ['https://friend.example:444', 'localhost:4000'],
    ['https://video.example.org', 'video.example'],
    ['null', 'localhost:4000'],
    ['chrome-extension://abc', 'localhost:4000'],
  ])('%s may not at %s', (origin, host) => {
    expect(allowed(origin, host)).toBe(false);
    expect(allowed(origin, host, { corsOrigins: ['*'] })).toBe(true);
    expect(status(withHost('localhost:4000', 'Origin', origin))).toBe(403);
    expect(status({ ...withHost('localhost:4000', 'Origin', origin), method: 'OPTIONS' })).toBe(200);
    expect(status({ ...withHost('localhost:4000', 'Origin', origin), url: '/healthz' })).toBe(200);
  });

  test('that is not said is foreign where the browser says that another site asks', () => {
    const foreign = (site: string, options: Partial<EdgeOptions> = {}, ...more: string[]) =>
      read(withHost('localhost:4000', 'Sec-Fetch-Site', site, ...more), options).incoming?.foreign;
    for (const site of ['cross-site', 'same-site', 'unheard-of']) {
      expect(foreign(site)).toBe(true);
      expect(foreign(site, { corsOrigins: ['*'] })).toBe(false);
      expect(foreign(site, {}, 'Origin', 'https://friend.example')).toBe(false);
      expect(status(withHost('localhost:4000', 'Sec-Fetch-Site', site))).toBe(200);
    }
    for (const site of ['same-origin', 'none']) expect(foreign(site)).toBe(false);
    expect(read(withHost('localhost:4000')).incoming?.foreign).toBe(false);
  });

  test('that hides itself is on no list, whatever a list says', () => {
    const named = { publicUrl: 'localhost:4104', corsOrigins: ['null'], hosts: ['null'] };
    expect(allowed('null', 'localhost:4104', named)).toBe(false);
    expect(status(withHost('localhost:4104', 'Origin', 'null'), named)).toBe(403);
  });

  test.each(['[bad', 'http://', 'http://[', 'http://a b', 'http://a/path', 'http://a http://b', ''])(
    '%j is none',
    (origin) => expect(status(withHost('localhost', 'Origin', origin))).toBe(400),
  );
});

describe('the address that limits count by', () => {
  const address = (from: string, forwarded: string | undefined, trustedProxies: string[] = []) =>
    read(
      { from, headers: ['Host', 'localhost', ...(forwarded === undefined ? [] : ['X-Forwarded-For', forwarded])] },
      {
        trustedProxies,
      },
    ).address;

  test('is the nearest one, whatever a stranger says', () => {
    expect(address('203.0.113.5', '198.51.100.1')).toBe('203.0.113.5');
    for (const mapped of ['::ffff:203.0.113.5', '::FFFF:cb00:7105', '0:0:0:0:0:ffff:cb00:7105'])
      expect(address(mapped, undefined)).toBe('203.0.113.5');
    expect(address('203.0.113.5', '198.51.100.1', ['10.0.0.0/8'])).toBe('203.0.113.5');
  });

  test('is what trusted proxies say, as far as they are trusted', () => {
    expect(address('10.1.2.3', '198.51.100.1', ['10.0.0.0/8'])).toBe('198.51.100.1');
    expect(address('10.1.2.3', '198.51.100.9, 198.51.100.1, 10.9.9.9', ['10.0.0.0/8'])).toBe('198.51.100.1');
    expect(address('127.0.0.1', '198.51.100.1', ['loopback'])).toBe('198.51.100.1');
    expect(address('127.0.0.1', '::ffff:606:605', ['loopback'])).toBe('6.6.6.5');
    for (const nonsense of ['<script>', '', ',,,', 'x'.repeat(9000), 'unknown'])
      expect(address('10.1.2.3', nonsense, ['10.0.0.0/8'])).toBe('10.1.2.3');
  });

  test.each([
    ['198.51.100.1:5678', '198.51.100.1'],
    ['[::ffff:198.51.100.1]:80', '198.51.100.1'],
    ['[2001:db8:1:2::9]:65535', '2001:db8:1:2::/64'],
    ['[2001:db8:1:2::9]', '2001:db8:1:2::/64'],
    ['2001:DB8:1:2::9', '2001:db8:1:2::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['[fe80::1%25eth0]:80', 'fe80:0:0:0::/64'],
    ['198.51.100.1,', '198.51.100.1'],
    [' , ,198.51.100.1 ,\t, ', '198.51.100.1'],
    ['6.6.6.6:1, 198.51.100.1:2, 10.9.9.9:3', '198.51.100.1'],
    [`${'6.6.6.6, '.repeat(2000)}198.51.100.1:1`, '198.51.100.1'],
    ['10.0.0.1, '.repeat(1500), '10.0.0.1'],
  ])('is in %s of a trusted proxy what stands there', (forwarded, expected) => {
    expect(address('10.1.2.3', forwarded, ['10.0.0.0/8'])).toBe(expected);
    expect(address('203.0.113.5', forwarded, ['10.0.0.0/8'])).toBe('203.0.113.5');
  });

  test.each([
    ...[
      '198.51.100.1:',
      '198.51.100.1:x',
      '198.51.100.1:123456',
      '198.51.100.1:1:1',
      '[198.51.100.1]:80',
      '[::1',
      '::1]:80',
    ],
    ...[
      '[]:80',
      ':80',
      '198.51.100',
      '198.51.100.1%eth0',
      '198.51.100.1/8',
      '0x7f.1',
      '"198.51.100.1"',
      'unknown',
      '_hidden',
    ],
  ])('is in %s, which is no address, the one of whoever says it', (forwarded) => {
    expect(address('10.1.2.3', forwarded, ['10.0.0.0/8'])).toBe('10.1.2.3');
    expect(address('10.1.2.3', `198.51.100.1, ${forwarded}, 10.9.9.9`, ['10.0.0.0/8'])).toBe('10.9.9.9');
  });

  test('is a household’s network in IPv6, where one has more addresses than can be counted', () => {
    expect(address('2001:db8:1:2:aaaa::1', undefined)).toBe('2001:db8:1:2::/64');
    expect(address('2001:db8:1:2:bbbb::1', undefined)).toBe('2001:db8:1:2::/64');
    expect(address('2001:db8::1', undefined)).toBe('2001:db8:0:0::/64');
    expect(address('fe80::1%eth0', undefined)).toBe('fe80:0:0:0::/64');
  });
});
