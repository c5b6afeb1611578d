/** What a file says of its adapter's strength is read, told or refused, and never dropped in silence. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { writeTorch } from '../../../scripts/torch-writer.js';
import { closeAll, findWeights } from '../../../src/import/find.js';
import { Allowance } from '../../../src/import/limits.js';
import { type Adapter, readAdapter } from '../../../src/import/lora.js';
import { Dict, Tuple } from '../../../src/import/pickle-values.js';
import { statementsOf, unusedWords } from '../../../src/import/strength.js';
import { metadataOf } from '../../../src/import/torch-metadata.js';
import { type Stored, stored, writeCheckpoint } from '../../support/checkpoint-files.js';
import { memoryTensor } from '../../support/memory-tensor.js';

const RANK = 4;
const MODULES = ['blocks.0.self_attn.q', 'blocks.1.ffn.0'];
const FACTORS = MODULES.flatMap((name) => [`${name}.lora_A.weight`, `${name}.lora_B.weight`]);
const SHAPES = [
  [RANK, 6],
  [6, RANK],
];
const numbers = () => Float32Array.from({ length: RANK * 6 }, (_, i) => i);

let root: string;
beforeEach(() => (root = mkdtempSync(join(tmpdir(), 'longlive-said-'))));
afterEach(() => rmSync(root, { recursive: true, force: true }));

interface Read {
  factors: number[];
  notes: string[];
}
const resultOf = ({ pairs, notes }: Adapter): Read => ({
  factors: [...pairs.values()].map(({ strength }) => strength.factor),
  notes,
});
const each = (value: number) => MODULES.map(() => value);
const perModule = (word: string, value: unknown) =>
  Object.fromEntries(MODULES.map((name) => [`${name}${word}`, value]));

/** As a pickle holds it; lists are tuples. */
function pickled(value: unknown): unknown {
  if (Array.isArray(value)) return new Tuple(value.map(pickled));
  if (typeof value !== 'object' || value === null) return value;
  const dict = new Dict();
  for (const [key, inner] of Object.entries(value)) dict.entries.set(key, pickled(inner));
  return dict;
}

/** Of a PyTorch file whose factors lie under `under`. */
async function ofTorch(beside: object, under = 'state_dict'): Promise<Read> {
  const metadata = metadataOf(pickled(beside), new Allowance(() => 0));
  const names = FACTORS.map((name) => (under === '' ? name : `${under}//${name}`));
  const tensors = names.map((name, i) => memoryTensor(name, SHAPES[i % 2] as number[], numbers()));
  const adapter = await readAdapter('style.pt', tensors, { weight: 1 }, statementsOf(undefined, metadata));
  return resultOf({ ...adapter, notes: [...adapter.notes, ...unusedWords(undefined, metadata, names)] });
}

async function ofFile(path: string): Promise<Read> {
  const found = await findWeights([], { hints: {}, ema: false, loras: [{ path, weight: 1 }] });
  await closeAll(found);
  return resultOf(found.adapters[0] as Adapter);
}

const tensorsOf = (): Record<string, Stored> =>
  Object.fromEntries(FACTORS.map((name, i) => [name, stored(numbers(), SHAPES[i % 2] as number[])]));

describe('beside the tensors of a PyTorch file', () => {
  it.each<[string, object, string?]>([
    ['a number for each module, among the factors', perModule('.alpha', 16), ''],
    ['the same in the dict of the factors', { state_dict: perModule('.alpha', 16) }],
    ['the same as PEFT calls it', { state_dict: perModule('.lora_alpha', [16]) }],
    ['alphas of Diffusers', { network_alphas: perModule('', 16) }],
    ['the same with their ends', { network_alphas: perModule('.alpha', 16) }],
    ['the same under lora_alpha', { lora_alpha: perModule('', 16) }],
    ['a tuple of one', { lora_alpha: [16] }],
    ['a list of one under a bare word', { alpha: [16] }, 'lora'],
    ['a tuple in a configuration', { lora_config: { r: 4, lora_alpha: [16] } }],
    ['a configuration as JSON', { lora_config: '{"r": 4, "lora_alpha": 16}' }],
    ['options of a command line', { args: '--lora_rank 4 --lora_alpha 16' }],
  ])('alpha is read: %s', async (_, beside, under) => {
    expect(await ofTorch(beside, under)).toEqual({ factors: each(4), notes: [] });
  });

  it.each<[string, object, string[]]>([
    [
      'words nobody knows',
      { lora_scale: 0.25, scaling: 4, multiplier: 2, lora_weight: [0.5], strength: '0.5' },
      [
        'strength "0.5" of its metadata is not used',
        'lora_scale beside its tensors is 0.25; it is not used',
        'scaling beside its tensors is 4; it is not used',
        'multiplier beside its tensors is 2; it is not used',
        'lora_weight beside its tensors is [0.5]; it is not used',
      ],
    ],
    ['such words at any level', { run: { a: [{ lora_scale: 0.5 }] } }, ['lora_scale of 0 of a of run beside its']],
    ['what stands under them', { scaling: { default: 0.5 } }, ['default of scaling beside its tensors is 0.5']],
    [
      'a scale for each module',
      { state_dict: perModule('.scaling', 4) },
      MODULES.map((name) => `${name}.scaling of state_dict beside its tensors is 4`),
    ],
    ['an alpha of no module', { 'blocks.9.x.alpha': 16 }, ['blocks.9.x.alpha beside its tensors is 16']],
    ['an alpha of another dict', { critic: perModule('.alpha', 16) }, MODULES.map((name) => `${name}.alpha of critic`)],
    [
      'a text that is no JSON',
      { config: 'lora:\n  rank: 4\n  alpha: 16\n' },
      ['alpha of config in its metadata is "16"'],
    ],
    ['such a text at any level', { run: { note: "{'lora_alpha': 16}" } }, ['note of run beside its tensors is "{']],
    ['a rank that may be that of a process', { rank: 0 }, ['rank beside its tensors is 0']],
    [
      'alphas for other modules',
      { network_alphas: { 'blocks.9.x': 16 } },
      ['network_alphas of its metadata has "blocks.9.x"'],
    ],
  ])('is told: %s', async (_, beside, notes) => {
    expect(await ofTorch(beside)).toEqual({
      factors: each(1),
      notes: notes.map((note) => expect.stringContaining(note) as string),
    });
  });

  it('is not refused for what another part calls so', async () => {
    const { factors, notes } = await ofTorch({ 'loss.alpha': -1, 'ema.alpha': 'cosine' });
    expect(factors).toEqual(each(1));
    expect(notes).toHaveLength(2);
  });

  it('is told in few lines, what matters most first', async () => {
    const many = Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`loss_weight_${i}`, i + 1]));
    const { notes } = await ofTorch({ ...many, lora_scale: 2 });
    expect(notes).toHaveLength(9);
    expect(notes[0]).toContain('lora_scale');
    expect(notes[8]).toBe('23 more words of strength beside its tensors are not used.');
  });

  it('is silent of what decays weights, and of what says nothing', async () => {
    const beside = { optimizer: { param_groups: [{ weight_decay: 0.01, lr: 1 }] }, lora_scale: null, use_scale: false };
    expect(await ofTorch(beside)).toEqual({ factors: each(1), notes: [] });
  });

  it.each([
    ['below 0', -1],
    ['no number', 'many'],
  ])('is refused where the alpha of a module is %s', async (_, alpha) => {
    await expect(ofTorch({ state_dict: perModule('.alpha', alpha) })).rejects.toThrow(
      /The alpha of "state_dict\/\/blocks\.0\.self_attn\.q" is .*; it should be a number above 0/,
    );
  });

  it.each([
    ['lora_alpha', 'state_dict', 4],
    ['network_alpha', 'lora', 4],
    ['alpha', 'lora', 4],
    ['lora_scale', 'state_dict', 1],
  ])('%s may be a tensor of one number', async (word, under, factor) => {
    const tensor = (name: string, { shape, bytes }: Stored) => {
      return { name, shape, type: 'F32' as const, chunks: () => [bytes] };
    };
    const path = join(root, 'style.pt');
    const factors = Object.entries(tensorsOf()).map(([name, each]) => tensor(name, each));
    // A dict of one tensor is how the writer writes it at the top, too.
    await writeTorch(path, { [under]: factors, options: [tensor(word, stored([16], []))] });
    const nested = await ofFile(path);
    const isCertain = word === 'lora_alpha' || word === 'network_alpha';
    expect(nested.factors).toEqual(each(isCertain ? 4 : 1));
    expect(nested.notes).toEqual(
      isCertain ? [] : [expect.stringContaining(`${word} of options in it is a tensor of 16`)],
    );
    await writeTorch(path, [...factors, tensor(word, stored([16], []))]);
    const flat = await ofFile(path);
    expect(flat.factors).toEqual(each(factor));
    expect(flat.notes).toEqual(factor === 4 ? [] : [expect.stringContaining(`${word} in it is a tensor of 16`)]);
  });
});

describe('in the metadata of a safetensors file', () => {
  const withMetadata = (metadata: Record<string, string>) =>
    ofFile(writeCheckpoint(join(root, 'style.safetensors'), tensorsOf(), metadata));

  it.each<[string, Record<string, string>]>([
    ['JSON that was encoded twice', { lora_config: JSON.stringify('{"r": 4, "lora_alpha": 16}') }],
    ['options of a command line', { args: '--lora-alpha=16 --steps 9' }],
    ['an alpha for each module', { network_alphas: JSON.stringify(perModule('', 16)) }],
  ])('alpha is read: %s', async (_, metadata) => {
    expect(await withMetadata(metadata)).toEqual({ factors: each(4), notes: [] });
  });

  it.each<[string, Record<string, string>, string]>([
    ['YAML', { config: 'lora:\n  rank: 4\n  alpha: 16\n' }, 'alpha of config in its metadata is "16"'],
    ['YAML of a trainer', { run: 'network:\n  linear_alpha: 16\n' }, 'linear_alpha of run in its metadata is "16"'],
    ['a rank in YAML', { config: 'rank: 4' }, 'rank of config in its metadata is "4"'],
    ['a dict of Python', { config: "{'lora_alpha': 16}" }, 'lora_alpha of config in its metadata is "16"'],
    ['JSON of a list', { config: '[{"lora_alpha": 16}]' }, 'lora_alpha of config in its metadata is "16"'],
    ['prose', { 'modelspec.usage_hint': 'use at strength 0.5' }, 'strength of modelspec.usage_hint in its metadata'],
    ['text inside of JSON', { run: '{"args": "alpha=16"}' }, 'alpha of args of run in its metadata is "16"'],
    ['an option of kohya', { args: '--network_alpha=16' }, 'network_alpha of args in its metadata is "16"'],
    ['a number of weight', { lora_weight: '0.3' }, 'lora_weight "0.3" of its metadata is not used'],
    [
      'another network in Diffusers’ JSON',
      { lora_adapter_metadata: '{"text_encoder.r": 4, "text_encoder.lora_alpha": 16}' },
      'text_encoder.lora_alpha of lora_adapter_metadata in its metadata is 16',
    ],
    [
      'the same as an object',
      { lora_adapter_metadata: '{"text_encoder": {"lora_alpha": 16}}' },
      'lora_alpha of text_encoder of lora_adapter_metadata in its metadata is 16',
    ],
    [
      'other words in it',
      { lora_adapter_metadata: '{"lora_alpha": null, "r": 4, "scale": 0.5}' },
      'scale of lora_adapter_metadata in its metadata is 0.5',
    ],
  ])('is told: %s', async (_, metadata, note) => {
    expect(await withMetadata(metadata)).toEqual({ factors: each(1), notes: [expect.stringContaining(note)] });
  });

  it('is silent of another network where the own one is there, and of words without numbers', async () => {
    const lora_adapter_metadata = '{"text_encoder.lora_alpha": 2, "transformer.lora_alpha": 16}';
    const description = 'Upscaled, with a strong alpha channel. Rank them!';
    expect(await withMetadata({ lora_adapter_metadata, description })).toEqual({ factors: each(4), notes: [] });
  });

  it('takes time in proportion to the text', async () => {
    const long = 'alpha'.repeat(400_000) + '-'.repeat(400_000);
    expect((await withMetadata({ description: long })).notes).toEqual([]);
  });

  it('is refused where the metadata is a list', async () => {
    const list = ['lora_alpha', 16] as unknown as Record<string, string>;
    await expect(withMetadata(list)).rejects.toThrow(
      /style\.safetensors: its metadata is a list.*Save the adapter again/,
    );
  });
});

describe('in adapter_config.json', () => {
  const withConfig = (config: object) => {
    writeFileSync(join(root, 'adapter_config.json'), JSON.stringify({ r: 4, lora_alpha: 8, ...config }));
    return ofFile(writeCheckpoint(join(root, 'adapter_model.safetensors'), tensorsOf()));
  };

  it.each<[object, string[]]>([
    [{ fan_in_fan_out: true }, ['fan_in_fan_out true of adapter_config.json is not used: the layers']],
    [{ layers_to_transform: [0, 1] }, ['layers_to_transform [0,1] of adapter_config.json is not used: all layers']],
    [{ scaling: { default: 0.5 } }, ['scaling {"default":0.5} of adapter_config.json is not used']],
    [{ lora_weight: 0.3 }, ['lora_weight 0.3 of adapter_config.json is not used']],
    [{ arrow_config: { top_k: 2 } }, ['arrow_config {"top_k":2} of adapter_config.json is not used']],
    [{ fan_in_fan_out: false, layers_to_transform: null, scaling: {}, init_lora_weights: true }, []],
  ])('%j is told', async (config, notes) => {
    expect(await withConfig(config)).toEqual({
      factors: each(2),
      notes: notes.map((note) => expect.stringContaining(note) as string),
    });
  });

  it.each([{ layers_to_transform: [0] }, { layers_to_transform: 1 }])(
    '%j is refused where the file adapts other layers',
    async (config) => {
      await expect(withConfig(config)).rejects.toThrow(
        /layers_to_transform of adapter_config\.json is .*, but the file adapts other layers, too \("blocks\..*Remove the setting/,
      );
    },
  );
});
