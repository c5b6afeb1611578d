import type { HttpsProxyAgent } from 'https-proxy-agent';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { proxyAgent } from '../../../src/files/proxy.js';

beforeEach(() => {
  for (const name of ['HTTPS_PROXY', 'https_proxy', 'ALL_PROXY', 'all_proxy', 'NO_PROXY', 'no_proxy'])
    vi.stubEnv(name, undefined);
});
afterEach(() => vi.unstubAllEnvs());

const through = (url = 'https://s3.example.com'): string | undefined =>
  (proxyAgent(url) as HttpsProxyAgent<string> | undefined)?.proxy.href;

it.each(['HTTPS_PROXY', 'https_proxy', 'ALL_PROXY'])('%s without a scheme is an HTTP proxy', (name) => {
  vi.stubEnv(name, 'proxy.example.com:3128');
  expect(through()).toBe('http://proxy.example.com:3128/');
});

it('a scheme that is said stays', () => {
  vi.stubEnv('HTTPS_PROXY', 'https://proxy.example.com:3129');
  expect(through()).toBe('https://proxy.example.com:3129/');
  vi.stubEnv('HTTPS_PROXY', 'socks5://proxy.example.com:1080');
  expect(() => through()).toThrow('HTTPS_PROXY is not the address of an HTTP proxy, such as');
});

it('hosts of NO_PROXY and addresses without TLS are reached directly', () => {
  vi.stubEnv('HTTPS_PROXY', 'http://proxy.example.com:3128');
  vi.stubEnv('NO_PROXY', '.example.com');
  expect(through()).toBeUndefined();
  expect(through('http://10.0.0.2:9000')).toBeUndefined();
  expect(through('https://s3.example.org')).toBe('http://proxy.example.com:3128/');
});
