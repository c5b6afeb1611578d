import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type EngineOptions, openEngine } from '../../../src/engine/index.js';
import { PackageCache } from '../../../src/packages/index.js';
import {
  ditShapes,
  isQuantized,
  openSource,
  quantizeRows,
  type Tensor,
  toFloat32,
  valuesOf,
  writeSafeTensors,
} from '../../../src/import/index.js';
import { randomOf } from '../../support/fake-service.js';
import { memoryTensor } from '../../support/memory-tensor.js';
import { FakeAddon, safeTensors, writePackage } from '../../support/model-packages.js';

// Real files that are synced, on machines that may be busy.
vi.setConfig({ testTimeout: 60_000 });

const DIT = {
  ...{ dim: 4, ffnDim: 8, numHeads: 2, numLayers: 1, freqDim: 4, inDim: 2, outDim: 2, textDim: 4, textLen: 16 },
  ...{ patchSize: [1, 2, 2], eps: 1e-6, ropeTheta: 10_000, ropeTableLength: 64 },
};
const CONFIG = JSON.stringify({
  dit: DIT,
  sampling: { framesPerBlock: 3, denoisingSteps: [1000] },
  video: { width: 192, height: 112, fps: 16 },
});
const SIZE = { seed: 1n, width: 192, height: 112 };
const ADAPTED = 'blocks.0.ffn.0.weight';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'longlive-loras-'));
  mkdirSync(join(root, 'loras'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const ones = (shape: readonly number[], value = 1): { shape: number[]; values: number[] } => ({
  shape: [...shape],
  values: new Array<number>(shape.reduce((product, size) => product * size, 1)).fill(value),
});

/** Adds `value` to every element of the matrix, by rank 1. */
function writeLora(name: string, value: number, module = 'blocks.0.ffn.0', [rows, columns] = [8, 4]): void {
  const tensors = {
    [`${module}.lora_A.weight`]: ones([1, columns]),
    [`${module}.lora_B.weight`]: ones([rows, 1], value),
  };
  writeFileSync(join(root, 'loras', `${name}.safetensors`), safeTensors(tensors));
}

async function open(options: Partial<EngineOptions> = {}) {
  const dit = safeTensors(Object.fromEntries([...ditShapes(DIT)].map(([name, shape]) => [name, ones(shape)])));
  return openOver(dit, options);
}

async function openOver(dit: Buffer, options: Partial<EngineOptions> = {}, config = CONFIG) {
  writePackage(join(root, 'models'), 'tiny', { files: { 'config.json': config, 'dit.safetensors': dit } });
  const addon = new FakeAddon();
  const cache = new PackageCache({ directory: join(root, 'cache'), limitBytes: 1e9 });
  const told: string[] = [];
  const warn = (message: string) => void told.push(message);
  const engine = await openEngine({
    ...{ models: join(root, 'models'), loras: join(root, 'loras'), addon, cache, warn },
    ...options,
  });
  return { engine, addon, told };
}

async function values(directory: string, name: string): Promise<number[]> {
  const source = await openSource(join(directory, 'dit.safetensors'));
  const tensor = source.tensors.find((each) => each.name === name);
  const bytes = await tensor?.read(
    0,
    tensor.shape.reduce((product, size) => product * size, 1),
  );
  await source.close();
  return [...new Float32Array(Uint8Array.from(bytes ?? []).buffer)];
}

describe('LoRA adapters', () => {
  it('are listed with the models they fit, and others are told', async () => {
    writeLora('bright', 1);
    writeLora('for-another', 1, 'blocks.7.ffn.0');
    writeFileSync(join(root, 'loras', 'torn.safetensors'), 'no tensors');
    writeFileSync(join(root, 'loras', 'notes.txt'), 'nothing');
    const { engine, told } = await open();
    expect(engine.models()[0]?.loras).toMatchObject([{ name: 'bright', matrices: 1 }]);
    expect(engine.models()[0]?.loras[0]?.digest).toMatch(/^[0-9a-f]{64}$/);
    expect(told).toEqual([expect.stringMatching(/^LoRA torn: /)]);
  });

  it('are offered under the names of their files and folders, whatever these are', async () => {
    const names = ['my style v1', '[Wan] Ink (v2)', '水墨', 'Émile', '2nd.try', '_draft'];
    for (const name of names) writeLora(name, 1);
    writeLora('old', 1);
    renameSync(join(root, 'loras', 'old.safetensors'), join(root, 'loras', 'old.SAFETENSORS'));
    writeLora('E\u0301t\u00e9', 1);
    mkdirSync(join(root, 'loras', 'in a folder'));
    writeLora('in a folder/adapter_model', 1);
    const { engine, told } = await open();
    const offered = engine.models()[0]?.loras.map(({ name }) => name);
    expect(offered?.sort()).toEqual([...names, 'old', 'Été', 'in a folder'].sort());
    for (const name of ['水墨', 'E\u0301t\u00e9']) {
      expect(() => engine.check('tiny', { ...SIZE, loras: [{ name, weight: 1 }] })).not.toThrow();
    }
    expect(told).toEqual([]);
  });

  it('that cannot be offered are told, a line each', async () => {
    writeFileSync(join(root, 'loras', 'old.bin'), 'no tensors');
    writeFileSync(join(root, 'loras', 'ink.gguf'), 'GGUF');
    writeFileSync(join(root, 'loras', 'two\nlines.safetensors'), 'x');
    writeFileSync(join(root, 'loras', `${'x'.repeat(200)}.pt`), 'x');
    writeFileSync(join(root, 'loras', 'ink.png'), 'a preview');
    writeFileSync(join(root, 'loras', '.DS_Store'), '');
    symlinkSync('nowhere', join(root, 'loras', 'gone.pt'));
    mkdirSync(join(root, 'loras', 'styles'));
    const { engine, told } = await open();
    expect(engine.models()[0]?.loras).toEqual([]);
    expect(told.sort()).toEqual([
      expect.stringMatching(/^LoRA "two\\nlines\.safetensors": its name is not valid/),
      expect.stringMatching(/^LoRA "x+": its name is not valid; use 1 to 128 characters/),
      'LoRA gone.pt: broken link.',
      'LoRA ink.gguf: this file type is not supported; save it as safetensors.',
      'LoRA old: This is neither a PyTorch checkpoint nor a safetensors file, or it is damaged.',
      expect.stringMatching(/^LoRA styles: .*styles has no adapter; a folder of PEFT holds adapter_model/),
    ]);
    for (const line of told) expect(line.split('\n')).toHaveLength(1);
  });

  it('have another digest when the file beside them says another strength', async () => {
    mkdirSync(join(root, 'loras', 'ink'));
    writeLora('ink/adapter_model', 1);
    const digest = async (config: object) => {
      writeFileSync(join(root, 'loras', 'ink', 'adapter_config.json'), JSON.stringify(config));
      const { engine } = await open();
      return engine.models()[0]?.loras[0]?.digest;
    };
    const digests = [{}, { lora_alpha: 8 }, { lora_alpha: 4 }, { lora_alpha: 8, alpha_pattern: { 'ffn.0': 4 } }];
    const found = [];
    for (const config of digests) found.push(await digest(config));
    expect(new Set(found).size).toBe(3);
    expect(found[2]).toBe(found[3]);
  });

  it('are merged into a package of their own, which shares what is not changed', async () => {
    writeLora('bright', 0.5);
    const { engine, addon } = await open();
    (await engine.open('tiny', { ...SIZE, loras: [{ name: 'bright', weight: 2 }] })).dispose();
    const [base = '', merged = ''] = addon.loaded;
    expect(base).toBe(join(root, 'models', 'tiny'));
    expect(await values(merged, ADAPTED)).toEqual(new Array<number>(32).fill(2));
    expect(await values(merged, 'blocks.0.ffn.2.weight')).toEqual(new Array<number>(32).fill(1));
    expect(await values(base, ADAPTED)).toEqual(new Array<number>(32).fill(1));
    expect(statSync(join(merged, 'vae.safetensors')).ino).toBe(statSync(join(base, 'vae.safetensors')).ino);
    expect(readdirSync(merged).sort()).toEqual(readdirSync(base).sort());
  });

  it('are merged once for the same weights, again for others, and kept for the next start', async () => {
    writeLora('bright', 0.5);
    writeLora('dark', -0.25);
    const first = await open();
    const loras = [
      { name: 'bright', weight: 1 },
      { name: 'dark', weight: 1 },
    ];
    await Promise.all([1, 2].map(() => first.engine.open('tiny', { ...SIZE, loras })));
    (await first.engine.open('tiny', { ...SIZE, loras: [{ name: 'bright', weight: 1 }] })).dispose();
    expect(new Set(first.addon.loaded).size).toBe(3);
    expect(first.addon.loaded).toHaveLength(3);
    expect(await values(first.addon.loaded[1] as string, ADAPTED)).toEqual(new Array<number>(32).fill(1.25));
    const { mtimeMs } = lstatSync(join(first.addon.loaded[1] as string, 'dit.safetensors'));

    const second = await open();
    (await second.engine.open('tiny', { ...SIZE, loras })).dispose();
    expect(second.addon.loaded[1]).toBe(first.addon.loaded[1]);
    expect(lstatSync(join(second.addon.loaded[1] as string, 'dit.safetensors')).mtimeMs).toBe(mtimeMs);
  });

  it('that are not there or do not fit are refused by their place in the request', async () => {
    writeLora('bright', 1);
    writeLora('narrow', 1, 'blocks.0.ffn.0', [8, 3]);
    writeLora('for-another', 1, 'blocks.7.ffn.0');
    const { engine } = await open();
    const check = (...names: string[]) =>
      engine.check('tiny', { ...SIZE, loras: names.map((name) => ({ name, weight: 1 })) });
    expect(() => check('bright')).not.toThrow();
    const refusal = (field: string) => expect.objectContaining({ code: 'INVALID_INPUT', field }) as Error;
    expect(() => check('bright', 'sepia')).toThrow(refusal('loras[1].name'));
    expect(() => check('sepia')).toThrow('There is no LoRA "sepia"; available for model "tiny": bright.');
    expect(() => check('narrow')).toThrow(refusal('loras[0].name'));
    expect(() => check('narrow')).toThrow(
      'LoRA "narrow" does not fit model "tiny": blocks.0.ffn.0.weight is [8, 4], the adapter is made for [8, 3].',
    );
    expect(() => check('for-another')).toThrow('blocks.7.ffn.0.weight is not in the network');
    writeLora('forger', 1, 'blocks.0.ffn.0\nERROR: all is lost');
    const { told, engine: other } = await open();
    expect(() => other.check('tiny', { ...SIZE, loras: [{ name: 'forger', weight: 1 }] })).toThrow(/LoRA "forger"/);
    for (const line of told) expect(line).not.toMatch(/^ERROR/m);
  });

  it('do not reach outside of their folder', async () => {
    writeLora('bright', 1);
    const { engine } = await open();
    const loras = [{ name: '../models/tiny/dit', weight: 1 }];
    expect(() => engine.check('tiny', { ...SIZE, loras })).toThrow(/There is no LoRA/);
    expect(readFileSync(join(root, 'models', 'tiny', 'config.json'), 'utf8')).toBe(CONFIG);
  });
});

describe('LoRA adapters for a package in 8 bits', () => {
  const random = randomOf(3);
  const noise = (count: number) => Float32Array.from({ length: count }, () => random() - 0.5);
  const count = (shape: readonly number[]) => shape.reduce((product, size) => product * size, 1);
  /** Deep enough that most of its weights are in layers. */
  const DEEP = { ...DIT, numLayers: 6 };
  const config = CONFIG.replace('"numLayers":1', '"numLayers":6');
  const TYPES = { int8: 'I8', fp8: 'F8_E4M3' } as const;

  async function quantized(precision: keyof typeof TYPES): Promise<Buffer> {
    const path = join(root, 'quantized');
    const tensors = [...ditShapes(DEEP)].map(([name, shape]) => [name, memoryTensor(name, shape, noise(count(shape)))]);
    const typeOf = (name: string) => (isQuantized('dit', name) ? TYPES[precision] : 'BF16');
    await writeSafeTensors(path, new Map(tensors as [string, Tensor][]), typeOf, () => undefined);
    return readFileSync(path);
  }

  async function tensorsOf(directory: string): Promise<Map<string, { dtype: string; bytes: Uint8Array }>> {
    const source = await openSource(join(directory, 'dit.safetensors'));
    const read = source.tensors.map(async (tensor) => {
      const bytes = await tensor.read(0, count(tensor.shape));
      return [tensor.name, { dtype: tensor.dtype, bytes }] as const;
    });
    const all = new Map(await Promise.all(read));
    await source.close();
    return all;
  }

  /** What the adapted matrix stands for, before anything is added. */
  function adaptedValues(tensors: Map<string, { dtype: string; bytes: Uint8Array }>, precision: keyof typeof TYPES) {
    const [matrix, scale] = [tensors.get(ADAPTED), tensors.get(`${ADAPTED}_scale`)];
    const scales = toFloat32(scale?.bytes ?? new Uint8Array(), 'F32');
    return valuesOf(matrix?.bytes ?? new Uint8Array(), scales, DIT.dim, TYPES[precision]);
  }

  const use = async ({ engine }: Awaited<ReturnType<typeof open>>, weight = 1) => {
    (await engine.open('tiny', { ...SIZE, loras: [{ name: 'bright', weight }] })).dispose();
  };

  it('are merged in float and quantized again, and nothing else is touched', async () => {
    writeLora('bright', 0.25);
    const opened = await openOver(await quantized('int8'), {}, config);
    await use(opened);
    expect(opened.addon.precisions).toEqual(['int8', 'int8']);
    const [before, after] = await Promise.all(opened.addon.loaded.map(tensorsOf));
    if (!before || !after) throw new Error('not loaded');
    expect([...after.keys()].sort()).toEqual([...before.keys()].sort());
    const wanted = quantizeRows(
      adaptedValues(before, 'int8').map((value) => value + 0.25),
      DIT.dim,
      'I8',
    );
    expect(after.get(ADAPTED)?.dtype).toBe('I8');
    expect(Buffer.from(after.get(ADAPTED)?.bytes ?? []).equals(wanted.bytes)).toBe(true);
    expect(toFloat32(after.get(`${ADAPTED}_scale`)?.bytes ?? new Uint8Array(), 'F32')).toEqual(wanted.scales);
    for (const [name, { dtype, bytes }] of before) {
      if (name.startsWith(ADAPTED)) continue;
      expect([name, after.get(name)?.dtype]).toEqual([name, dtype]);
      expect(Buffer.from(after.get(name)?.bytes ?? []).equals(bytes), name).toBe(true);
    }
    expect(opened.told.filter((message) => message.includes('%'))).toEqual([]);
  });

  it('that rounding would swallow are refused with the way out, and merged only once to find that', async () => {
    writeLora('bright', 0.0005);
    const opened = await openOver(await quantized('int8'), {}, config);
    await expect(use(opened)).rejects.toMatchObject({ code: 'MODEL_UNAVAILABLE' });
    const product = vi.spyOn(opened.addon, 'addProduct');
    const refused = use(opened);
    await expect(refused).rejects.toThrow(
      /LoRA "bright" has \d+ % of its effect in the 8-bit weights of model "tiny": its changes are smaller than the rounding/,
    );
    await expect(refused).rejects.toThrow(/longlive import … --lora FILE --precision int8\), or .* --precision bf16/);
    expect(product).not.toHaveBeenCalled();
    expect(opened.addon.loaded).toHaveLength(1);
  });

  it.each([
    ['int8', 'bf16'],
    ['fp8', 'auto'],
  ] as const)('keep even that where it is stored in %s and calculated with in bf16', async (stored, precision) => {
    writeLora('bright', 0.0005);
    const opened = await openOver(await quantized(stored), { precision }, config);
    await use(opened, 2);
    const [before, after] = await Promise.all(opened.addon.loaded.map(tensorsOf));
    if (!before || !after) throw new Error('not loaded');
    expect(after.get(ADAPTED)?.dtype).toBe('BF16');
    expect(after.has(`${ADAPTED}_scale`)).toBe(false);
    expect(after.get('blocks.0.ffn.2.weight')).toEqual(before.get('blocks.0.ffn.2.weight'));
    const [values, merged] = [
      adaptedValues(before, stored),
      toFloat32(after.get(ADAPTED)?.bytes ?? new Uint8Array(), 'BF16'),
    ];
    const change = values.reduce((sum, value, i) => sum + ((merged[i] ?? 0) - value), 0) / values.length;
    expect(change).toBeGreaterThan(0.0005);
    expect(change).toBeLessThan(0.0015);
  });

  it('are told of when rounding takes or adds a little', async () => {
    const tensors = {
      'blocks.0.ffn.0.lora_A.weight': { shape: [1, 4], values: [0.5, -0.3, 0.2, -0.45] },
      'blocks.0.ffn.0.lora_B.weight': ones([8, 1], 0.02),
    };
    writeFileSync(join(root, 'loras', 'bright.safetensors'), safeTensors(tensors));
    const opened = await openOver(await quantized('int8'), {}, config);
    await use(opened);
    expect(opened.told).toEqual([expect.stringMatching(/^LoRA "bright" has \d+ % of its effect in the 8-bit weights/)]);
  });
});
