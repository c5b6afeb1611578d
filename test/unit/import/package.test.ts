import { execFileSync, spawn } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { damages, readPackage } from '../../../src/packages/package.js';
import { Tokenizer } from '../../../src/engine/tokenizer.js';
import { memoryBytes } from '../../../src/import/bytes.js';
import { convert, toFloat32 } from '../../../src/import/convert.js';
import { importModel, type ImportOptions } from '../../../src/import/index.js';
import { type Adapter, readAdapter } from '../../../src/import/lora.js';
import { type AddProduct, mergeAdapters } from '../../../src/import/merge.js';
import { pickTensors, plainNames } from '../../../src/import/names.js';
import { dequantized } from '../../../src/import/quantize.js';
import { convertSentencePiece } from '../../../src/import/sentencepiece.js';
import { readTensors } from '../../../src/import/source.js';
import { type Tensor, wholeTensor } from '../../../src/import/tensor.js';
import { writeSmallNetworks } from '../../support/small-networks.js';

vi.setConfig({ testTimeout: 120_000 });

const golden = (name: string) => fileURLToPath(new URL(`../../golden/${name}`, import.meta.url));
const checkpoint = (name: string) => golden(`checkpoints/${name}`);
const tokenizer = fileURLToPath(new URL('../engine/fixtures/tokenizer.json', import.meta.url));
const sentencePiece = fileURLToPath(new URL('../engine/fixtures/umt5_like.model', import.meta.url));
const tensorsOf = (path: string) => readTensors(memoryBytes(readFileSync(path)));
const floats = async (tensor: Tensor) => toFloat32(await wholeTensor(tensor), tensor.dtype);

let root: string;
beforeEach(() => (root = mkdtempSync(join(tmpdir(), 'longlive-import-'))));
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** The product as anybody would write it. */
const addProduct: AddProduct = async (values, b, a, rank) => {
  const columns = a.length / rank;
  for (let i = 0; i < values.length; i++) {
    const [row, column] = [Math.floor(i / columns), i % columns];
    let sum = 0;
    for (let r = 0; r < rank; r++) sum += (b[row * rank + r] as number) * (a[r * columns + column] as number);
    values[i] = (values[i] as number) + sum;
  }
};
const merge = (base: ReadonlyMap<string, Tensor>, adapters: readonly Adapter[]) =>
  mergeAdapters(base, adapters, addProduct);

/** How far apart, against the largest value there should be. */
function difference(found: Float32Array, expected: Float32Array): number {
  expect(found.length).toBe(expected.length);
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return found.reduce((most, value, i) => Math.max(most, Math.abs(value - (expected[i] as number))), 0) / largest;
}

it('a checkpoint without tensors is said to be that', () => {
  expect(() => pickTensors([])).toThrow('The file has no tensors; save or download it again.');
});

describe('merging adapters', () => {
  const base = async () => pickTensors(await tensorsOf(checkpoint('base_fp32_extra.pt'))).tensors;
  const lora = async (name: string, options = { weight: 1, alpha: 8 }) =>
    readAdapter(name, await tensorsOf(checkpoint(name)), options);
  const expected = async () => plainNames(await tensorsOf(checkpoint('merged_fp32.safetensors')));

  it.each(['lora_fp32.pt', 'lora_raw_fp32.pt'])(
    '%s gives the reference weights, and leaves the others',
    async (name) => {
      const before = await base();
      const merged = merge(before, [await lora(name)]);
      const reference = await expected();
      expect(reference.size).toBe(20);
      for (const [weight, tensor] of merged) {
        const wanted = reference.get(weight);
        if (wanted) expect(difference(await floats(tensor), await floats(wanted))).toBeLessThan(1e-6);
        else expect(tensor).toBe(before.get(weight));
      }
    },
  );

  it('agrees with the golden merge of a larger network', async () => {
    const stored = await tensorsOf(golden('lora_merge.safetensors'));
    const under = (tensors: Tensor[], prefix: string) =>
      tensors.flatMap((tensor) =>
        tensor.name.startsWith(prefix) ? [{ ...tensor, name: tensor.name.slice(prefix.length) }] : [],
      );
    const adapter = await readAdapter('lora', under(stored, 'weights.lora.'), { weight: 1, alpha: 16 });
    const weights = plainNames(under(await tensorsOf(golden('weights_dit_a.safetensors')), 'weights.'));
    const merged = merge(weights, [adapter]);
    const reference = under(stored, 'outputs.merged.');
    expect(reference).toHaveLength(3);
    for (const wanted of reference) {
      expect(difference(await floats(merged.get(wanted.name) as Tensor), await floats(wanted))).toBeLessThan(1e-6);
    }
  });

  it('is the same whatever pieces it is read in', async () => {
    const tensor = merge(await base(), [await lora('lora_fp32.pt')]).get('blocks.0.ffn.2.weight') as Tensor;
    const whole = Buffer.from(await wholeTensor(tensor));
    const parts = [];
    for (let from = 0; from < 960; from += 37)
      parts.push(Buffer.from(await tensor.read(from, Math.min(960, from + 37))));
    expect(Buffer.concat(parts)).toEqual(whole);
  });

  it('adds several, each by its weight', async () => {
    const halves = await lora('lora_fp32.pt', { weight: 0.5, alpha: 8 });
    const merged = merge(await base(), [halves, halves]);
    for (const [weight, wanted] of await expected()) {
      expect(difference(await floats(merged.get(weight) as Tensor), await floats(wanted))).toBeLessThan(1e-6);
    }
  });

  it.each([
    ['peft with the name of the adapter', (name: string) => name.replace(/\.weight$/, '.default.weight')],
    ['Wan', (name: string) => name.replace('base_model.model.', 'diffusion_model.')],
    ['down and up', (name: string) => name.replace('lora_A', 'lora_down').replace('lora_B', 'lora_up')],
    [
      'Diffusers',
      (name: string) =>
        name
          .replace('base_model.model.', 'transformer.')
          .replace(/self_attn\.([qkv])/, 'attn1.to_$1')
          .replace('self_attn.o', 'attn1.to_out.0')
          .replace(/cross_attn\.([qkv])/, 'attn2.to_$1')
          .replace('cross_attn.o', 'attn2.to_out.0')
          .replace('ffn.0', 'ffn.net.0.proj')
          .replace('ffn.2', 'ffn.net.2'),
    ],
    [
      'kohya',
      (name: string) =>
        name
          .replace(/^base_model\.model\.blocks\.(\d+)\.(\w+)\.(\w)/, 'lora_unet_blocks_$1_$2_$3')
          .replace('lora_A', 'lora_down')
          .replace('lora_B', 'lora_up'),
    ],
  ])('knows the names of %s', async (_who, rename) => {
    const raw = await tensorsOf(checkpoint('lora_raw_fp32.pt'));
    const plain = await readAdapter('raw', raw, { weight: 1 });
    const renamed = raw.map((tensor) => ({ ...tensor, name: rename(tensor.name) }));
    expect(renamed[0]?.name).not.toBe(raw[0]?.name);
    const { pairs } = await readAdapter('renamed', renamed, { weight: 1 });
    expect([...pairs.keys()]).toEqual([...plain.pairs.keys()]);
  });

  it('prefers the alpha that the file has', async () => {
    const raw = await tensorsOf(checkpoint('lora_raw_fp32.pt'));
    const alpha = raw
      .map(({ name }) => name)
      .filter((name) => name.includes('lora_A'))
      .map((name): Tensor => ({
        ...{ name: name.replace('lora_A.weight', 'alpha'), dtype: 'F32', shape: [] },
        read: async () => new Uint8Array(new Float32Array([8]).buffer),
      }));
    const merged = merge(await base(), [await readAdapter('lora', [...raw, ...alpha], { weight: 1, alpha: 99 })]);
    const wanted = [...(await expected())][0] as [string, Tensor];
    expect(difference(await floats(merged.get(wanted[0]) as Tensor), await floats(wanted[1]))).toBeLessThan(1e-6);
  });

  it('refuses what does not fit, by name', async () => {
    const raw = await tensorsOf(checkpoint('lora_raw_fp32.pt'));
    const read = (tensors: Tensor[]) => readAdapter('x.pt', tensors, { weight: 1 });
    await expect(read(raw.slice(1))).rejects.toThrow(/half of the pair for:\n {4}blocks\.0\.self_attn\.q\.weight/);
    await expect(read([...raw, { ...(raw[0] as Tensor), name: 'base_model.model.blocks.0.odd' }])).rejects.toThrow(
      /blocks\.0\.odd/,
    );
    const other = raw.map((tensor) => ({ ...tensor, name: tensor.name.replace('blocks.1', 'blocks.7') }));
    const weights = await base();
    const elsewhere = await read(other);
    expect(() => merge(weights, [elsewhere])).toThrow(/blocks\.7\.self_attn\.q\.weight is not in the network/);
  });
});

describe('numbers', () => {
  const bits = (bytes: Uint8Array) => [...new Uint16Array(bytes.slice().buffer)];
  const floatBytes = (...values: number[]) => new Uint8Array(new Float32Array(values).buffer);
  const fromBits = (...values: number[]) => new Uint8Array(new Uint32Array(values).buffer);

  it('round to bf16 to nearest, ties to even', () => {
    const cases = [0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff, 0x80000000, 0xbf818000];
    expect(bits(convert(fromBits(...cases), 'F32', 'BF16'))).toEqual([0x3f80, 0x3f82, 0x3f81, 0x3f80, 0x8000, 0xbf82]);
  });

  it('round doubles to bf16 once, not twice', () => {
    // Just above a tie: rounding to single first would land on the tie and then on the even side.
    const above = 1 + 2 ** -8 + 2 ** -40;
    const below = 1 + 3 * 2 ** -8 - 2 ** -40;
    expect(bits(convert(new Uint8Array(new Float64Array([above, below, -above, 1]).buffer), 'F64', 'BF16'))).toEqual([
      0x3f81, 0x3f81, 0xbf81, 0x3f80,
    ]);
  });

  it('keep every half-precision number', () => {
    const halves = new Uint8Array(new Uint16Array([0x3c00, 0xc000, 0x0001, 0x7bff, 0x8000]).buffer);
    expect([...toFloat32(halves, 'F16')]).toEqual([1, -2, 2 ** -24, 65504, -0]);
  });

  it('are refused when they are none', () => {
    expect(() => convert(floatBytes(1, NaN), 'F32', 'F32')).toThrow(/NaN, infinity/);
    expect(() => convert(floatBytes(3.4e38), 'F32', 'BF16')).toThrow(/too large/);
    expect(() => convert(new Uint8Array([0x80, 0x7f]), 'BF16', 'BF16')).toThrow(/NaN, infinity/);
    expect(() => convert(new Uint8Array(8), 'I64', 'F32')).toThrow(/I64/);
  });
});

/** Small networks around the golden video network (width 24, text width 16), made once. */
const library = mkdtempSync(join(tmpdir(), 'longlive-weights-'));
afterAll(() => rmSync(library, { recursive: true, force: true }));

beforeAll(() => writeSmallNetworks(library), 120_000);

function sources(): string[] {
  const copies = ['text.safetensors', 'vae.safetensors', 'tiny.safetensors'].map((name) => {
    copyFileSync(join(library, name), join(root, name));
    return join(root, name);
  });
  return [checkpoint('base_fp32_extra.pt'), ...copies];
}

function options(change: Partial<ImportOptions> = {}): ImportOptions {
  return {
    ...{ sources: sources(), out: join(root, 'mine'), tokenizer, hints: { numHeads: 2, textLen: 8 }, addProduct },
    checkTokenizer: (json) => void Tokenizer.parse(json),
    now: () => new Date('2026-01-02T03:04:05Z'),
    ...change,
  };
}

describe('longlive import', () => {
  it('makes a package that the service accepts', async () => {
    let announced = 0;
    let written = 0;
    const result = await importModel(
      options({ onStart: (bytes) => (announced = bytes), onProgress: (bytes) => (written += bytes) }),
    );
    expect(written).toBe(announced);
    const made = await readPackage(result.directory);
    expect(made.manifest).toMatchObject({ name: 'mine', createdAt: '2026-01-02T03:04:05.000Z' });
    expect(made.config.dit.textLen).toBe(8);
    for await (const damage of damages(made)) expect.unreachable(damage);
    expect(readdirSync(root)).not.toContain('mine.partial');
    const tiny = plainNames(await tensorsOf(join(result.directory, 'tiny_vae.safetensors')));
    expect([...tiny.keys()].every((name) => name.startsWith('decoder.'))).toBe(true);
  });

  it('stores matrices in bf16 and small tensors as they are; or all in fp32', async () => {
    await importModel(options());
    const stored = plainNames(await tensorsOf(join(root, 'mine/dit.safetensors')));
    expect(stored.get('blocks.0.ffn.0.weight')?.dtype).toBe('BF16');
    expect(stored.get('blocks.0.modulation')?.dtype).toBe('F32');
    expect(stored.size).toBe(69);
    await importModel(options({ out: join(root, 'exact'), precision: 'fp32' }));
    const exact = plainNames(await tensorsOf(join(root, 'exact/dit.safetensors')));
    const original = pickTensors(await tensorsOf(checkpoint('base_fp32_extra.pt'))).tensors;
    for (const [name, tensor] of original)
      expect(await floats(exact.get(name) as Tensor)).toEqual(await floats(tensor));
  });

  it.each([
    ['int8', 'I8', undefined, 'BF16'],
    ['fp8', 'F8_E4M3', 'int8', 'I8'],
    ['bf16', 'BF16', 'int8', 'I8'],
    ['fp32', 'F32', undefined, 'F32'],
  ] as const)(
    'stores %s matrices with scales where the network is quantized',
    async (precision, dit, textEncoder, text) => {
      const { directory, bytes } = await importModel(options({ precision, textEncoder }));
      const sizes = readdirSync(directory).filter((file) => file !== 'manifest.json');
      expect(bytes).toBe(sizes.reduce((sum, file) => sum + readFileSync(join(directory, file)).length, 0));
      const typesIn = async (file: string) =>
        new Map((await tensorsOf(join(directory, file))).map(({ name, dtype }) => [name, dtype]));
      const network = await typesIn('dit.safetensors');
      expect(network.get('blocks.1.cross_attn.k.weight')).toBe(dit);
      expect(network.get('blocks.1.cross_attn.k.weight_scale')).toBe(
        dit === 'I8' || dit === 'F8_E4M3' ? 'F32' : undefined,
      );
      expect(network.get('head.head.weight')).toBe(precision === 'fp32' ? 'F32' : 'BF16');
      expect(network.get('blocks.0.norm3.weight')).toBe('F32');
      const encoder = await typesIn('text_encoder.safetensors');
      expect(encoder.get('token_embedding.weight')).toBe(text);
      expect(encoder.get('blocks.0.ffn.gate.0.weight')).toBe(text);
      expect(encoder.has('blocks.0.ffn.gate.0.weight_scale')).toBe(text === 'I8');
      const original = pickTensors(await tensorsOf(checkpoint('base_fp32_extra.pt'))).tensors;
      const restored = dequantized(plainNames(await tensorsOf(join(directory, 'dit.safetensors'))));
      expect([...restored.keys()].sort()).toEqual([...original.keys()].sort());
      const bound = { int8: 1 / 200, fp8: 1 / 14, bf16: 1 / 250, fp32: 0 }[precision];
      for (const [name, tensor] of original)
        expect(difference(await floats(restored.get(name) as Tensor), await floats(tensor))).toBeLessThanOrEqual(bound);
    },
  );

  it('quantizes what adapters have been merged into', async () => {
    const lora = { path: checkpoint('lora_fp32.pt'), weight: 1, alpha: 8 };
    const result = await importModel(options({ loras: [lora], precision: 'int8' }));
    const restored = dequantized(plainNames(await tensorsOf(join(result.directory, 'dit.safetensors'))));
    for (const [name, wanted] of plainNames(await tensorsOf(checkpoint('merged_fp32.safetensors'))))
      expect(difference(await floats(restored.get(name) as Tensor), await floats(wanted))).toBeLessThan(1 / 200);
  });

  it('makes tokenizer.json of spiece.model, unless there is one', async () => {
    const folder = join(root, 'tokenizer');
    mkdirSync(folder);
    copyFileSync(sentencePiece, join(folder, 'spiece.model'));
    const written = () => readFileSync(join(root, 'mine/tokenizer.json'), 'utf8');
    const given = options();
    await importModel({ ...given, tokenizer: undefined, sources: [...given.sources, folder] });
    expect(JSON.parse(written())).toEqual(convertSentencePiece(readFileSync(sentencePiece)));
    const [piece] = [...Tokenizer.parse(written()).encode('snow', 9)];
    expect(piece).toBeGreaterThan(2);
    rmSync(given.out, { recursive: true });
    await importModel({ ...given, tokenizer: sentencePiece });
    expect(written()).toContain('Unigram');
    rmSync(given.out, { recursive: true });
    copyFileSync(tokenizer, join(folder, 'tokenizer.json'));
    await importModel({ ...given, tokenizer: undefined, sources: [...given.sources, folder] });
    expect(written()).toBe(readFileSync(tokenizer, 'utf8'));
  });

  it('refuses a second import into the same place while one is running', async () => {
    const given = options();
    let second: Promise<unknown> | undefined;
    const onProgress = () => {
      second ??= importModel(given).then(
        () => undefined,
        (error: unknown) => error,
      );
    };
    await importModel({ ...given, onProgress });
    const error = (await second) as Error;
    expect(error.message).toMatch(/Another import into the same place is running|exists already/);
    for await (const damage of damages(await readPackage(given.out))) expect.unreachable(damage);
    expect(readdirSync(root)).not.toContain('mine.lock');
  });

  it('goes on after it was killed, with what was finished', async () => {
    const given = options();
    const script = fileURLToPath(new URL('stalled-import.ts', import.meta.url));
    const { sources: paths, out, hints } = given;
    const child = spawn(process.execPath, [
      '--import',
      'tsx',
      script,
      JSON.stringify({ sources: paths, out, tokenizer, hints }),
    ]);
    const said: string = await new Promise((resolve, reject) => {
      child.stdout.once('data', (part: Buffer) => resolve(part.toString()));
      child.stderr.on('data', (part: Buffer) => reject(new Error(part.toString())));
    });
    expect(said).toContain('vae.safetensors');
    // It shows that it lives for as long as it does.
    await expect(importModel(given)).rejects.toThrow(`process ${child.pid}`);
    child.kill('SIGKILL');
    await new Promise((ended) => child.once('close', ended));
    expect(existsSync(out)).toBe(false);
    expect(readdirSync(`${out}.partial`)).toContain('dit.safetensors');
    const pieces: string[] = [];
    // It has been silent for long; so nobody has to wait here.
    utimesSync(`${out}.lock`, 1, 1);
    await importModel({ ...given, onProgress: (_, file) => pieces.push(file) });
    // Finished files are told in one piece.
    expect(pieces.filter((file) => file === 'dit.safetensors')).toHaveLength(1);
    expect(pieces.filter((file) => file === 'vae.safetensors').length).toBeGreaterThan(1);
    for await (const damage of damages(await readPackage(out))) expect.unreachable(damage);
    expect(readdirSync(root).filter((name) => name.startsWith('mine'))).toEqual(['mine']);
  });

  it('merges an adapter once, also when it lies among the sources', async () => {
    const lora = { path: checkpoint('lora_fp32.pt'), weight: 1, alpha: 8 };
    const given = options({ loras: [lora], precision: 'fp32' });
    const result = await importModel({ ...given, sources: [...given.sources, lora.path] });
    expect(result.plan.adapters).toMatchObject([
      { path: lora.path, strengths: [{ matrices: 20, alpha: 8, where: '--lora-alpha' }] },
    ]);
    const stored = plainNames(await tensorsOf(join(root, 'mine/dit.safetensors')));
    for (const [name, wanted] of plainNames(await tensorsOf(checkpoint('merged_fp32.safetensors')))) {
      expect(difference(await floats(stored.get(name) as Tensor), await floats(wanted))).toBeLessThan(1e-6);
    }
  });

  it('finds what it needs in a folder', async () => {
    const [dit, ...others] = sources();
    mkdirSync(join(root, 'release/tokenizer'), { recursive: true });
    writeFileSync(join(root, 'release/base.pt'), readFileSync(dit as string));
    for (const [i, path] of others.entries()) writeFileSync(join(root, `release/${i}.safetensors`), readFileSync(path));
    writeFileSync(join(root, 'release/tokenizer/tokenizer.json'), readFileSync(tokenizer));
    const latents = {
      mean: Array.from({ length: 16 }, (_, i) => i / 8),
      std: Array.from({ length: 16 }, (_, i) => 1 + i),
    };
    const said = { num_heads: 2, text_len: 8, latents_mean: latents.mean, latents_std: latents.std };
    writeFileSync(join(root, 'release/config.json'), JSON.stringify(said));
    const given = options({ sources: [join(root, 'release')] });
    await importModel({ ...given, tokenizer: undefined, hints: {} });
    const config = JSON.parse(readFileSync(join(root, 'mine/config.json'), 'utf8')) as { dit: object; vae: object };
    expect(config.dit).toMatchObject({ numHeads: 2, textLen: 8, dim: 24 });
    expect(config.vae).toMatchObject({ ...latents, dimMult: [1, 2, 4, 4] });
  });

  it.each([
    ['in one .bin file', 'pytorch_model.bin', undefined],
    ['in .bin shards', 'pytorch_model-00001-of-00001.bin', 'pytorch_model.bin.index.json'],
  ])('finds a folder of Hugging Face %s, and prefers its safetensors', async (_what, file, index) => {
    const given = sources();
    const folder = join(root, 'release');
    mkdirSync(folder);
    copyFileSync(given[0] as string, join(folder, file));
    const weight_map = Object.fromEntries((await tensorsOf(given[0] as string)).map(({ name }) => [name, file]));
    if (index) writeFileSync(join(folder, index), JSON.stringify({ weight_map }));
    await importModel({ ...options(), sources: [folder, ...given.slice(1)] });
    rmSync(join(root, 'mine'), { recursive: true });
    copyFileSync(checkpoint('base_fp32_extra.safetensors'), join(folder, 'model.safetensors'));
    await importModel({ ...options(), sources: [folder, ...given.slice(1)] });
  });

  it('goes on where it was interrupted, unless a source has changed', async () => {
    const given = options();
    const stop = async () => {
      let files = new Set<string>();
      const onProgress = (_: number, file: string) => {
        files = files.add(file);
        if (files.size === 3) throw new Error('interrupted');
      };
      await expect(importModel({ ...given, onProgress })).rejects.toThrow('interrupted');
      expect(existsSync(given.out)).toBe(false);
    };
    const finished = async () => {
      const pieces: Record<string, number> = {};
      await importModel({ ...given, onProgress: (_, file) => (pieces[file] = (pieces[file] ?? 0) + 1) });
      return pieces['dit.safetensors'];
    };
    await stop();
    expect(await finished()).toBe(1);
    for await (const damage of damages(await readPackage(given.out))) expect.unreachable(damage);
    rmSync(given.out, { recursive: true });
    await stop();
    utimesSync(given.sources[1] as string, 1, 1);
    expect(await finished()).toBeGreaterThan(1);
  });

  it.each([
    [
      'a part that is missing',
      { sources: [checkpoint('base_fp32_extra.pt')] },
      /text encoder.*video codec.*docs\/models\.md/s,
    ],
    [
      'two networks of a kind',
      { sources: [checkpoint('base_fp32_extra.pt'), checkpoint('model_key_fp32.pt')] },
      /also contains/,
    ],
    ['no such file', { sources: ['/nowhere/x.pt'] }, /does not exist/],
    ['a foreign checkpoint', { sources: [checkpoint('state_dict_ordered.pth')] }, /conv1\.weight/],
    ['an evil checkpoint', { sources: [checkpoint('bad_pickle_call.pt')] }, /__builtin__\.print/],
    ['no tokenizer', { tokenizer: undefined }, /--tokenizer/],
    ['a tokenizer that cannot be used', { tokenizer: golden('lora_merge.json') }, /tokenizer\.json is not supported/],
    ['a file that is no tokenizer', { tokenizer: checkpoint('base_bf16.pt') }, /SentencePiece model/],
    ['an unusable name', { name: 'Mine!' }, /cannot be the name/],
  ])('refuses %s and leaves nothing', async (_what, change, message) => {
    await expect(importModel(options(change))).rejects.toThrow(message);
    expect(existsSync(join(root, 'mine'))).toBe(false);
    expect(existsSync(join(root, 'mine.partial'))).toBe(false);
  });

  it('refuses small files that are huge, without reading them', async () => {
    const huge = (name: string) => {
      writeFileSync(join(root, name), '{');
      // Of a sparse file only the length is large.
      truncateSync(join(root, name), 8 * 2 ** 30);
      return join(root, name);
    };
    const given = options();
    const refused = /too large: 8589934592 bytes/;
    await expect(importModel({ ...given, tokenizer: huge('tokenizer.json') })).rejects.toThrow(refused);
    const sharded = [...given.sources, huge('model.safetensors.index.json')];
    await expect(importModel({ ...given, sources: sharded })).rejects.toThrow(refused);
  });

  it('refuses what is no file, and does not wait for it', async () => {
    execFileSync('mkfifo', [join(root, 'model.pt'), join(root, 'spiece.model')]);
    const given = options();
    const pipe = { ...given, sources: [...given.sources, join(root, 'model.pt')] };
    await expect(importModel(pipe)).rejects.toThrow(/model\.pt is not a file/);
    await expect(importModel({ ...given, tokenizer: join(root, 'spiece.model') })).rejects.toThrow(/is not a file/);
  });

  it.each([
    [{ numHeads: 0 }, /number of heads is stated as 0/],
    [{ numHeads: -2 }, /number of heads/],
    [{ numHeads: 1.5 }, /number of heads/],
    [{ numHeads: 1e308 }, /number of heads/],
    [{ numHeads: NaN }, /number of heads/],
    [{ numHeads: 7 }, /cannot have 7 heads/],
    [{ numHeads: 2, textLen: 1e9 }, /length of the text is stated as 1000000000/],
    [{ numHeads: 2, textLen: -1 }, /length of the text/],
  ])('refuses %j, whoever says it', async (hints, message) => {
    await expect(importModel(options({ hints }))).rejects.toThrow(message);
  });

  it('never touches a package that is there', async () => {
    mkdirSync(join(root, 'mine'));
    await expect(importModel(options())).rejects.toThrow(/exists already/);
  });

  it('refuses weights that are no numbers, and says which', async () => {
    const given = options();
    const file = join(root, 'vae.safetensors');
    const bytes = readFileSync(file);
    bytes.writeFloatLE(NaN, bytes.length - 4);
    writeFileSync(file, bytes);
    const before = readdirSync(root).sort();
    await expect(importModel(given)).rejects.toThrow(/".+" cannot be used.*NaN/);
    expect(readdirSync(root).sort()).toEqual(before);
    // Nor folders that were made for it.
    await expect(importModel({ ...given, out: join(root, 'a', 'b', 'mine') })).rejects.toThrow(/NaN/);
    expect(readdirSync(root).sort()).toEqual(before);
    expect(existsSync(given.out)).toBe(false);
  });
});
