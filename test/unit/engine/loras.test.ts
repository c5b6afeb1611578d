import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openEngine, PackageCache } from '../../../src/engine/index.js';
import { ditShapes, openSource } from '../../../src/import/index.js';
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

async function open() {
  const dit = safeTensors(Object.fromEntries([...ditShapes(DIT)].map(([name, shape]) => [name, ones(shape)])));
  writePackage(join(root, 'models'), 'tiny', { files: { 'config.json': CONFIG, 'dit.safetensors': dit } });
  const addon = new FakeAddon();
  const cache = new PackageCache({ directory: join(root, 'cache'), limitBytes: 1e9 });
  const engine = await openEngine({ models: join(root, 'models'), loras: join(root, 'loras'), addon, cache });
  return { engine, addon };
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
    const { engine } = await open();
    expect(engine.models()[0]?.loras).toMatchObject([{ name: 'bright', matrices: 1 }]);
    expect(engine.models()[0]?.loras[0]?.digest).toMatch(/^[0-9a-f]{64}$/);
    expect(engine.problems.map(({ message }) => message)).toEqual([expect.stringMatching(/^LoRA torn: /)]);
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
  });

  it('do not reach outside of their folder', async () => {
    writeLora('bright', 1);
    const { engine } = await open();
    const loras = [{ name: '../models/tiny/dit', weight: 1 }];
    expect(() => engine.check('tiny', { ...SIZE, loras })).toThrow(/There is no LoRA/);
    expect(readFileSync(join(root, 'models', 'tiny', 'config.json'), 'utf8')).toBe(CONFIG);
  });
});
