import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { readNetwork } from '../../../src/import/components.js';
import { closeAll, findWeights } from '../../../src/import/find.js';
import type { Adapter } from '../../../src/import/lora.js';
import { type AddProduct, mergeAdapters } from '../../../src/import/merge.js';
import {
  type AdapterLayout,
  ADAPTERS,
  NETWORKS,
  OTHER_ADAPTERS,
  OTHER_FILES,
  OTHER_NETWORKS,
  QUANTIZED,
} from '../../../src/import/layouts.js';
import { plainNames } from '../../../src/import/names.js';
import { writeTorch } from '../../../scripts/torch-writer.js';
import { layoutTables } from '../../../src/import/tables.js';
import type { Tensor } from '../../../src/import/tensor.js';
import { toFloat32 } from '../../../src/import/convert.js';
import { countOf, empty, type Stored, stored, writeCheckpoint } from '../../support/checkpoint-files.js';
import { memoryTensor } from '../../support/memory-tensor.js';
import { randomOf } from '../../support/fake-service.js';

vi.setConfig({ testTimeout: 60_000 });

const WIDTH = 6;
const RANK = 4;
const MODULES = ['blocks.0.self_attn.q', 'blocks.0.cross_attn.o', 'blocks.1.self_attn.k', 'blocks.11.ffn.0'];
const DIFFUSERS: Record<string, string> = {
  'blocks.0.self_attn.q': 'blocks.0.attn1.to_q',
  'blocks.0.cross_attn.o': 'blocks.0.attn2.to_out.0',
  'blocks.1.self_attn.k': 'blocks.1.attn1.to_k',
  'blocks.11.ffn.0': 'blocks.11.ffn.net.0.proj',
};

let root: string;
let random: () => number;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'longlive-layouts-'));
  random = randomOf(7);
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const noise = (shape: readonly number[]) => Float32Array.from({ length: countOf(shape) }, () => random() - 0.5);

interface Factors {
  a: Float32Array;
  b: Float32Array;
  rank: number;
}

/** B A of each module in double. */
function product({ a, b, rank }: Factors): Float64Array {
  const [rows, columns] = [b.length / rank, a.length / rank];
  return Float64Array.from({ length: rows * columns }, (_, at) => {
    const [row, column] = [Math.floor(at / columns), at % columns];
    let sum = 0;
    for (let r = 0; r < rank; r++) sum += (b[row * rank + r] as number) * (a[r * columns + column] as number);
    return sum;
  });
}

const addProduct: AddProduct = async (values, b, a, rank) => {
  const columns = a.length / rank;
  for (let i = 0; i < values.length; i++) {
    let sum = 0;
    for (let r = 0; r < rank; r++)
      sum += (b[Math.floor(i / columns) * rank + r] as number) * (a[r * columns + (i % columns)] as number);
    values[i] = (values[i] as number) + sum;
  }
};

async function read(path: string, options: { weight?: number; alpha?: number } = {}): Promise<Adapter> {
  const loras = [{ path, weight: 1, ...options }];
  const found = await findWeights([], { hints: {}, ema: false, loras });
  const [adapter] = found.adapters as [Adapter];
  await closeAll({ sources: [] });
  opened.push(found);
  return adapter;
}
const opened: Awaited<ReturnType<typeof findWeights>>[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map(closeAll));
});

/** By how much of B A each module changes weights that are zero. */
async function strengths(adapter: Adapter, factors: ReadonlyMap<string, Factors>): Promise<Record<string, number>> {
  const base = new Map<string, Tensor>();
  for (const [module, { a, b, rank }] of factors) {
    const shape = [b.length / rank, a.length / rank];
    base.set(`${module}.weight`, memoryTensor(module, shape, new Float32Array(countOf(shape))));
  }
  const found: Record<string, number> = {};
  const merged = mergeAdapters(base, [adapter], addProduct);
  for (const [module, own] of factors) {
    const tensor = merged.get(`${module}.weight`) as Tensor;
    const values = toFloat32(await tensor.read(0, countOf(tensor.shape)), tensor.dtype);
    const wanted = product(own);
    const dot = wanted.reduce((sum, value, i) => sum + value * (values[i] as number), 0);
    const scale = dot / wanted.reduce((sum, value) => sum + value * value, 0);
    const furthest = wanted.reduce(
      (most, value, i) => Math.max(most, Math.abs((values[i] as number) - scale * value)),
      0,
    );
    expect(furthest).toBeLessThan(1e-6 * Math.max(1, Math.abs(scale)));
    found[module] = Number(scale.toPrecision(6));
  }
  return found;
}

const factorsFor = (modules: readonly string[], rank = RANK, width = WIDTH) =>
  new Map(modules.map((module) => [module, { a: noise([rank, width]), b: noise([width, rank]), rank }]));

const all = (modules: readonly string[], factor: number) =>
  Object.fromEntries(modules.map((module) => [module, factor]));

function named(template: string, module: string): string {
  const places: Record<string, string> = {
    module,
    flat: module.replaceAll('.', '_'),
    half: module.replace('blocks.', 'blocks_'),
    parent: module.replace(/\.to_(?:[qkv]|out\.0)$/, ''),
    leaf: /to_(?:[qkv]|out)/.exec(module)?.[0] ?? '',
  };
  return template.replace(/\{(\w+)\}/g, (_, key: string) => places[key] ?? '');
}

function tensorsOf(
  layout: AdapterLayout,
  factors: ReadonlyMap<string, Factors>,
  alpha?: number,
): Record<string, Stored> {
  const tensors: Record<string, Stored> = {};
  for (const [module, { a, b, rank }] of factors) {
    const name = layout.modules === 'Diffusers' ? (DIFFUSERS[module] as string) : module;
    tensors[named(layout.a, name)] = stored(a, [rank, a.length / rank]);
    tensors[named(layout.b, name)] = stored(b, [b.length / rank, rank]);
    if (layout.alpha !== undefined && alpha !== undefined) tensors[named(layout.alpha, name)] = stored([alpha], []);
  }
  return tensors;
}

const escaped = (text: string) => text.replace(/[.*+?^$()|[\]\\]/g, '\\$&');
const layoutOf = (title: string) => ADAPTERS.find((layout) => layout.title === title) as AdapterLayout;

describe('every layout of adapters in the table', () => {
  it.each(ADAPTERS.map((layout) => [layout.title, layout] as const))(
    '%s is merged at its strength',
    async (_, layout) => {
      const modules = layout.a.includes('{leaf}') ? MODULES.slice(0, 3) : MODULES;
      const factors = factorsFor(modules);
      const path = writeCheckpoint(join(root, 'l.safetensors'), tensorsOf(layout, factors, 2));
      const adapter = await read(path);
      expect(adapter.layout).toBe(layout.title);
      expect(await strengths(adapter, factors)).toEqual(all(modules, layout.alpha === undefined ? 1 : 2 / RANK));
      expect(await strengths(await read(path, { weight: -0.5 }), factors)).toEqual(
        all(modules, -0.5 * (layout.alpha === undefined ? 1 : 2 / RANK)),
      );
    },
  );

  it.each(OTHER_ADAPTERS.map((kind) => [kind.title, kind.example] as const))(
    '%s is refused by its name',
    async (title, example) => {
      const tensors = { ...tensorsOf(layoutOf('PEFT'), factorsFor(MODULES)), [example]: stored([1], [1]) };
      const path = writeCheckpoint(join(root, 'other.safetensors'), tensors);
      await expect(read(path)).rejects.toThrow(
        new RegExp(`is an? ${escaped(title)} \\("${escaped(example)}"\\), which cannot be merged\\. Merge it`),
      );
      const alone = writeCheckpoint(join(root, 'alone.safetensors'), { [example]: stored([1], [1]) });
      await expect(findWeights([alone], { hints: {}, ema: false, loras: [] })).rejects.toThrow(title);
    },
  );

  it.each(OTHER_NETWORKS.map((kind) => [kind.title, kind.example] as const))(
    'one for %s is refused',
    async (title, example) => {
      const path = writeCheckpoint(join(root, 'other.safetensors'), { [example]: stored([1], [1, 1]) });
      await expect(read(path)).rejects.toThrow(`${path} adapts ${title} ("${example}"`);
    },
  );
});

describe('the strength of an adapter', () => {
  const peft = () => tensorsOf(layoutOf('PEFT'), factors);
  const comfy = () => tensorsOf(layoutOf('ComfyUI'), factors);
  const kohya = () => tensorsOf(layoutOf('kohya'), factors);
  let factors: ReadonlyMap<string, Factors>;
  beforeEach(() => (factors = factorsFor(MODULES)));
  const write = (tensors: Record<string, Stored>, metadata?: Record<string, string>) =>
    writeCheckpoint(join(root, 'adapter_model.safetensors'), tensors, metadata);
  const config = (json: object | string | Buffer) =>
    writeFileSync(
      join(root, 'adapter_config.json'),
      typeof json === 'object' && !Buffer.isBuffer(json) ? JSON.stringify(json) : json,
    );
  const merged = async (options = {}) =>
    strengths(await read(join(root, 'adapter_model.safetensors'), options), factors);
  const one = async (options = {}) => {
    const found = new Set(Object.values(await merged(options)));
    expect(found.size).toBe(1);
    return [...found][0];
  };

  it.each([
    ['lora_adapter_metadata', { lora_adapter_metadata: '{"transformer.r": 4, "transformer.lora_alpha": 16}' }, 4],
    ['the same without a prefix', { lora_adapter_metadata: '{"r": 4, "lora_alpha": 16}' }, 4],
    [
      'rslora there',
      { lora_adapter_metadata: '{"transformer.r": 4, "transformer.lora_alpha": 16, "transformer.use_rslora": true}' },
      8,
    ],
    ['an object for each network', { lora_adapter_metadata: '{"transformer": {"r": 4, "lora_alpha": 16}}' }, 4],
    [
      'the same beside what another network says',
      { lora_adapter_metadata: '{"text_encoder": {"lora_alpha": 2}, "transformer": {"lora_alpha": 16}}' },
      4,
    ],
    ['plain keys', { lora_alpha: '16', r: '4' }, 4],
    ['plain keys with other words', { alpha: '16.0', rank: '4' }, 4],
    ['rslora in plain keys', { lora_alpha: '16', use_rslora: 'True' }, 8],
    ['a configuration under another key', { peft_config: '{"lora_alpha": 8, "r": 4}' }, 2],
    ['a pattern in plain keys', { lora_alpha: '16', alpha_pattern: '{"q|o|k|ffn.0": 4}' }, 1],
    ['nothing', { format: 'pt', lora_alpha: 'None' }, 1],
  ])('stands in %s of its metadata', async (_, metadata, factor) => {
    write(comfy(), metadata);
    expect(await one()).toBe(factor);
    expect(await one({ alpha: 2 })).toBe(factor === 1 && 'format' in metadata ? 0.5 : factor);
  });

  it.each([
    ['no JSON', '{"r": 4,', /lora_adapter_metadata in its metadata is not a JSON object; save/],
    ['a network that is not known', '{"decoder_2.lora_alpha": 16}', /says lora_alpha for "decoder_2\.lora_alpha"/],
    ['an object of one', '{"decoder_2": {"lora_alpha": 16}}', /says lora_alpha for "decoder_2", which is not known/],
  ])('is not guessed when lora_adapter_metadata has %s', async (_, lora_adapter_metadata, message) => {
    write(comfy(), { lora_adapter_metadata });
    await expect(merged()).rejects.toThrow(message);
  });

  it.each([
    ['lora_alpha', { r: 4, lora_alpha: 8 }, 2],
    ['lora_alpha as text', { r: '4', lora_alpha: '8' }, 2],
    ['use_rslora', { r: 4, lora_alpha: 8, use_rslora: true }, 4],
    ['no alpha', { r: 4 }, 1],
  ])('stands in adapter_config.json: %s', async (_, json, factor) => {
    write(peft());
    config(json);
    expect(await one()).toBe(factor);
  });

  it.each([
    ['names of modules', { 'blocks.0.self_attn.q': 32, 'blocks.11.ffn.0': 16 }],
    ['the end of names', { 'self_attn.q': 32, 'ffn.0': 16 }],
    ['regular expressions', { '^blocks\\.0\\.self_attn\\.(q|v)$': 32, '.*\\.ffn\\.[0-9]+': 16 }],
    ['classes of characters', { 'blocks\\.[0-4]\\.self_attn\\.[qv]': 32, 'blocks\\.([0-9]|1[0-4])\\.ffn\\.\\w': 16 }],
    ['counts and groups', { '(?:blocks)\\.\\d{1,2}\\.self_attn\\.\\bq': 32, '(blocks\\.11\\.)+ffn.0': 16 }],
  ])('may differ by %s', async (_, alpha_pattern) => {
    write(peft());
    config({ r: 4, lora_alpha: 8, alpha_pattern });
    expect(await merged()).toEqual({ ...all(MODULES, 2), 'blocks.0.self_attn.q': 8, 'blocks.11.ffn.0': 4 });
  });

  it('goes by the rank that each module has, which a pattern may say', async () => {
    const wide = factorsFor(['blocks.1.self_attn.k'], 8);
    factors = new Map([...factors, ...wide]);
    write(peft());
    config({ r: 4, lora_alpha: 8, rank_pattern: { 'blocks.1.self_attn.k': 8 } });
    expect(await merged()).toEqual({ ...all(MODULES, 2), 'blocks.1.self_attn.k': 1 });
    config({ r: 4, lora_alpha: 8, use_rslora: true, rank_pattern: { 'blocks.1.self_attn.k': 8 } });
    expect((await merged())['blocks.1.self_attn.k']).toBeCloseTo(8 / Math.sqrt(8), 5);
    config({ r: 4, lora_alpha: 8 });
    await expect(merged()).rejects.toThrow('"blocks.1.self_attn.k" has rank 8, but adapter_config.json says 4.');
  });

  it('is read from metadata in decimal digits, and from nothing else that JavaScript takes for a number', async () => {
    for (const [alpha, scale] of [
      ['16', 4],
      ['16.', 4],
      ['1.6e1', 4],
      [' 8.0 ', 2],
    ] as const) {
      write(peft(), { lora_alpha: alpha, r: '4' });
      expect(await one()).toBe(scale);
    }
    for (const alpha of ['0x10', '0b1', '1_6', '1e400']) {
      write(peft(), { lora_alpha: alpha, r: '4' });
      await expect(one()).rejects.toThrow(`is "${alpha}"; it should be a number above 0`);
    }
  });

  it('is first that of alpha tensors, then of the file beside, then of metadata, then of the flag', async () => {
    const alphas = Object.fromEntries(MODULES.map((module) => [`base_model.model.${module}.alpha`, stored([2], [1])]));
    write({ ...peft(), ...alphas }, { lora_alpha: '64' });
    config({ r: 4, lora_alpha: 8 });
    expect(await one({ alpha: 1 })).toBe(0.5);
    write(peft(), { lora_alpha: '64' });
    expect(await one({ alpha: 1 })).toBe(2);
    const { notes } = await read(join(root, 'adapter_model.safetensors'), { alpha: 1 });
    expect(notes.join()).toMatch(
      /alpha 64 of its metadata is not used: adapter_config\.json takes precedence.*--lora-alpha is not used/,
    );
    rmSync(join(root, 'adapter_config.json'));
    expect(await one({ alpha: 1 })).toBe(16);
    write(peft());
    expect(await one({ alpha: 1 })).toBe(0.25);
  });

  it('goes by the flag where only rslora is said', async () => {
    write(peft());
    config({ r: 4, use_rslora: true });
    expect(await one({ alpha: 8 })).toBe(4);
  });

  it('takes no longer for patterns that make others try again and again', async () => {
    const [long] = ['blocks.0.' + 'a'.repeat(60)];
    factors = factorsFor([long]);
    write(peft());
    config({ r: 4, lora_alpha: 8, alpha_pattern: { ['(a|aa)'.repeat(40) + 'b']: 32 } });
    const adapter = await read(join(root, 'adapter_model.safetensors'));
    expect([...adapter.pairs.values()].map(({ strength }) => strength.factor)).toEqual([2]);
  });

  it.each<[string, object | undefined, Record<string, string> | undefined, RegExp]>([
    ['a pattern that fits nothing', { r: 4, alpha_pattern: { 'attn9.q': 32 } }, undefined, /"attn9\.q", which fits no/],
    [
      'a rank for nothing',
      { r: 4, rank_pattern: { 'attn9.q': 32 } },
      undefined,
      /rank_pattern of .*"attn9\.q", which fit/,
    ],
    [
      'words nobody knows',
      { r: 4, scaling_factor: 3 },
      undefined,
      /^scaling_factor 3 of adapter_config\.json is not used/,
    ],
    ['such words in metadata', undefined, { lora_scale: '2' }, /^lora_scale "2" of its metadata is not used/],
    [
      'layers that it lacks',
      { r: 4, modules_to_save: ['head'] },
      undefined,
      /names \["head"\], which the file does not/,
    ],
    [
      'biases that it lacks',
      { r: 4, bias: 'all' },
      undefined,
      /bias of adapter_config\.json is "all", but the file holds/,
    ],
  ])('notes %s', async (_, json, metadata, note) => {
    write(peft(), metadata);
    if (json) config(json);
    const { notes } = await read(join(root, 'adapter_model.safetensors'));
    expect(notes).toEqual([expect.stringMatching(note)]);
  });

  it('notes nothing of what PEFT and trainers always write', async () => {
    write(peft(), { format: 'pt', ss_scale_weight_norms: '1.0', software: '{"name": "ai-toolkit"}' });
    config({
      ...{ r: 4, lora_alpha: 8, lora_dropout: 0, use_dora: false, use_rslora: false, bias: 'none', rank_pattern: {} },
      ...{ alpha_pattern: {}, modules_to_save: null, init_lora_weights: true, peft_type: 'LORA', lora_bias: false },
    });
    expect((await read(join(root, 'adapter_model.safetensors'))).notes).toEqual([]);
  });

  it('notes a rank of kohya that is not that of the factors', async () => {
    write(kohya(), { ss_network_alpha: '2', ss_network_dim: '32' });
    const { notes } = await read(join(root, 'adapter_model.safetensors'));
    expect(notes).toEqual(['ss_network_dim 32 in its metadata is not used: the factors have rank 4.']);
  });

  it("is kohya's network alpha for kohya's names only, for converters multiply it in", async () => {
    const metadata = { ss_network_alpha: '2', ss_network_dim: '4' };
    write(kohya(), metadata);
    expect(await one()).toBe(0.5);
    write(comfy(), metadata);
    expect(await one()).toBe(1);
    const { notes } = await read(join(root, 'adapter_model.safetensors'));
    expect(notes.join()).toContain('ss_network_alpha in its metadata is not used');
    write(kohya(), { ss_network_alpha: 'None', ss_network_dim: 'Dynamic' });
    expect(await one()).toBe(1);
  });

  it('reads alpha tensors of whole numbers, and takes zero for the rank as their trainers do', async () => {
    const alpha = (dtype: string, bytes: Uint8Array) =>
      Object.fromEntries(
        MODULES.map((module) => [`lora_unet_${module.replaceAll('.', '_')}.alpha`, { dtype, shape: [], bytes }]),
      );
    write({ ...kohya(), ...alpha('I64', new Uint8Array(BigInt64Array.of(2n).buffer)) });
    expect(await one()).toBe(0.5);
    write({ ...kohya(), ...alpha('F32', new Uint8Array(4)) }, { ss_network_alpha: '0' });
    expect(await one()).toBe(1);
    const zero = await read(join(root, 'adapter_model.safetensors'));
    expect([...zero.pairs.values()][0]?.strength.where).toBe('its rank, for its alpha tensors are 0');
    write({ ...kohya(), ...alpha('F32', new Uint8Array(Float32Array.of(NaN).buffer)) });
    await expect(one()).rejects.toThrow(/_q\.alpha" is NaN; it should be a number above 0/);
  });

  it('does not depend on how the file beside is encoded', async () => {
    const json = '{\r\n "r": 4,\r\n "lora_alpha": 8\r\n}';
    write(peft());
    for (const bytes of [
      Buffer.from(`\ufeff${json}`),
      Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from(json, 'utf16le')]),
      Buffer.concat([Buffer.from([0xfe, 0xff]), Buffer.from(json, 'utf16le').swap16()]),
    ]) {
      config(bytes);
      expect(await one()).toBe(2);
    }
  });

  it.each([
    ['no JSON', '{"lora_alpha": 8,', /adapter_config\.json cannot be read: .*JSON/],
    ['no object', '[8]', /adapter_config\.json cannot be read: it is not a JSON object/],
    ['no number', '{"lora_alpha": "eight"}', /lora_alpha of adapter_config\.json is "eight"; it should be a number/],
    ['a strange flag', '{"lora_alpha": 8, "use_rslora": "perhaps"}', /use_rslora of adapter_config\.json is "perhaps"/],
    [
      'a pattern that only engines that try again can read',
      '{"alpha_pattern": {"(?!x)q": 8}}',
      /alpha_pattern of adapter_config\.json has the pattern "\(\?!x\)q", which cannot be read\. Use names/,
    ],
    ['a pattern without end', JSON.stringify({ alpha_pattern: { ['q'.repeat(300)]: 8 } }), /pattern of 300 characters/],
    ['rslora without alpha', '{"r": 4, "use_rslora": true}', /use_rslora but not lora_alpha.*--lora-alpha NUMBER/],
    ['QA-LoRA', '{"lora_alpha": 8, "use_qalora": true}', /use_qalora; only plain LoRA/],
    ['an adapter that acts from words on', '{"alora_invocation_tokens": [1, 2]}', /from certain words on \(aLoRA\)/],
    ['DoRA', '{"lora_alpha": 8, "use_dora": true}', /use_dora; only plain LoRA/],
    ['another kind', '{"peft_type": "LOKR"}', /"LOKR" adapter; only LORA/],
    ['other base weights', '{"init_lora_weights": "pissa_niter_4"}', /began from other weights.*path_initial_model/],
  ])('is not guessed when adapter_config.json has %s', async (_, text, message) => {
    write(peft());
    config(text);
    await expect(merged()).rejects.toThrow(message);
    await expect(merged()).rejects.toThrow(join(root, 'adapter_model.safetensors'));
  });

  it('is not guessed when adapter_config.json is a folder, and is read whatever its capitals', async () => {
    write(peft());
    mkdirSync(join(root, 'adapter_config.json'));
    await expect(merged()).rejects.toThrow(/adapter_config\.json cannot be read: it is not a file/);
    rmSync(join(root, 'adapter_config.json'), { recursive: true });
    writeFileSync(join(root, 'ADAPTER_CONFIG.JSON'), '{"r": 4, "lora_alpha": 8}');
    expect(await one()).toBe(2);
  });

  it('is not guessed when adapter_config.json is a link to nothing, as in a download that was cut short', async () => {
    write(peft());
    symlinkSync(join(root, 'blobs', 'gone'), join(root, 'adapter_config.json'));
    await expect(merged()).rejects.toThrow(
      /adapter_config\.json cannot be read: it is a link to a file that is not there/,
    );
  });

  it('is read where other fields have numbers that only Python writes', async () => {
    write(peft());
    config('{"r": 4, "lora_alpha": 8, "eva_config": {"rho": NaN, "tau": -Infinity}, "note": "NaN \\" Infinity"}');
    expect(await one()).toBe(2);
    config('{"r": 4, "lora_alpha": NaN}');
    await expect(merged()).rejects.toThrow(/lora_alpha of adapter_config\.json is "NaN"; it should be a number/);
  });

  it.each([
    ['', { lora_alpha: 16, rank: 0, step: 9 }, 4],
    [' of kohya', { network_alpha: 8, network_dim: 4 }, 2],
    [' as a whole configuration', { config: { r: 4, lora_alpha: 32, alpha_pattern: { 'q|o|k|ffn.0': 4 } } }, 1],
    [', where a run says other things with such words', { rank: 0, alpha: 0, r: -1 }, 1],
  ])('stands beside the tensors of a PyTorch checkpoint%s', async (_, beside, factor) => {
    const weights = Object.entries(comfy()).map(([name, { shape, bytes }]) => {
      return { name, shape, type: 'F32' as const, chunks: () => [bytes] };
    });
    const path = join(root, 'style.pt');
    await writeTorch(path, { ...beside, state_dict: weights });
    expect(await strengths(await read(path), factors)).toEqual(all(MODULES, factor));
  });

  it('of a file that only lies beside an adapter of PEFT is its own', async () => {
    write(peft());
    config({ r: 4, lora_alpha: 8 });
    const other = writeCheckpoint(join(root, 'style.safetensors'), comfy());
    expect(await strengths(await read(other), factors)).toEqual(all(MODULES, 1));
  });

  it('is found by the folder of the adapter', async () => {
    write(peft());
    config({ r: 4, lora_alpha: 8 });
    expect(await strengths(await read(root), factors)).toEqual(all(MODULES, 2));
    mkdirSync(join(root, 'empty'));
    await expect(read(join(root, 'empty'))).rejects.toThrow(`${join(root, 'empty')} has no adapter`);
    mkdirSync(join(root, 'two'));
    for (const name of ['a', 'b']) writeCheckpoint(join(root, 'two', `${name}.safetensors`), comfy());
    await expect(read(join(root, 'two'))).rejects.toThrow('several adapters (a.safetensors, b.safetensors)');
  });

  it.each(['diff', 'diff_b', 'w_norm', 'b_norm'])('refuses %s of one tensor twice', async (part) => {
    const [one, other] = [`blocks.0.norm3.${part}`, `diffusion_model.blocks.0.norm3.${part}`];
    const path = write({ [one]: stored(noise([WIDTH]), [WIDTH]), [other]: stored(noise([WIDTH]), [WIDTH]) });
    await expect(read(path)).rejects.toThrow(
      /adapts blocks\.0\.norm3\.(?:weight|bias) twice.*Save each adapter in a file/,
    );
  });

  it('holds for differences of norms in names of LyCORIS', async () => {
    const norms = { lycoris_blocks_0_self_attn_norm_q: 'w_norm', lycoris_blocks_0_norm3: 'b_norm' };
    const tensors = Object.entries(norms).map(([name, part]) => [`${name}.${part}`, stored(noise([WIDTH]), [WIDTH])]);
    const { differences } = await read(write(Object.fromEntries(tensors) as Record<string, Stored>));
    expect([...differences.keys()]).toEqual(['blocks.0.self_attn.norm_q.weight', 'blocks.0.norm3.bias']);
  });

  it('holds for differences, which are added as they are', async () => {
    const difference = noise([WIDTH]);
    const path = write({ ...comfy(), 'diffusion_model.blocks.0.self_attn.q.diff_b': stored(difference, [WIDTH]) });
    const base = new Map<string, Tensor>(
      MODULES.map((m) => [`${m}.weight`, memoryTensor(m, [WIDTH, WIDTH], new Float32Array(WIDTH * WIDTH))]),
    );
    base.set(
      'blocks.0.self_attn.q.bias',
      memoryTensor(
        'bias',
        [WIDTH],
        Float32Array.from({ length: WIDTH }, () => 1),
      ),
    );
    const tensor = mergeAdapters(base, [await read(path, { weight: 0.5 })], addProduct).get(
      'blocks.0.self_attn.q.bias',
    ) as Tensor;
    expect([...toFloat32(await tensor.read(0, WIDTH), tensor.dtype)]).toEqual([
      ...difference.map((value) => 1 + 0.5 * value),
    ]);
  });
});

describe('adapters that people have reported', () => {
  const cases = fileURLToPath(new URL('fixtures/adapters', import.meta.url));
  const EXPECTED: Record<string, number | [number, number] | RegExp> = {
    diffsynth_pipe_dit: 1,
    kohya_dotted: 0.5,
    kohya_double_underscore: 0.5,
    lora_diffusers_metadata_alpha: 4,
    lora_f8: /l\.safetensors has factors of an unsupported type.*\n {4}blocks\.0\.self_attn\.k\.lora_A\.weight F8_E4M3/,
    lora_plain_metadata_alpha: 4,
    peft_alpha_flag_vs_config: 2,
    peft_alpha_pattern: [2, 8],
    peft_config_bom: 2,
    peft_config_broken: /adapter_model\.safetensors: .*adapter_config\.json cannot be read/,
    peft_folder: 2,
  };

  it('are all tried', () => expect(readdirSync(cases).sort()).toEqual(Object.keys(EXPECTED).sort()));

  it.each(Object.entries(EXPECTED))('%s', async (name, expected) => {
    const header = JSON.parse(readFileSync(join(cases, name, 'header.json'), 'utf8')) as {
      metadata?: Record<string, string>;
      tensors: Record<string, [string, number[]]>;
    };
    const factors = new Map<string, Factors>();
    const tensors: Record<string, Stored> = {};
    for (const [tensor, [dtype, shape]] of Object.entries(header.tensors)) {
      const [, block, part] = /blocks[._](\d)[._].*?[._](?:to_)?([qk])\./.exec(tensor) as unknown as [
        string,
        string,
        string,
      ];
      const module = `blocks.${block}.self_attn.${part}`;
      const values = tensor.endsWith('alpha') ? Float32Array.of(2) : noise(shape);
      tensors[tensor] = dtype === 'F32' ? stored(values, shape) : empty(dtype, shape);
      const before = factors.get(module) ?? { a: values, b: values, rank: 4 };
      const which = /lora_(?:A|down)/.test(tensor) ? 'a' : /lora_(?:B|up)/.test(tensor) ? 'b' : undefined;
      if (which) factors.set(module, { ...before, [which]: values });
    }
    const beside = join(cases, name, 'adapter_config.json');
    const peft = existsSync(beside);
    if (peft) copyFileSync(beside, join(root, 'adapter_config.json'));
    const path = writeCheckpoint(
      join(root, peft ? 'adapter_model.safetensors' : 'l.safetensors'),
      tensors,
      header.metadata,
    );
    const reading = read(name === 'peft_folder' ? root : path, name.includes('flag') ? { alpha: 4 } : {});
    if (expected instanceof RegExp) return expect(reading).rejects.toThrow(expected);
    const [first, second] = Array.isArray(expected) ? expected : [expected, expected];
    const wanted = [...factors.keys()].map((module) => [module, module.startsWith('blocks.0') ? first : second]);
    return expect(await strengths(await reading, factors)).toEqual(Object.fromEntries(wanted));
  });
});

interface Listed {
  name: string;
  shape: number[];
}
const manifest = JSON.parse(
  readFileSync(fileURLToPath(new URL('../../golden/manifest_1.3b.json', import.meta.url)), 'utf8'),
) as Record<string, Listed[]>;
const OF = { dit: 'generator', textEncoder: 'umt5', vae: 'vae', tinyVae: 'taehv' } as const;
const released = (network: keyof typeof OF, prefix = '') =>
  (manifest[OF[network]] as Listed[]).map(({ name, shape }): Tensor => ({
    name: `${prefix}${name}`,
    dtype: 'F32',
    shape,
    read: async () => new Uint8Array(),
  }));

describe('every layout of networks in the table', () => {
  const prefixed = NETWORKS.filter(({ prefix }) => prefix !== undefined);
  it.each(prefixed.map((layout) => [layout.network, layout.title, layout.prefix as string] as const))(
    '%s: %s',
    (network, _title, prefix) => {
      const read = readNetwork(network, plainNames(released(network, prefix)));
      expect(read.tensors.size).toBe(readNetwork(network, plainNames(released(network))).tensors.size);
    },
  );

  // That those are read whole is tried in networks.test.ts.
  it('has an example of every other', () => {
    const others = NETWORKS.filter(({ prefix }) => prefix === undefined).map(({ example }) => example);
    expect(others).toHaveLength(3);
    expect(others.join()).toMatch(/attn1\.to_q.*SelfAttention.*mid_block/);
  });

  it.each(QUANTIZED.map((kind) => [kind.title, kind] as const))(
    '%s is named in one line',
    (title, { example, read }) => {
      const tensors = plainNames([
        ...released('dit'),
        { name: example, dtype: 'F32', shape: [], read: async () => new Uint8Array(4) },
      ]);
      const message = messageOf(() => readNetwork('dit', tensors));
      expect(message).toContain(title);
      expect(message.split('\n')).toHaveLength(1);
      expect(message.includes('--dequantize')).toBe(read);
    },
  );

  it('names weights that were only cast to fp8', () => {
    const tensors = plainNames(
      released('dit').map((t) => (t.shape.length === 2 ? { ...t, dtype: 'F8_E4M3' as const } : t)),
    );
    expect(messageOf(() => readNetwork('dit', tensors))).toMatch(/plain fp8.*--dequantize/);
    expect(readNetwork('dit', tensors, { dequantize: true }).tensors.get('blocks.0.ffn.0.weight')?.dtype).toBe('F32');
  });
});

function messageOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return (error as Error).message;
  }
  return '';
}

describe('every other kind of file in the table', () => {
  const EXAMPLES = [
    'x.distcp',
    'x.gguf',
    'x.onnx',
    'x.engine',
    'x.h5',
    'x.npz',
    'x.pt.part1',
    'x.pt.crdownload',
    'x.tar',
  ];
  it.each(EXAMPLES)('%s is named with the way out', async (name) => {
    const path = join(root, name);
    writeFileSync(path, 'x');
    const kind = OTHER_FILES.find((other) => other.name.test(name));
    const look = (source: string) => findWeights([source], { hints: {}, ema: false, loras: [] });
    await expect(look(path)).rejects.toThrow(
      `${path} is ${kind?.title}; ${kind?.advice.replace('FOLDER', dirname(path))}.`,
    );
    if (name.endsWith('distcp')) await expect(look(root)).rejects.toThrow(/dcp_to_torch .* model\.pt/);
    else
      expect((await look(root)).left).toEqual([{ path, what: expect.stringContaining(kind?.advice ?? '?') as string }]);
  });
  it('has an example here', () => {
    expect(EXAMPLES.map((name) => OTHER_FILES.findIndex((other) => other.name.test(basename(name))))).toEqual(
      OTHER_FILES.map((_, i) => i),
    );
  });
  it.each(['x.safetensors.part1of3', 'x.safetensors.001', 'x.bin.aa', 'x.pth.part-02'])('%s is part of one', (name) => {
    expect(OTHER_FILES.find((other) => other.name.test(name))?.title).toBe('a part of a split file');
  });
});

it('docs/models.md shows the table', () => {
  const docs = readFileSync(fileURLToPath(new URL('../../../docs/models.md', import.meta.url)), 'utf8');
  expect(docs).toContain(layoutTables());
});
