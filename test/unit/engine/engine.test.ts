import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Addon, NativeModel, NativePrompt, NativeSession } from '../../../src/engine/addon.js';
import { damages, findPackages, openEngine } from '../../../src/engine/index.js';

const TOKENIZER = new URL('fixtures/tokenizer.json', import.meta.url);

let root: string;
beforeEach(() => (root = mkdtempSync(join(tmpdir(), 'longlive-test-'))));
afterEach(() => rmSync(root, { recursive: true, force: true }));

function writePackage(name: string, change: (manifest: Record<string, unknown>) => void = () => undefined): string {
  const directory = join(root, name);
  const files: Record<string, string> = {
    'config.json': JSON.stringify({
      dit: { textLen: 16 },
      sampling: { framesPerBlock: 3, denoisingSteps: [1000, 750, 500, 250] },
      video: { width: 192, height: 112, fps: 16 },
    }),
    'dit.safetensors': 'd',
    'text_encoder.safetensors': 't',
    'vae.safetensors': 'v',
    'tokenizer.json': readFileSync(TOKENIZER, 'utf8'),
  };
  cpSync(new URL('fixtures/', import.meta.url), directory, { recursive: true });
  for (const [file, text] of Object.entries(files)) writeFileSync(join(directory, file), text);
  const manifest = {
    formatVersion: 1,
    name,
    version: '1.0.0',
    title: name,
    description: '',
    license: 'Apache-2.0',
    createdAt: '2026-11-23T00:00:00Z',
    files: Object.fromEntries(Object.entries(files).map(([file, text]) => [file, describeFile(text)])),
  };
  change(manifest);
  writeFileSync(join(directory, 'manifest.json'), JSON.stringify(manifest));
  return directory;
}

function describeFile(text: string) {
  return { bytes: Buffer.byteLength(text), sha256: createHash('sha256').update(text).digest('hex') };
}

class FakeAddon implements Addon {
  readonly version = 'test';
  readonly cudaBuilt = false;
  readonly loaded: string[] = [];
  readonly encoded: number[][] = [];
  disposed = 0;
  loadError: Error | undefined;
  stepError: Error | undefined;

  devices() {
    const common = { isa: '', totalMemory: 0, threads: 2 };
    return [
      { device: 'cpu' as const, available: true, detail: 'a CPU', ...common },
      { device: 'cuda' as const, available: false, detail: 'no driver', ...common },
    ];
  }

  async loadModel({ directory }: { directory: string }): Promise<NativeModel> {
    this.loaded.push(directory);
    if (this.loadError) throw this.loadError;
    return {
      config: {},
      weightBytes: 0,
      encodePrompt: async (ids) => {
        this.encoded.push([...ids]);
        return { tokens: ids.length };
      },
      createSession: () => this.session(),
      restoreSession: async () => this.session(),
      dispose: () => void this.disposed++,
    };
  }

  addProduct = async () => undefined;

  private session(): NativeSession {
    return {
      block: 0,
      memoryBytes: 0,
      setPrompt: async (_prompt: NativePrompt) => ({ milliseconds: 1, frames: 0 }),
      step: async () => {
        if (this.stepError) throw this.stepError;
        return { kind: 'denoise', block: 0, step: 0, milliseconds: 1 };
      },
      abandonBlock: () => undefined,
      checkpoint: () => new Uint8Array(),
      lastRgb: () => new Uint8Array(),
      dispose: () => undefined,
    };
  }
}

function nativeError(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

const SIZE = { seed: 1n, width: 192, height: 112 };

describe('openEngine', () => {
  it('finds packages, puts the default first and loads it once', async () => {
    writePackage('alpha');
    writePackage('pocket');
    const addon = new FakeAddon();
    const engine = await openEngine({ models: root, addon });
    expect(engine.models().map(({ name }) => name)).toEqual(['pocket', 'alpha']);
    expect(engine.models()[0]).toMatchObject({
      width: 192,
      fps: 16,
      framesPerBlock: 3,
      denoisingSteps: 4,
      device: 'cpu',
    });
    await Promise.all([engine.open('pocket', SIZE), engine.open('pocket', SIZE)]);
    expect(addon.loaded).toEqual([join(root, 'pocket')]);
    await engine.close();
    expect(addon.disposed).toBe(1);
  });

  it('takes a single package by its own path', async () => {
    const directory = writePackage('alpha');
    expect((await openEngine({ models: directory, addon: new FakeAddon() })).models()).toHaveLength(1);
  });

  it.each([
    [
      'a missing file list entry',
      (manifest: Record<string, unknown>) => delete (manifest.files as object)['vae.safetensors' as never],
      /vae\.safetensors/,
    ],
    ['an unknown key', (manifest: Record<string, unknown>) => (manifest.colour = 'red'), /colour/],
    [
      'a path in a file name',
      (manifest: Record<string, unknown>) => ((manifest.files as Record<string, unknown>)['../x'] = describeFile('')),
      /files/,
    ],
    ['a bad name', (manifest: Record<string, unknown>) => (manifest.name = 'No Name'), /name/],
  ])('leaves out a package with %s and says why', async (_name, change, message) => {
    writePackage('bad', change);
    const { packages, problems } = await findPackages(root);
    expect(packages).toEqual([]);
    expect(problems[0]?.message).toMatch(message);
    await expect(openEngine({ models: root, addon: new FakeAddon() })).rejects.toMatchObject({
      code: 'MODEL_UNAVAILABLE',
    });
  });

  it('fails with MODEL_UNAVAILABLE and the reason when the core refuses the package', async () => {
    writePackage('pocket');
    const addon = new FakeAddon();
    addon.loadError = nativeError('INVALID_PACKAGE', 'dit.safetensors: head.head.weight has shape [1]');
    const opening = openEngine({ models: root, addon });
    await expect(opening).rejects.toMatchObject({ code: 'MODEL_UNAVAILABLE' });
    await expect(opening).rejects.toThrow('head.head.weight');
  });

  it('fails with MODEL_UNAVAILABLE for nothing found and for a device that is not there', async () => {
    await expect(openEngine({ models: join(root, 'none'), addon: new FakeAddon() })).rejects.toThrow('no usable model');
    writePackage('pocket');
    await expect(openEngine({ models: root, addon: new FakeAddon(), device: 'cuda' })).rejects.toThrow('no driver');
    await expect(openEngine({ models: root, addon: new FakeAddon(), model: 'x' })).rejects.toThrow('package "x"');
  });
});

describe('damages', () => {
  it('names files that are missing, cut short or changed', async () => {
    const directory = writePackage('pocket');
    const [source] = (await findPackages(root)).packages;
    if (!source) throw new Error('no package');
    const found = async () => {
      const all: string[] = [];
      for await (const damage of damages(source)) all.push(damage);
      return all;
    };
    expect(await found()).toEqual([]);
    writeFileSync(join(directory, 'dit.safetensors'), 'x');
    writeFileSync(join(directory, 'vae.safetensors'), '');
    rmSync(join(directory, 'text_encoder.safetensors'));
    expect(await found()).toEqual([
      'dit.safetensors is damaged: its checksum differs.',
      'text_encoder.safetensors is missing.',
      'vae.safetensors has 0 bytes; the manifest says 1.',
    ]);
  });
});

describe('a generation', () => {
  it('encodes a prompt once, cleaned and cut to what the model takes', async () => {
    writePackage('pocket');
    const addon = new FakeAddon();
    const engine = await openEngine({ models: root, addon });
    const a = await engine.open('pocket', SIZE);
    const b = await engine.open('pocket', SIZE);
    await a.setPrompt('  a red\n fox ', 'RECACHE');
    await b.setPrompt('a red fox', 'KEEP_CACHE');
    expect(addon.encoded).toHaveLength(1);
    await a.setPrompt('a red fox '.repeat(50), 'RECACHE');
    expect(addon.encoded[1]).toHaveLength(16);
    expect(addon.encoded[1]?.at(-1)).toBe(1);
  });

  it('refuses sizes far beyond what the model is made for', async () => {
    writePackage('pocket');
    const engine = await openEngine({ models: root, addon: new FakeAddon() });
    expect(() => engine.check('pocket', { ...SIZE, width: 1_920, height: 1_072 })).toThrow(/192x112/);
    expect(() => engine.check('pocket', { ...SIZE, width: 384, height: 224 })).not.toThrow();
  });

  it('turns a failing step into ENGINE, and trusts the device no more after a fault', async () => {
    writePackage('pocket');
    const addon = new FakeAddon();
    const engine = await openEngine({ models: root, addon });
    const generation = await engine.open('pocket', SIZE);
    addon.stepError = nativeError('INVALID_ARGUMENT', 'positions end here');
    await expect(generation.step()).rejects.toMatchObject({ code: 'ENGINE', message: 'positions end here' });
    await engine.open('pocket', SIZE);
    addon.stepError = nativeError('DEVICE_FAULT', 'bus');
    await expect(generation.step()).rejects.toMatchObject({ code: 'ENGINE' });
    await expect(engine.open('pocket', SIZE)).rejects.toMatchObject({ code: 'MODEL_UNAVAILABLE' });
  });
});
