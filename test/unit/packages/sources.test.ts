import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type EngineOptions, openEngine } from '../../../src/engine/index.js';
import { PackageCache, readPackage } from '../../../src/packages/index.js';
import { findSources } from '../../../src/packages/catalog.js';
import { findPackages } from '../../../src/packages/package.js';
import { StoreFolder } from '../../../src/packages/remote-folder.js';
import { installPackage, openFolder, readFolder } from '../../../src/packages/sources.js';
import { StoreError } from '../../../src/sessions/index.js';
import { describeFile, FakeAddon, writePackage } from '../../support/model-packages.js';
import { RangeServer } from '../../support/range-server.js';

// Real files that are synced, on machines that may be busy.
vi.setConfig({ testTimeout: 60_000 });

const SIZE = { seed: 1n, width: 192, height: 112 };

let root: string;
let server: RangeServer;
let address: string;
let cache: PackageCache;
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'longlive-sources-'));
  server = new RangeServer();
  address = `${await server.start()}/packages/far/`;
  cache = new PackageCache({ directory: join(root, 'cache'), limitBytes: 1e9 });
});
afterEach(async () => {
  await server.stop();
  rmSync(root, { recursive: true, force: true });
});

/** What the server serves at `address`. */
function serve(directory: string): void {
  server.files.clear();
  for (const file of readdirSync(directory)) server.files.set(file, readFileSync(join(directory, file)));
}

const quick = { download: { retryMs: 1, attempts: 3 } };

function open(options: Partial<EngineOptions> = {}) {
  return openEngine({ models: [address], addon: new FakeAddon(), cache, ...quick, ...options });
}

const asked = (file: string) => server.requests.filter((request) => request.file === file).length;

describe('what others have written, in a message about a package', () => {
  const forged = 'gone\nERROR: all is lost';

  it('is shown on its line, whatever the store answers', async () => {
    const get = () => Promise.reject(new StoreError('DENIED', forged));
    const reading = new StoreFolder('s3://bucket/', { get }).read('manifest.json');
    await expect(reading).rejects.toThrow('gone\\u000aERROR: all is lost');
  });

  it('is shown on its line, whatever a folder is called and its manifest says', async () => {
    const models = join(root, 'models');
    for (const name of ['two\nlines', 'bad']) mkdirSync(join(models, name), { recursive: true });
    writeFileSync(join(models, 'bad', 'manifest.json'), 'x\nERROR: all is lost');
    const change = (manifest: Record<string, unknown>) => Object.assign(manifest, { name: forged, [forged]: 1 });
    writePackage(models, 'two\nlines', { change });
    writePackage(models, 'no config\nERROR: all is lost');
    rmSync(join(models, 'no config\nERROR: all is lost', 'config.json'));
    const { problems } = await findPackages(models);
    expect(problems).toHaveLength(3);
    for (const { message } of problems) expect(message).not.toMatch(/^(ERROR|lines)/m);
  });
});

describe('a package behind a URL', () => {
  it('is known before it is fetched, fetched when it is loaded, and then kept', async () => {
    serve(writePackage(root, 'far'));
    const engine = await open({ preload: false });
    expect(engine.models()).toMatchObject([{ name: 'far', state: 'AVAILABLE', width: 192 }]);
    expect(asked('dit.safetensors')).toBe(0);
    await Promise.all([engine.preload('far', SIZE), engine.preload('far', SIZE)]);
    expect(asked('dit.safetensors')).toBe(1);
    const { digest } = await readPackage(join(root, 'far'));
    expect((await readPackage(join(root, 'cache', digest))).digest).toBe(digest);
    await engine.close();

    const addon = new FakeAddon();
    await (await open({ addon })).close();
    expect(asked('dit.safetensors')).toBe(1);
    expect(addon.loaded).toEqual([join(root, 'cache', digest)]);
  });

  it('tells how far it is', async () => {
    serve(writePackage(root, 'far'));
    const told: number[] = [];
    await open({ onProgress: ({ fetchedBytes, totalBytes }) => told.push(fetchedBytes / totalBytes) });
    expect(told.at(-1)).toBe(1);
    expect([...told].sort((a, b) => a - b)).toEqual(told);
  });

  it('that cannot be reached is a problem, and does not stop others', async () => {
    const directory = writePackage(root, 'pocket');
    server.fault = () => ({ status: 500 });
    const told: string[] = [];
    const engine = await open({ models: [address, directory], warn: (message) => told.push(message) });
    expect(engine.models().map(({ name }) => name)).toEqual(['pocket']);
    expect(told[0]).toMatch(/packages\/far\/: manifest\.json: the server answered 500/);
    await expect(open()).rejects.toMatchObject({ code: 'MODEL_UNAVAILABLE' });
  });

  it('with wrong bytes fails with the file named, and is not in the cache', async () => {
    serve(writePackage(root, 'far'));
    server.files.set('dit.safetensors', Buffer.from('x'));
    await expect(open()).rejects.toMatchObject({ code: 'MODEL_UNAVAILABLE' });
    await expect(open()).rejects.toThrow('dit.safetensors does not match the manifest');
    const { digest } = await readPackage(join(root, 'far'));
    expect(await cache.has(digest)).toBe(false);
    server.files.set('dit.safetensors', Buffer.from('d'));
    await (await open()).close();
  });

  it.each([
    ['a way out of its directory', (files: Record<string, unknown>) => (files['../../x'] = describeFile('')), /files/],
    ['its own manifest', (files: Record<string, unknown>) => (files['manifest.json'] = describeFile('')), /manifest/],
    ['a file of negative size', (files: Record<string, unknown>) => (files.x = { bytes: -1, sha256: '' }), /bytes/],
    [
      'too many files',
      (files: Record<string, unknown>) => {
        for (let i = 0; i < 300; i++) files[`f${i}`] = describeFile('');
      },
      /at most 256/,
    ],
  ])('may not list %s', async (_what, change, message) => {
    serve(writePackage(root, 'far', { change: ({ files }) => change(files as Record<string, unknown>) }));
    const { sources, problems } = await findSources([address], cache, quick);
    expect(sources).toEqual([]);
    expect(problems[0]?.message).toMatch(message);
  });

  it('may not have a manifest without end', async () => {
    server.files.set('manifest.json', Buffer.alloc(2 << 20, ' '));
    const { problems } = await findSources([address], cache, quick);
    expect(problems[0]?.message).toMatch(/larger than/);
  });

  it.each(['ftp://host/x', 'http://example.com/x', 's3://bucket/x'])('%s is a problem that is told', async (url) => {
    const { problems } = await findSources([url], cache);
    expect(problems).toHaveLength(1);
  });
});

describe('installing a package', () => {
  const models = () => join(root, 'models');
  beforeEach(() => mkdirSync(models()));

  it('copies a directory, and another name makes it another package', async () => {
    const found = await readFolder(openFolder(writePackage(root, 'near')));
    await installPackage(found, join(models(), 'near'));
    await installPackage(found, join(models(), 'twin'));
    const [near, twin] = await Promise.all(['near', 'twin'].map((name) => readPackage(join(models(), name))));
    expect(near?.digest).toBe(found.digest);
    expect(twin?.manifest).toEqual({ ...near?.manifest, name: 'twin' });
    expect(readdirSync(models()).sort()).toEqual(['near', 'twin']);
  });

  it('leaves no package when it fails, and goes on the next time', async () => {
    const content = Buffer.alloc(300_000, 1);
    serve(writePackage(root, 'far', { files: { 'vae.safetensors': content } }));
    const found = await readFolder(openFolder(address), quick.download);
    const options = { download: { ...quick.download, partBytes: 50_000, connections: 1, attempts: 1 } };
    server.fault = ({ range }) => (range?.startsWith('bytes=150000') ? { status: 500 } : undefined);
    await expect(installPackage(found, join(models(), 'far'), options)).rejects.toThrow('answered 500');
    expect(existsSync(join(models(), 'far'))).toBe(false);
    const before = asked('vae.safetensors');
    server.fault = () => undefined;
    await installPackage(found, join(models(), 'far'), options);
    expect(asked('vae.safetensors') - before).toBe(3);
    expect(readFileSync(join(models(), 'far', 'vae.safetensors')).equals(content)).toBe(true);
  });

  it('leaves nothing of a package that is wrong', async () => {
    const found = await readFolder(openFolder(writePackage(root, 'near')));
    const wrong = { ...found.manifest.files, 'dit.safetensors': { bytes: 1, sha256: '0'.repeat(64) } };
    const broken = { ...found, manifest: { ...found.manifest, files: wrong } };
    await expect(installPackage(broken, join(models(), 'wrong'))).rejects.toThrow('dit.safetensors');
    expect(readdirSync(models()).filter((name) => name.includes('wrong'))).toEqual([]);
  });

  it('takes nothing from an attempt with another package', async () => {
    const partial = join(models(), '.near.partial');
    mkdirSync(partial);
    writeFileSync(join(partial, 'dit.safetensors'), 'x');
    writeFileSync(join(partial, 'of-another.bin'), 'x');
    const found = await readFolder(openFolder(writePackage(root, 'near')));
    await installPackage(found, join(models(), 'near'));
    expect(readdirSync(join(models(), 'near')).sort()).toEqual(
      [...Object.keys(found.manifest.files), 'manifest.json'].sort(),
    );
    expect(readFileSync(join(models(), 'near', 'dit.safetensors'), 'utf8')).toBe('d');
  });
});
