import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { EXIT } from '../../../src/cli/failure.js';
import { writePackage } from '../../support/model-packages.js';
import { RangeServer } from '../../support/range-server.js';

/** A package behind a certificate that only this test has issued, fetched by the command as people call it. */

const COMMAND = fileURLToPath(new URL('../../../src/cli/main.ts', import.meta.url));
const weights = Buffer.alloc(3_000_000, 7);

/** For these names, from itself; returns the key. */
function issueCertificate(file: string, names: readonly string[]): string {
  const key = `${file}.key`;
  const of = names.map((name) => `DNS:${name}`).join();
  const words = `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=${names[0]} -addext subjectAltName=${of}`;
  execFileSync('openssl', [...words.split(' '), '-keyout', key, '-out', file], { stdio: 'ignore' });
  return readFileSync(key, 'utf8');
}

let root: string;
let authority: string;
let server: RangeServer;
let port: string;
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'longlive-https-'));
  authority = join(root, 'authority.pem');
  const key = issueCertificate(authority, ['localhost', 'far.example']);
  server = new RangeServer();
  port = new URL(await server.start({ key, cert: readFileSync(authority, 'utf8') })).port;
  const directory = writePackage(root, 'far', { files: { 'dit.safetensors': weights } });
  for (const file of readdirSync(directory)) server.files.set(file, readFileSync(join(directory, file)));
});
afterAll(async () => {
  await server.stop();
  rmSync(root, { recursive: true, force: true });
});
beforeEach(() => {
  rmSync(join(root, 'models'), { recursive: true, force: true });
  mkdirSync(join(root, 'models'));
});

async function add(host: string, trusted: boolean, more: Record<string, string> = {}): Promise<{ code: number; said: string; complaint: string }> {
  const places = ['--models', join(root, 'models'), '--model-cache', join(root, 'cache')];
  const words = ['models', 'add', `https://${host}:${port}/packages/far/`, ...places];
  const environment = { ...process.env };
  delete environment['NODE_EXTRA_CA_CERTS'];
  const child = spawn(process.execPath, ['--import', 'tsx', COMMAND, ...words], {
    env: { ...environment, ...(trusted && { NODE_EXTRA_CA_CERTS: authority }), ...more },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [said, complaint, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close') as Promise<[number]>,
  ]);
  return { code, said, complaint };
}

test('a package comes over https from a server whose authority is named', async () => {
  expect(await add('localhost', true)).toMatchObject({ code: EXIT.ok, said: expect.stringContaining('far') as string });
  expect(readFileSync(join(root, 'models', 'far', 'dit.safetensors')).equals(weights)).toBe(true);
  expect(server.requests.some(({ range }) => range !== undefined)).toBe(true);
});

test('a server that is not trusted is told apart from one that is not there, at once and with the way out', async () => {
  const before = server.requests.length;
  const { code, complaint } = await add('localhost', false);
  expect(code).toBe(EXIT.unavailable);
  expect(complaint).toMatch(/localhost:\d+ is not trusted \(self-signed certificate\)\. .* NODE_EXTRA_CA_CERTS/);
  expect(server.requests).toHaveLength(before);
  expect(readdirSync(join(root, 'models'))).toEqual([]);
});

test('a certificate for another name is refused, whoever has issued it', async () => {
  const { code, complaint } = await add('127.0.0.1', true);
  expect(code).toBe(EXIT.unavailable);
  expect(complaint).toMatch(/The certificate of 127\.0\.0\.1:\d+ cannot be used/);
});

test('goes through the proxy that HTTPS_PROXY names, but for the hosts of NO_PROXY', async () => {
  const asked: string[] = [];
  const proxy = createServer();
  // No resolver knows far.example: only the proxy can reach it.
  proxy.on('connect', ({ url }, client: Socket) => {
    asked.push(url ?? '');
    const onward = connect(Number(port), '127.0.0.1', () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n');
      onward.pipe(client).pipe(onward);
    });
    for (const socket of [onward, client]) socket.on('error', () => undefined);
  });
  await new Promise<void>((listening) => proxy.listen(0, '127.0.0.1', listening));
  const HTTPS_PROXY = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  try {
    expect(await add('far.example', true, { HTTPS_PROXY, NO_PROXY: 'localhost' })).toMatchObject({ code: EXIT.ok });
    expect(new Set(asked)).toEqual(new Set([`far.example:${port}`]));
    rmSync(join(root, 'models', 'far'), { recursive: true });
    asked.length = 0;
    expect(await add('localhost', true, { HTTPS_PROXY, NO_PROXY: 'localhost' })).toMatchObject({ code: EXIT.ok });
    expect(asked).toEqual([]);
    const odd = await add('far.example', true, { HTTPS_PROXY: 'socks5://127.0.0.1:1' });
    expect(odd).toMatchObject({ code: EXIT.usage, complaint: expect.stringContaining('HTTPS_PROXY is not the address') as string });
  } finally {
    proxy.closeAllConnections();
    proxy.close();
  }
});
