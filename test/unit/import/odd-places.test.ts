import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { writeTorch } from '../../../scripts/torch-writer.js';
import { toFloat32 } from '../../../src/import/convert.js';
import { closeAll, findWeights } from '../../../src/import/find.js';
import { unfused } from '../../../src/import/fused.js';
import type { Adapter } from '../../../src/import/lora.js';
import { type AddProduct, mergeAdapters } from '../../../src/import/merge.js';
import { pickTensors } from '../../../src/import/names.js';
import { type Tensor, wholeTensor } from '../../../src/import/tensor.js';
import { empty, type Stored, stored, writeCheckpoint } from '../../support/checkpoint-files.js';
import { randomOf } from '../../support/fake-service.js';
import { memoryTensor } from '../../support/memory-tensor.js';

const RANK = 4;
const WIDTH = 6;
const MODULES = ['blocks.0.self_attn.q', 'blocks.1.ffn.0'];

let root: string;
let random: () => number;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'longlive-odd-'));
  random = randomOf(11);
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const noise = (count: number) => Float32Array.from({ length: count }, () => random() - 0.5);
const factors = (name: string, rows = WIDTH, [a, b] = ['lora_A', 'lora_B']): Record<string, Stored> => ({
  [`${name}.${a}.weight`]: stored(noise(RANK * WIDTH), [RANK, WIDTH]),
  [`${name}.${b}.weight`]: stored(noise(rows * RANK), [rows, RANK]),
});
const plain = (prefix = 'diffusion_model.') =>
  Object.fromEntries(MODULES.flatMap((name) => Object.entries(factors(`${prefix}${name}`))));

async function read(path: string, alpha?: number): Promise<Adapter> {
  const loras = [{ path, weight: 1, ...(alpha !== undefined && { alpha }) }];
  const found = await findWeights([], { hints: {}, ema: false, loras });
  opened.push(found);
  return found.adapters[0] as Adapter;
}

const opened: Awaited<ReturnType<typeof findWeights>>[] = [];
afterEach(async () => void (await Promise.all(opened.splice(0).map(closeAll))));

function adapter(tensors: Record<string, Stored>, metadata?: Record<string, string>): string {
  return writeCheckpoint(join(root, 'style.safetensors'), tensors, metadata);
}

const factorsOf = ({ pairs }: Adapter) => [...pairs.values()].map(({ strength }) => strength.factor);

describe('alpha of an adapter in odd places', () => {
  it.each<[string, Record<string, string>]>([
    ['a configuration with a bare alpha', { lora_config: '{"rank": 4, "alpha": 16}' }],
    ['options of a trainer as JSON', { network_args: '{"alpha": "16", "dropout": null}' }],
    ['options of a trainer as words', { network_args: 'alpha=16 rank=4' }],
    ['options of a trainer as a list', { network_args: '["alpha=16", "rank=4"]' }],
    ['a configuration inside of another', { training: '{"steps": 9, "adapter": {"rank": 4, "alpha": 16}}' }],
    ['PEFT’s inside of a whole run', { config: '{"model": {"peft": {"r": 4, "lora_alpha": 16}}}' }],
  ])('is read in %s', async (_, metadata) => {
    const found = await read(adapter(plain(), metadata), 1);
    expect(factorsOf(found)).toEqual([4, 4]);
    expect(found.notes).toEqual(['--lora-alpha is not used: the adapter states its own alpha (its metadata).']);
  });

  it.each<[string, Record<string, string>, string]>([
    [
      'where a trainer’s saved file need not have it',
      { config: '{"process": [{"network": {"linear": 16, "linear_alpha": 8}}]}' },
      'linear_alpha of network of process of config in its metadata is 8; it is not used',
    ],
    [
      'among options that kohya’s trainers pass on',
      { ss_network_args: '{"conv_alpha": "1", "rs_lora": "True"}' },
      'rs_lora of ss_network_args in its metadata is "True"; it is not used',
    ],
  ])('is told %s', async (_, metadata, note) => {
    const found = await read(adapter(plain(), metadata));
    expect(factorsOf(found)).toEqual([1, 1]);
    expect(found.notes).toEqual([expect.stringContaining(note)]);
  });

  it('is not taken from what is no adapter’s', async () => {
    const metadata = {
      training: '{"ema": {"alpha": 0.99}, "scheduler": {"rescale_alpha": 2}}',
      software: '{"alpha": 3}',
    };
    const found = await read(adapter(plain(), metadata));
    expect(factorsOf(found)).toEqual([1, 1]);
    expect(found.notes).toEqual([]);
  });

  it.each([
    ['a bare alpha', { alpha: 16 }],
    ['the configuration of an adapter', { adapter: { rank: 4, alpha: 16 } }],
    ['that of a whole run', { config: { steps: 3, model: { lora_config: { r: 4, lora_alpha: 16 } } } }],
  ])('is read beside the tensors of a PyTorch file: %s', async (_, beside) => {
    const state = Object.entries(plain()).map(([name, { shape, bytes }]) => {
      return { name, shape, type: 'F32' as const, chunks: () => [bytes] };
    });
    await writeTorch(join(root, 'style.pt'), { ...beside, generator_lora: state });
    expect(factorsOf(await read(join(root, 'style.pt')))).toEqual([4, 4]);
  });

  it('is read of tensors that are called as PEFT calls it', async () => {
    const alphas = Object.fromEntries(MODULES.map((name) => [`diffusion_model.${name}.lora_alpha`, stored([16], [])]));
    expect(factorsOf(await read(adapter({ ...plain(), ...alphas })))).toEqual([4, 4]);
  });

  it('leaves nothing unsaid that alpha tensors precede', async () => {
    const alphas = Object.fromEntries(MODULES.map((name) => [`diffusion_model.${name}.alpha`, stored([2], [])]));
    const metadata = { use_rslora: 'true', rank: '8', alpha_pattern: '{"q": 4}' };
    const found = await read(adapter({ ...plain(), ...alphas }, metadata));
    expect(factorsOf(found)).toEqual([0.5, 0.5]);
    expect(found.notes).toEqual([
      'use_rslora of its metadata is not used: its alpha tensors take precedence.',
      'alpha_pattern of its metadata is not used: its alpha tensors take precedence.',
      'rank 8 of its metadata is not used: the factors have rank 4.',
    ]);
  });

  it('is told of differences, which have none', async () => {
    const path = adapter({ 'diffusion_model.blocks.0.norm3.diff': stored(noise(WIDTH), [WIDTH]) }, { lora_alpha: '8' });
    expect((await read(path)).notes).toEqual([
      'alpha 8 of its metadata is not used: what the file holds are differences, which are added as they are.',
    ]);
  });
});

/** The product as anybody would write it. */
const addProduct: AddProduct = async (values, b, a, rank) => {
  const columns = a.length / rank;
  for (let i = 0; i < values.length; i++)
    for (let r = 0; r < rank; r++)
      values[i] =
        (values[i] as number) +
        (b[Math.floor(i / columns) * rank + r] as number) * (a[r * columns + (i % columns)] as number);
};

describe('queries, keys and values in one matrix', () => {
  const zero = (name: string) => memoryTensor(name, [WIDTH, WIDTH], new Float32Array(WIDTH * WIDTH));

  it.each([
    ['diffusion_model.blocks.0.self_attn.qkv', ['q', 'k', 'v'], 'self_attn'],
    ['transformer.blocks.0.attn1.to_qkv', ['q', 'k', 'v'], 'self_attn'],
    ['transformer.blocks.0.attn2.to_kv', ['k', 'v'], 'cross_attn'],
    ['lora_unet_blocks_0_cross_attn_kv', ['k', 'v'], 'cross_attn'],
  ])('are adapted one by one: %s', async (name, letters, attention) => {
    const words: [string, string] = name.startsWith('lora_') ? ['lora_down', 'lora_up'] : ['lora_A', 'lora_B'];
    const tensors = factors(name, WIDTH * letters.length, words);
    const found = await read(adapter({ ...tensors, [`${name}.alpha`]: stored([8], []) }));
    const [a, b] = Object.values(tensors).map(({ bytes }) => toFloat32(bytes, 'F32')) as [Float32Array, Float32Array];
    const base = new Map<string, Tensor>(
      letters.map((letter) => [`blocks.0.${attention}.${letter}.weight`, zero(letter)]),
    );
    const merged = mergeAdapters(base, [found], addProduct);
    for (const [i, letter] of letters.entries()) {
      const tensor = merged.get(`blocks.0.${attention}.${letter}.weight`) as Tensor;
      const wanted = new Float32Array(WIDTH * WIDTH);
      const rows = Float64Array.from(b.subarray(i * WIDTH * RANK, (i + 1) * WIDTH * RANK), (value) => 2 * value);
      await addProduct(wanted, rows, a, RANK);
      expect(toFloat32(await wholeTensor(tensor), 'F32')).toEqual(wanted);
    }
  });

  it('may be differences', async () => {
    const path = adapter({ 'diffusion_model.blocks.0.self_attn.qkv.diff_b': stored(noise(3 * WIDTH), [3 * WIDTH]) });
    expect([...(await read(path)).differences].map(([name, { shape }]) => [name, shape])).toEqual(
      ['q', 'k', 'v'].map((letter) => [`blocks.0.self_attn.${letter}.bias`, [WIDTH]]),
    );
  });

  it('are refused where they do not divide, and where one is there already', async () => {
    await expect(read(adapter(factors('diffusion_model.blocks.0.self_attn.qkv', 7)))).rejects.toThrow(
      /style\.safetensors: "diffusion_model\.blocks\.0\.self_attn\.qkv\.lora_B\.weight" has 7 rows/,
    );
    const twice = { ...factors('blocks.0.self_attn.qkv', 3 * WIDTH), ...factors('blocks.0.self_attn.q') };
    await expect(read(adapter(twice))).rejects.toThrow('adapts blocks.0.self_attn.q.weight twice');
  });

  it('are parted in whole networks', async () => {
    const rows = noise(3 * WIDTH * WIDTH);
    const parted = unfused(new Map([['blocks.0.self_attn.qkv.weight', memoryTensor('qkv', [3 * WIDTH, WIDTH], rows)]]));
    expect([...parted.keys()]).toEqual(['q', 'k', 'v'].map((letter) => `blocks.0.self_attn.${letter}.weight`));
    const keys = parted.get('blocks.0.self_attn.k.weight') as Tensor;
    expect(toFloat32(await wholeTensor(keys), 'F32')).toEqual(rows.slice(WIDTH * WIDTH, 2 * WIDTH * WIDTH));
    const both = new Map([...parted, ['blocks.0.self_attn.to_qkv.weight', memoryTensor('qkv', [18, 6], rows)]]);
    expect(() => unfused(both)).toThrow('"blocks.0.self_attn.q.weight" twice');
  });
});

describe('names of an adapter', () => {
  it.each(['network.', 'student.', 'wan_model.', 'base_model.model._orig_mod.', 'module.'])(
    'may begin with %s',
    async (prefix) => {
      expect([...(await read(adapter(plain(prefix)))).pairs.keys()]).toEqual(MODULES.map((name) => `${name}.weight`));
    },
  );

  it('that begin with an unknown word are refused by that word', async () => {
    const base = new Map(MODULES.map((name) => [`${name}.weight`, memoryTensor(name, [6, 6], new Float32Array(36))]));
    const found = await read(adapter(plain('painter.v2.')));
    expect(() => mergeAdapters(base, [found], addProduct)).toThrow(
      /Its names begin with "painter\.v2\.", which is not known\. Save it with names like "blocks\.0\.self_attn\.q\.weight"\.$/,
    );
  });

  it.each(['my style', '水墨', 'weights_v2', 'ink-1'])('may hold the name of the adapter: %s', async (name) => {
    const named = Object.fromEntries(
      Object.entries(plain('base_model.model.')).map(([key, each]) => [key.replace(/weight$/, `${name}.weight`), each]),
    );
    const found = await read(adapter(named));
    expect([...found.pairs.keys()]).toEqual(MODULES.map((module) => `${module}.weight`));
  });

  it('of the family that they are of are told', async () => {
    const named = factors('base_model.model.transformer.blocks.0.attn1.to_q');
    expect((await read(adapter(named))).layout).toBe('names of Diffusers');
  });

  it('of its factors may be small letters', async () => {
    expect((await read(adapter(factors('blocks.0.self_attn.q', WIDTH, ['lora_a', 'lora_b'])))).pairs.size).toBe(1);
  });
});

describe('where checkpoints keep weights', () => {
  const tensor = (name: string) => memoryTensor(name, [1], Float32Array.of(1));
  const picked = (names: readonly string[], first: readonly string[] = []) => {
    const { outer, tensors, left } = pickTensors(names.map(tensor), first);
    return { outer, names: [...tensors.keys()], left: [...left.keys()] };
  };

  it.each([
    [['ema//blocks.0.x']],
    [['model_ema//blocks.0.x', 'optimizer//state//0//exp_avg']],
    [['ema.blocks.0.x', 'critic.blocks.0.x']],
    [['app//model//blocks.0.x', 'app//optim//blocks.0.x']],
    [['generator//model//model.blocks.0.x', 'critic//model//blocks.0.x']],
    [['model_state_dict//blocks.0.x']],
    [['blocks.0.x', 'model_ema.blocks.0.x']],
  ])('%j', (names) => {
    expect(picked(names).names).toEqual(['blocks.0.x']);
    expect(picked(names).left).toHaveLength(names.length === 1 ? 0 : 1);
  });

  it('prefers averaged weights where they are asked for', () => {
    expect(picked(['model//a', 'ema//b'], ['generator_ema', 'ema']).names).toEqual(['b']);
    expect(picked(['model//a', 'ema//b']).names).toEqual(['a']);
    expect(picked(['a', 'ema//b'], ['ema']).names).toEqual(['b']);
    expect(picked(['step', 'ema//b', 'ema//c', 'ema//d']).names).toEqual(['b', 'c', 'd']);
  });

  it('is told where it is not known, with what to do', () => {
    expect(() => picked(['critic//a', 'optimizer//state//b'])).toThrow(
      /keeps its weights under "critic", "optimizer\.state"; none of these is known .* Save the state dict of the network by itself/,
    );
  });

  it('lets numbers of other kinds lie beside them', async () => {
    const path = writeCheckpoint(join(root, 'a.safetensors'), {
      ...plain(),
      'blocks.9.x.lora_A.weight': { ...empty('I64', [1]), dtype: 'C64' },
    });
    await expect(read(path)).rejects.toThrow(/only half of the pair for:\n {4}blocks\.9\.x\.weight/);
    writeFileSync(path, '');
    await expect(read(path)).rejects.toThrow('The file is empty');
  });
});
