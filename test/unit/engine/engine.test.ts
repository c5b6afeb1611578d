import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openEngine } from '../../../src/engine/index.js';
import { damages, findPackages } from '../../../src/packages/index.js';
import { describeFile, FakeAddon, nativeError, storedAs, writePackage as write } from '../../support/model-packages.js';

let root: string;
beforeEach(() => (root = mkdtempSync(join(tmpdir(), 'longlive-test-'))));
afterEach(() => rmSync(root, { recursive: true, force: true }));

const writePackage = (name: string, change?: (manifest: Record<string, unknown>) => void) =>
  write(root, name, { change });

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

  it('hands on what a package says of its prompts, and names words that it does not know', async () => {
    const prompts = { about: 'A fox.', examples: ['a fox runs'], vocabulary: ['a', 'fox', 'runs'] };
    writePackage('alpha', (manifest) => Object.assign(manifest, { prompts }));
    writePackage('silent');
    const engine = await openEngine({ models: root, addon: new FakeAddon(), model: 'alpha' });
    expect(engine.models().map(({ guide }) => guide)).toEqual([
      { about: 'A fox.', examples: ['a fox runs'] },
      undefined,
    ]);
    expect(engine.unknownWords('alpha', {}, 'a fox &quot;plays&quot; piano')).toEqual(['plays', 'piano']);
    expect(engine.unknownWords('alpha', { loras: [{ name: 'ink', weight: 1 }] }, 'a fox plays')).toBeUndefined();
    expect(engine.unknownWords('silent', {}, 'a fox plays')).toBeUndefined();
    await engine.close();
  });

  it.each([
    ['examples that are no list', { about: 'A fox.', examples: 'a fox' }],
    ['a key that nobody knows', { about: 'A fox.', examples: [], words: [] }],
    ['too many words', { about: 'A fox.', examples: [], vocabulary: Array.from({ length: 20_001 }, () => 'w') }],
  ])('refuses a guide with %s', async (_what, prompts) => {
    writePackage('alpha', (manifest) => Object.assign(manifest, { prompts }));
    await expect(openEngine({ models: root, addon: new FakeAddon() })).rejects.toThrow(
      /manifest\.json cannot be used: .*prompts/,
    );
  });

  it('says where positions end, unless relative ones are asked for', async () => {
    const config = (rope: string) =>
      JSON.stringify({
        dit: { textLen: 16, ropeTableLength: 1024 },
        sampling: { framesPerBlock: 3, denoisingSteps: [1000], rope },
        video: { width: 192, height: 112, fps: 16 },
      });
    write(root, 'absolute', { files: { 'config.json': config('absolute') } });
    write(root, 'endless', { files: { 'config.json': config('relative') } });
    for (const [rope, ends] of [
      ['package', 255.5625],
      ['relative', null],
      ['absolute', 255.5625],
    ] as const) {
      const addon = new FakeAddon();
      const engine = await openEngine({ models: root, addon, rope });
      const found = new Map(engine.models().map(({ name, longestSeconds }) => [name, longestSeconds]));
      expect(found.get('absolute')).toBe(ends);
      expect(found.get('endless')).toBe(rope === 'absolute' ? ends : null);
      await engine.open('absolute', SIZE);
      expect(addon.ropes).toEqual([rope]);
    }
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
    await expect(openEngine({ models: join(root, 'none'), addon: new FakeAddon() })).rejects.toThrow(
      `There is no usable model package in ${join(root, 'none')}; set "models" (LONGLIVE_MODELS) to a place that has one.`,
    );
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
    await a.setPrompt({ prompt: '  a red\n fox ' }, 'RECACHE');
    await b.setPrompt({ prompt: 'a red fox' }, 'KEEP_CACHE');
    expect(addon.encoded).toHaveLength(1);
    await a.setPrompt({ prompt: 'a red fox '.repeat(50) }, 'RECACHE');
    expect(addon.encoded[1]).toHaveLength(16);
    expect(addon.encoded[1]?.at(-1)).toBe(1);
  });

  it('encodes a prompt ahead of its block, and once more there where that failed', async () => {
    writePackage('pocket');
    const addon = new FakeAddon();
    const engine = await openEngine({ models: root, addon });
    const generation = await engine.open('pocket', SIZE);
    await generation.encodePrompt({ prompt: 'a red fox' });
    await generation.setPrompt({ prompt: 'a red fox' }, 'RECACHE');
    expect(addon.encoded).toHaveLength(1);
    addon.encodeError = nativeError('INVALID_ARGUMENT', 'no such token');
    const failure = { code: 'ENGINE', message: 'no such token' };
    await expect(generation.encodePrompt({ prompt: 'a blue fox' })).rejects.toMatchObject(failure);
    await expect(generation.setPrompt({ prompt: 'a blue fox' }, 'RECACHE')).rejects.toMatchObject(failure);
    expect(addon.encoded).toHaveLength(3);
  });

  it('that goes on elsewhere finds its prompt encoded, or says why not', async () => {
    writePackage('pocket');
    const addon = new FakeAddon();
    const engine = await openEngine({ models: root, addon });
    await engine.preload('pocket', SIZE, 'a red fox');
    await engine.restore('pocket', SIZE, new Uint8Array(), { prompt: 'a red fox' });
    expect(addon.encoded).toHaveLength(1);
    addon.encodeError = nativeError('INVALID_ARGUMENT', 'no such token');
    await engine.preload('pocket', SIZE, 'a blue fox');
    await expect(engine.restore('pocket', SIZE, new Uint8Array(), { prompt: 'a blue fox' })).rejects.toThrow(
      'no such token',
    );
  });

  it('says that a checkpoint is at fault, when it is, and trusts model and device as before', async () => {
    writePackage('pocket');
    const addon = new FakeAddon();
    const engine = await openEngine({ models: root, addon });
    for (const code of ['INVALID_ARGUMENT', 'INVALID_PACKAGE', 'INTERNAL']) {
      addon.restoreError = nativeError(code, 'the checkpoint has impossible counters');
      const failure = {
        code: 'ENGINE',
        message: expect.stringContaining('the checkpoint has impossible counters') as string,
      };
      await expect(engine.restore('pocket', SIZE, new Uint8Array(), { prompt: 'a' })).rejects.toMatchObject(failure);
    }
    addon.restoreError = nativeError('OUT_OF_MEMORY', 'full');
    const full = { code: 'AT_CAPACITY' };
    await expect(engine.restore('pocket', SIZE, new Uint8Array(), { prompt: 'a' })).rejects.toMatchObject(full);
    addon.restoreError = undefined;
    await engine.restore('pocket', SIZE, new Uint8Array(), { prompt: 'a' });
    await engine.open('pocket', SIZE);
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
    // Whatever goes wrong in the core but a fault that the device itself reports is the trouble of one session.
    for (const code of ['INTERNAL', 'OUT_OF_MEMORY', 'CANCELLED', 'INVALID_PACKAGE', undefined]) {
      addon.stepError = code ? nativeError(code, 'a slip') : new Error('a slip');
      await expect(generation.step()).rejects.toMatchObject({ code: 'ENGINE', message: 'a slip' });
      await engine.open('pocket', SIZE);
      expect(engine.fault).toBeUndefined();
    }
    addon.stepError = nativeError('DEVICE_FAULT', 'bus');
    await expect(generation.step()).rejects.toMatchObject({ code: 'ENGINE' });
    await expect(engine.open('pocket', SIZE)).rejects.toMatchObject({ code: 'MODEL_UNAVAILABLE' });
    expect(() => engine.check('pocket', SIZE)).toThrow(expect.objectContaining({ code: 'MODEL_UNAVAILABLE' }));
    expect(engine.fault).toMatch(/device has failed/);
  });

  it('loads with the arithmetic asked for', async () => {
    writePackage('pocket');
    const addon = new FakeAddon();
    const load = vi.spyOn(addon, 'loadModel');
    await openEngine({ models: root, addon });
    await openEngine({ models: root, addon, precision: 'fp8', attention: 'int8' });
    const loaded = load.mock.calls.map(([options]) => options);
    expect(loaded).toEqual([
      expect.not.objectContaining({ attention: expect.anything() as unknown }),
      expect.objectContaining({ precision: 'fp8', attention: 'int8' }),
    ]);
  });
});

describe('several models', () => {
  /** Until it is loaded a model counts with its files (some 60 kB of tokenizer), then with what the core says. */
  async function open(options: object = {}) {
    for (const name of ['alpha', 'beta', 'pocket']) writePackage(name);
    const addon = new FakeAddon();
    addon.weightBytes = 100;
    const engine = await openEngine({ models: root, addon, modelMemoryBytes: 250, preload: false, ...options });
    const states = () => Object.fromEntries(engine.models().map(({ name, state }) => [name, state]));
    return { addon, engine, states };
  }

  it('are loaded when they are asked for, and the least recently used one goes', async () => {
    const { addon, engine, states } = await open({ modelMemoryBytes: 150_000 });
    addon.weightBytes = 60_000;
    for (const name of ['pocket', 'alpha', 'pocket']) (await engine.open(name, SIZE)).dispose();
    expect(states()).toEqual({ pocket: 'LOADED', alpha: 'LOADED', beta: 'AVAILABLE' });
    (await engine.open('beta', SIZE)).dispose();
    expect(states()).toEqual({ pocket: 'LOADED', alpha: 'AVAILABLE', beta: 'LOADED' });
    expect([...addon.resident].sort()).toEqual([join(root, 'beta'), join(root, 'pocket')]);
  });

  it('are not evicted while a generation lives, and the refusal comes before the session', async () => {
    const { addon, engine, states } = await open();
    const generation = await engine.open('pocket', SIZE);
    expect(() => engine.check('alpha', SIZE)).toThrow(expect.objectContaining({ code: 'AT_CAPACITY' }));
    await expect(engine.open('alpha', SIZE)).rejects.toMatchObject({ code: 'AT_CAPACITY' });
    expect(() => engine.check('pocket', SIZE)).not.toThrow();
    generation.dispose();
    generation.dispose();
    (await engine.open('alpha', SIZE)).dispose();
    expect(states()).toMatchObject({ pocket: 'AVAILABLE', alpha: 'LOADED' });
    expect(addon.disposed).toBe(1);
  });

  it('are loaded once however many ask at the same time', async () => {
    const { addon, engine, states } = await open();
    let go!: () => void;
    addon.gate = new Promise((resolve) => (go = resolve));
    const opening = [engine.preload('alpha', SIZE), engine.open('alpha', SIZE), engine.open('alpha', SIZE)];
    await expect.poll(() => addon.loaded.length).toBe(1);
    expect(states()).toMatchObject({ alpha: 'LOADING' });
    go();
    await Promise.all(opening);
    expect(addon.loaded).toHaveLength(1);
  });

  it('may be asked for again after a load that failed', async () => {
    const { addon, engine } = await open();
    addon.loadError = nativeError('INVALID_PACKAGE', 'torn');
    await expect(engine.open('alpha', SIZE)).rejects.toThrow('torn');
    addon.loadError = undefined;
    (await engine.open('alpha', SIZE)).dispose();
    expect(addon.loaded).toHaveLength(2);
  });

  it('make room for one that the device has no memory for', async () => {
    const { addon, engine } = await open({ modelMemoryBytes: 1e9 });
    (await engine.open('alpha', SIZE)).dispose();
    const load = addon.loadModel.bind(addon);
    addon.loadModel = async (options) => {
      if (addon.resident.size > 0) throw nativeError('OUT_OF_MEMORY', 'no memory');
      return load(options);
    };
    (await engine.open('beta', SIZE)).dispose();
    expect([...addon.resident]).toEqual([join(root, 'beta')]);
  });

  it('of one name come from the place named first', async () => {
    writePackage('alpha');
    const elsewhere = join(root, 'elsewhere');
    write(elsewhere, 'alpha', { files: { 'dit.safetensors': 'other' } });
    const told: string[] = [];
    const warn = (message: string) => told.push(message);
    const engine = await openEngine({ models: [elsewhere, root], addon: new FakeAddon(), warn });
    expect(engine.models()).toHaveLength(1);
    expect(told[0]).toContain(`"alpha" is taken from ${join(elsewhere, 'alpha')}`);
  });
});

describe('a machine with several GPUs', () => {
  class WithGpus extends FakeAddon {
    override devices() {
      const [cpu, cuda] = super.devices() as [ReturnType<FakeAddon['devices']>[0], ReturnType<FakeAddon['devices']>[0]];
      return [cpu, ...[0, 1].map((index) => ({ ...cuda, index, available: true, totalMemory: 1e9 * (index + 1) }))];
    }
  }

  it('runs models on the one that is named', async () => {
    writePackage('pocket');
    const addon = new WithGpus();
    await using engine = await openEngine({ models: root, addon, deviceIndex: 1 });
    expect(engine.models()[0]?.device).toBe('cuda');
    expect(addon.indices).toEqual([1]);
    await using first = await openEngine({ models: root, addon });
    expect(first.models()[0]?.device).toBe('cuda');
    expect(addon.indices).toEqual([1, 0]);
  });

  it.each([
    ['sm_90', 1],
    ['sm_90+cublaslt', 0],
  ])('says at the start whether the library of matrix products is missing: %s', async (isa, notes) => {
    writePackage('pocket');
    const addon = new WithGpus();
    const devices = addon.devices();
    addon.devices = () => devices.map((report) => (report.device === 'cuda' ? { ...report, isa } : report));
    const told: string[] = [];
    await using engine = await openEngine({ models: root, addon, warn: (message) => told.push(message) });
    expect(engine.models()).toHaveLength(1);
    expect(told.filter((message) => message.includes('libcublasLt'))).toHaveLength(notes);
    await using cpu = await openEngine({ models: root, addon, device: 'cpu', warn: (message) => told.push(message) });
    expect(cpu.models()).toHaveLength(1);
    expect(told).toHaveLength(notes);
  });

  it.each(['auto', 'cuda'] as const)('refuses an index that none has, with device %s', async (device) => {
    writePackage('pocket');
    const opening = openEngine({ models: root, addon: new WithGpus(), device, deviceIndex: 2 });
    await expect(opening).rejects.toMatchObject({ code: 'MODEL_UNAVAILABLE' });
    await expect(opening).rejects.toThrow('Device cuda 2 cannot be used: there are 2, counted from 0.');
    await expect(openEngine({ models: root, addon: new FakeAddon(), device, deviceIndex: 1 })).rejects.toThrow(
      'Device cuda 1 cannot be used: no driver.',
    );
    const cpu = openEngine({ models: root, addon: new WithGpus(), device: 'cpu', deviceIndex: 1 });
    await expect(cpu).rejects.toThrow('Device cpu 1 cannot be used: there are 1, counted from 0.');
  });
});

it('counts what a driver refuses to record, of all models, and says it once', async () => {
  writePackage('pocket');
  const addon = new FakeAddon();
  const told: string[] = [];
  await using engine = await openEngine({ models: root, addon, warn: (message) => told.push(message) });
  const session = await engine.open('pocket', SIZE);
  await session.step();
  expect([engine.refusedRecordings, told]).toEqual([0, []]);
  addon.refusedRecordings = 3;
  await session.step();
  addon.refusedRecordings = 5;
  await session.step();
  await session.step();
  expect(engine.refusedRecordings).toBe(5);
  expect(told).toEqual([expect.stringContaining('refuses to record work (CUDA graphs)')]);
});

describe('the precision of a model', () => {
  class WithGpu extends FakeAddon {
    constructor(private readonly hasFp8: boolean) {
      super();
    }
    override devices() {
      return super.devices().map((device) => ({ ...device, available: true, isa: 'sm_90+cublaslt' }));
    }
    override async loadModel(options: Parameters<FakeAddon['loadModel']>[0]) {
      if (options.precision === 'fp8' && !this.hasFp8) throw nativeError('INVALID_ARGUMENT', 'no fp8 here');
      return super.loadModel(options);
    }
  }

  async function open(dtype: string, options: object = {}, more = 0) {
    write(root, 'pocket', { files: { 'dit.safetensors': storedAs(dtype, more) } });
    const told: string[] = [];
    const addon = new FakeAddon();
    const warn = (message: string) => told.push(message);
    const engine = await openEngine({ models: root, addon, warn, ...options });
    return { info: engine.models()[0], addon, told };
  }

  it.each([
    ['I8', 'int8', 'int8'],
    ['BF16', 'bf16', 'bf16'],
    ['F32', 'fp32', 'bf16'],
  ])('follows what is stored: %s', async (dtype, storedPrecision, precision) => {
    const { info, addon, told } = await open(dtype);
    expect(info).toMatchObject({ storedPrecision, precision });
    expect(addon.precisions).toEqual([precision]);
    expect(told).toEqual([]);
  });

  it('is read from a header of any size', async () => {
    expect((await open('I8', {}, 200_000)).info).toMatchObject({ storedPrecision: 'int8' });
  });

  it('is bf16, and that is told, for what a CPU does not support', async () => {
    const { info, addon, told } = await open('F8_E4M3');
    expect(info).toMatchObject({ storedPrecision: 'fp8', precision: 'bf16' });
    expect(addon.precisions).toEqual(['bf16']);
    expect(told).toEqual(['Model "pocket" is stored in fp8, which device cpu does not support; it runs in bf16.']);
  });

  it('is fp8 on a GPU that has it, and bf16 on one that has not', async () => {
    const having = new WithGpu(true);
    expect((await open('F8_E4M3', { addon: having })).told).toEqual([]);
    expect(having.precisions).toEqual(['fp8']);
    const lacking = new WithGpu(false);
    const { info, told } = await open('F8_E4M3', { addon: lacking });
    expect(lacking.precisions).toEqual(['bf16']);
    expect(info).toMatchObject({ precision: 'bf16' });
    expect(told[0]).toContain('device cuda does not support');
  });

  it('is what was asked for, and then what is impossible is refused', async () => {
    expect((await open('I8', { precision: 'bf16' })).addon.precisions).toEqual(['bf16']);
    const opening = open('F8_E4M3', { precision: 'fp8', addon: new WithGpu(false) });
    await expect(opening).rejects.toThrow('no fp8 here');
  });
});

describe('packages that come and go', () => {
  async function open(...names: string[]) {
    for (const name of names) writePackage(name);
    const addon = new FakeAddon();
    const engine = await openEngine({ models: root, addon, preload: false });
    return { addon, engine, names: () => engine.models().map(({ name }) => name) };
  }

  it('are seen when somebody looks, though not all the time', async () => {
    const { engine, names } = await open('pocket');
    writePackage('alpha');
    await engine.refresh();
    expect(names()).toEqual(['pocket']);
    vi.spyOn(performance, 'now').mockReturnValue(performance.now() + 1_001);
    await engine.refresh();
    vi.restoreAllMocks();
    expect(names()).toEqual(['pocket', 'alpha']);
  });

  it('are seen at once when one is asked for that is not known', async () => {
    const { engine } = await open('pocket');
    writePackage('alpha');
    await engine.refresh('alpha');
    (await engine.open('alpha', SIZE)).dispose();
    await engine.refresh('beta');
    await expect(engine.open('beta', SIZE)).rejects.toThrow('There is no model "beta"');
  });

  it('are gone when they are removed, but for what is loaded', async () => {
    const { addon, engine, names } = await open('alpha', 'beta', 'pocket');
    const generation = await engine.open('beta', SIZE);
    for (const name of ['alpha', 'beta']) rmSync(join(root, name), { recursive: true });
    await engine.refresh('none');
    expect(names()).toEqual(['pocket', 'beta']);
    (await engine.open('beta', SIZE)).dispose();
    generation[Symbol.dispose]();
    expect(addon.loaded).toHaveLength(1);
  });

  it('are refused when they went since somebody looked', async () => {
    const { addon, engine } = await open('pocket');
    rmSync(join(root, 'pocket'), { recursive: true });
    const opening = engine.open('pocket', SIZE);
    await expect(opening).rejects.toMatchObject({ code: 'MODEL_UNAVAILABLE' });
    await expect(opening).rejects.toThrow('was removed or replaced');
    expect(addon.loaded).toEqual([]);
  });

  it('stay beside another version of theirs in a directory called NAME@VERSION', async () => {
    const { addon, engine } = await open('pocket');
    const digest = engine.models()[0]?.digest;
    renameSync(join(root, 'pocket'), join(root, 'pocket@1.0.0'));
    write(root, 'pocket', { change: (manifest) => (manifest.version = '2.0.0') });
    write(root, 'other@1.0.0', { change: (manifest) => (manifest.name = 'pocket') });
    await engine.refresh('none');
    expect(engine.models().map(({ name, version }) => [name, version])).toEqual([
      ['pocket', '2.0.0'],
      ['pocket@1.0.0', '1.0.0'],
    ]);
    expect(engine.models()[1]?.digest).toBe(digest);
    (await engine.open('pocket@1.0.0', SIZE)).dispose();
    expect(addon.loaded.at(-1)).toBe(join(root, 'pocket@1.0.0'));
  });

  it('are another model in another version, while the old one is used to its end', async () => {
    const { addon, engine } = await open('pocket');
    const before = await engine.open('pocket', SIZE);
    const { digest } = engine.models()[0] as { digest: string };
    writePackage('pocket', (manifest) => (manifest.version = '2.0.0'));
    await engine.refresh('none');
    expect(engine.models()).toMatchObject([{ version: '2.0.0', state: 'AVAILABLE' }]);
    expect(engine.models()[0]?.digest).not.toBe(digest);
    await before.setPrompt({ prompt: 'a fox' }, 'RECACHE');
    expect(addon.disposed).toBe(0);
    before.dispose();
    expect(addon.disposed).toBe(1);
    (await engine.open('pocket', SIZE)).dispose();
    expect(addon.loaded).toHaveLength(2);
  });
});
