import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type EngineOptions, type NativeEngine, openEngine } from '../../../src/engine/index.js';
import { CATALOG_TIMES, PackageCache } from '../../../src/packages/index.js';
import { FakeAddon, storedAs, writePackage } from '../../support/model-packages.js';
import { RangeServer } from '../../support/range-server.js';

// Real files that are synced, on machines that may be busy.
vi.setConfig({ testTimeout: 60_000 });

const SIZE = { seed: 1n, width: 192, height: 112 };
const TIMES = { ...CATALOG_TIMES, urgentMs: 0, waitMs: 500 };

let root: string;
let server: RangeServer;
let address: string;
let told: string[];
const engines: NativeEngine[] = [];
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'longlive-catalog-'));
  server = new RangeServer();
  address = `${await server.start()}/packages/far/`;
  told = [];
});
afterEach(async () => {
  await Promise.all(engines.splice(0).map((engine) => engine.close()));
  await server.stop();
  rmSync(root, { recursive: true, force: true });
});

/** Each package is another one, for its title. */
function serve(title: string, dtype = 'BF16'): void {
  const change = (manifest: Record<string, unknown>) => (manifest['title'] = title);
  const directory = writePackage(root, 'far', { change, files: { 'dit.safetensors': storedAs(dtype) } });
  server.files.clear();
  for (const file of readdirSync(directory)) server.files.set(file, readFileSync(join(directory, file)));
}

async function open(options: Partial<EngineOptions> = {}): Promise<{ engine: NativeEngine; addon: FakeAddon }> {
  const addon = new FakeAddon();
  const cache = new PackageCache({ directory: join(root, 'cache'), limitBytes: 1e9 });
  const engine = await openEngine({
    ...{ models: [address], addon, cache, times: TIMES, download: { retryMs: 1, attempts: 3 } },
    warn: (message) => void told.push(message),
    ...options,
  });
  engines.push(engine);
  return { engine, addon };
}

const titles = (engine: NativeEngine) => engine.models().map(({ title }) => title);
const near = () => writePackage(join(root, 'near'), 'pocket');

describe('a source that cannot be asked at the start', () => {
  it.each([
    [
      'is not there',
      () => server.stop(),
      /far\/: .*cannot be reached .*; version 1\.0\.0 of "far" is used, as last fetched$/,
    ],
    ['fails', () => void (server.fault = () => ({ status: 503 })), /the server answered 503; version 1/],
    ['never answers', () => void (server.delayMs = 1e6), /far\/: no answer; version 1/],
    ['has something else now', () => void server.files.set('manifest.json', Buffer.from('{}')), /; version 1/],
  ])('because it %s is not needed for what is cached', async (_what, fail, message) => {
    serve('first');
    await (await open()).engine.close();
    await fail();
    const begun = performance.now();
    const { engine, addon } = await open();
    expect(performance.now() - begun).toBeLessThan(10_000);
    expect(told).toEqual([expect.stringMatching(message)]);
    expect(engine.models()).toMatchObject([{ title: 'first', state: 'LOADED', storedPrecision: 'bf16' }]);
    expect(addon.loaded[0]).toContain(join(root, 'cache'));
  });

  it('may be a bucket that never says anything', async () => {
    const directory = writePackage(root, 'far');
    let silent = false;
    const get = async (key: string, range?: { start: number; end: number }) => {
      if (silent) return new Promise<never>(() => undefined);
      const content = readFileSync(join(directory, key));
      const part = range ? content.subarray(range.start, range.end + 1) : content;
      const body = (async function* () {
        yield part;
      })();
      return { size: content.length, etag: 'one', contentType: '', body };
    };
    const options = { models: ['s3://bucket/far/'], openStore: () => ({ get }) };
    await (await open(options)).engine.close();
    silent = true;
    const { engine } = await open(options);
    expect(engine.models()).toMatchObject([{ name: 'far', state: 'LOADED' }]);
    expect(told).toEqual([expect.stringContaining('s3://bucket/far/: no answer; version 1.0.0')]);
  });

  it('is asked again in the background', async () => {
    serve('first');
    server.fault = () => ({ status: 503 });
    const { engine } = await open({ models: [near(), address], times: { ...TIMES, retryMs: 20 } });
    expect(titles(engine)).toEqual(['pocket']);
    server.fault = () => undefined;
    await expect.poll(() => titles(engine)).toEqual(['pocket', 'first']);
    expect(told).toEqual([expect.stringContaining('503')]);
  });

  it('is asked again when its model is asked for', async () => {
    serve('first');
    server.fault = () => ({ status: 503 });
    const { engine } = await open({ models: [near(), address] });
    server.fault = () => undefined;
    await engine.refresh('far');
    (await engine.open('far', SIZE)).dispose();
  });

  it('may lose its cached package, and is fetched from when it can be reached again', async () => {
    serve('first');
    await (await open()).engine.close();
    server.fault = () => ({ status: 503 });
    const { engine } = await open({ models: [near(), address] });
    for (const name of readdirSync(join(root, 'cache'))) rmSync(join(root, 'cache', name), { recursive: true });
    await expect(engine.open('far', SIZE)).rejects.toMatchObject({ code: 'MODEL_UNAVAILABLE' });
    server.fault = () => undefined;
    (await engine.open('far', SIZE)).dispose();
  });
});

describe('a source while the service runs', () => {
  it('is known by its stored precision before it is fetched', async () => {
    serve('first', 'I8');
    const { engine, addon } = await open({ preload: false });
    expect(engine.models()).toMatchObject([{ state: 'AVAILABLE', storedPrecision: 'int8', precision: 'int8' }]);
    await engine.load();
    expect(addon.precisions).toEqual(['int8']);
  });

  it('goes on with what it had when it cannot be asked any more', async () => {
    serve('first');
    const { engine } = await open({ models: [near(), address], times: { ...TIMES, remoteMs: 0 } });
    await server.stop();
    await engine.refresh('none');
    expect(titles(engine)).toEqual(['pocket', 'first']);
    expect(told).toHaveLength(1);
    await engine.refresh('none');
    expect(told).toHaveLength(1);
  });

  it('is looked at for new versions, and nobody waits for that', async () => {
    serve('first');
    const { engine } = await open({ times: { ...TIMES, remoteMs: 0 } });
    serve('second');
    server.delayMs = 200;
    const begun = performance.now();
    await engine.refresh();
    expect(performance.now() - begun).toBeLessThan(200);
    expect(titles(engine)).toEqual(['first']);
    const refreshed = async () => {
      await engine.refresh();
      return titles(engine);
    };
    await expect.poll(refreshed, { timeout: 10_000 }).toEqual(['second']);
  });
});
