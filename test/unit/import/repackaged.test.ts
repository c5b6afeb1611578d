import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { planText } from '../../../src/cli/import.js';
import { Tokenizer } from '../../../src/engine/tokenizer.js';
import { memoryBytes } from '../../../src/import/bytes.js';
import { toFloat32 } from '../../../src/import/convert.js';
import { importModel, type ImportOptions, parseSetting, planImport } from '../../../src/import/index.js';
import { pickTensors, plainNames } from '../../../src/import/names.js';
import { convertSentencePiece } from '../../../src/import/sentencepiece.js';
import { readTensors } from '../../../src/import/source.js';
import { type Tensor, wholeTensor } from '../../../src/import/tensor.js';
import { empty, type Stored, stored, writeCheckpoint } from '../../support/checkpoint-files.js';
import { writeSmallNetworks } from '../../support/small-networks.js';

vi.setConfig({ testTimeout: 120_000 });

const file = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const base = file('../../golden/checkpoints/base_fp32_extra.pt');
const tokenizer = file('../engine/fixtures/tokenizer.json');
const sentencePiece = file('../engine/fixtures/umt5_like.model');
const library = mkdtempSync(join(tmpdir(), 'longlive-weights-'));
beforeAll(() => writeSmallNetworks(library), 120_000);
afterAll(() => rmSync(library, { recursive: true, force: true }));

let root: string;
beforeEach(() => (root = mkdtempSync(join(tmpdir(), 'longlive-repackaged-'))));
afterEach(() => rmSync(root, { recursive: true, force: true }));

const tensorsOf = async (path: string) => plainNames(await readTensors(memoryBytes(readFileSync(path))));
const floats = async (tensor: Tensor | undefined) =>
  toFloat32(await wholeTensor(tensor as Tensor), (tensor as Tensor).dtype);

/** The tensors of a file as they would be written again. */
async function storedIn(path: string): Promise<Record<string, Stored>> {
  const tensors = await readTensors(memoryBytes(readFileSync(path)));
  const read = tensors.map(async (tensor) => {
    const { name, dtype, shape } = tensor;
    return [name, { dtype, shape, bytes: await wholeTensor(tensor) }] as const;
  });
  return Object.fromEntries(await Promise.all(read));
}

/** Of the golden checkpoint, under plain names. */
async function dit(): Promise<Record<string, Stored>> {
  const { tensors } = pickTensors(await readTensors(memoryBytes(readFileSync(base))));
  const read = [...tensors].map(async ([name, tensor]) => {
    const { dtype, shape } = tensor;
    return [name, { dtype, shape, bytes: await wholeTensor(tensor) }] as const;
  });
  return Object.fromEntries(await Promise.all(read));
}
const part = (name: string) => join(library, `${name}.safetensors`);

function options(sources: readonly string[], change: Partial<ImportOptions> = {}): ImportOptions {
  return {
    ...{ sources, out: join(root, 'out', 'mine'), tokenizer, precision: 'fp32' as const },
    hints: { numHeads: 2, textLen: 8 },
    addProduct: async () => undefined,
    checkTokenizer: (json) => void Tokenizer.parse(json),
    ...change,
  };
}

const others = () => [part('text'), part('vae')];
const written = (name: string) => join(root, 'out/mine', name);

async function expectSameNetwork(): Promise<void> {
  const [found, wanted] = [await tensorsOf(written('dit.safetensors')), await dit()];
  for (const [name, tensor] of found)
    expect(await floats(tensor)).toEqual(toFloat32((wanted[name] as Stored).bytes, 'F32'));
  expect(found.size).toBe(69);
}

describe('shards', () => {
  async function writeShards(folder: string, names: readonly string[]): Promise<void> {
    mkdirSync(folder, { recursive: true });
    const all = Object.entries(await dit());
    const size = Math.ceil(all.length / names.length);
    names.forEach((name, i) =>
      writeCheckpoint(join(folder, name), Object.fromEntries(all.slice(i * size, (i + 1) * size))),
    );
  }

  it.each([
    [
      'with the usual names',
      ['model-00001-of-00003.safetensors', 'model-00002-of-00003.safetensors', 'model-00003-of-00003.safetensors'],
    ],
    ['counted from zero', ['m-00000-of-00002.safetensors', 'm-00001-of-00002.safetensors']],
    ['with underscores', ['model_1_of_2.safetensors', 'model_2_of_2.safetensors']],
    ['of a variant, in capitals', ['dit-00001-of-00002.fp16.SAFETENSORS', 'dit-00002-of-00002.fp16.SAFETENSORS']],
  ])('without an index are joined: %s', async (_, names) => {
    const folder = join(root, 'dit');
    await writeShards(folder, names);
    await importModel(options([folder, ...others()]));
    await expectSameNetwork();
    rmSync(join(root, 'out'), { recursive: true });
    await importModel(options([...names.map((name) => join(folder, name)), ...others()]));
    await expectSameNetwork();
  });

  it.each([
    ['another stem', 'model.safetensors.index.json', ''],
    ['a variant, with a byte order mark', 'model.safetensors.index.fp16.json', '\ufeff'],
  ])('are joined by an index with %s', async (_, index, mark) => {
    const folder = join(root, 'dit');
    const names = ['a-00001-of-00002.safetensors', 'a-00002-of-00002.safetensors'];
    await writeShards(folder, names);
    const keys = Object.keys(await dit());
    const size = Math.ceil(keys.length / 2);
    const weight_map = Object.fromEntries(keys.map((key, i) => [key, names[Math.floor(i / size)]]));
    writeFileSync(join(folder, index), mark + JSON.stringify({ weight_map }));
    for (const source of [folder, join(folder, index)]) {
      const { networks } = await planImport(options([source, ...others()]));
      expect(networks[0]).toMatchObject({ path: join(folder, index), tensors: 69 });
    }
    writeFileSync(join(folder, index), JSON.stringify({ weight_map: { ...weight_map, other: names[0] } }));
    await expect(planImport(options([folder, ...others()]))).rejects.toThrow(
      /lacks 1 tensor that its index names, such as other\. Download it again/,
    );
    writeFileSync(join(folder, index), '{"weight_map": ');
    await expect(planImport(options([folder, ...others()]))).rejects.toThrow(/cannot be read: .*Download it again/);
    writeFileSync(join(folder, index), '{}');
    await expect(planImport(options([folder, ...others()]))).rejects.toThrow(/it lacks "weight_map"/);
  });

  it('that are not all there are refused by what is missing', async () => {
    const folder = join(root, 'dit');
    await writeShards(folder, ['model-00001-of-00003.safetensors', 'model-00003-of-00003.safetensors']);
    await expect(importModel(options([folder, ...others()]))).rejects.toThrow(
      /model-…-of-00003\.safetensors is incomplete; missing:\n {4}shard 2 of 3\nDownload them into the same folder\./,
    );
    const weight_map = { a: 'model-00001-of-00003.safetensors', b: 'model-00002-of-00003.safetensors' };
    writeFileSync(join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map }));
    await expect(importModel(options([folder, ...others()]))).rejects.toThrow(
      /model\.safetensors\.index\.json names missing files:\n {4}.*model-00002-of-00003\.safetensors\nDownload them into the same folder\./,
    );
  });

  describe('files beside shards', () => {
    const NAMES = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
    const stray = 'model-00003-of-00003.safetensors';

    async function indexed(): Promise<string> {
      const folder = join(root, 'dit');
      await writeShards(folder, NAMES);
      const { tensors } = await readShards(folder);
      const weight_map = Object.fromEntries(tensors);
      writeFileSync(join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map }));
      return folder;
    }

    async function readShards(folder: string): Promise<{ tensors: [string, string][] }> {
      const all = await Promise.all(NAMES.map(async (name) => [name, await storedIn(join(folder, name))] as const));
      return {
        tensors: all.flatMap(([name, held]) => Object.keys(held).map((tensor): [string, string] => [tensor, name])),
      };
    }

    it('that no index names are told, and so is what is there as safetensors, too', async () => {
      const folder = await indexed();
      writeCheckpoint(join(folder, stray), { other: stored([1], [1]) });
      writeFileSync(join(folder, 'pytorch_model.bin'), 'x');
      const { left } = await planImport(options([folder, ...others()]));
      expect(left).toEqual([
        { path: join(folder, 'pytorch_model.bin'), what: 'the safetensors beside it are used' },
        { path: join(folder, stray), what: 'a shard that the index beside it does not name' },
      ]);
    });

    it('are refused by both names where they hold the same tensor', async () => {
      const folder = await indexed();
      const [first = '', second = ''] = NAMES;
      const held = await storedIn(join(folder, second));
      const [name = ''] = Object.keys(await storedIn(join(folder, first)));
      writeCheckpoint(join(folder, second), { ...held, [name]: stored([1], [1]) });
      await expect(planImport(options([folder, ...others()]))).rejects.toThrow(
        new RegExp(`${second} and ${first} both hold "${name}": they are not shards of one checkpoint`),
      );
    });
  });
});

describe('files and folders', () => {
  it.each(['dit.ckpt', 'dit.SAFETENSORS', 'dit.Pth'])('%s in a folder is read by what is in it', async (name) => {
    const folder = join(root, 'all');
    mkdirSync(folder);
    writeCheckpoint(join(folder, name), await dit());
    await importModel(options([folder, ...others()]));
    await expectSameNetwork();
  });

  it('name what they hold and nobody uses', async () => {
    const folder = join(root, 'all');
    mkdirSync(join(folder, 'dcp'), { recursive: true });
    writeCheckpoint(join(folder, 'dit.safetensors'), await dit());
    for (const [name, text] of [
      ['dit.gguf', 'GGUF'],
      ['notes.txt', ''],
      ['dcp/__0_0.distcp', ''],
    ] as const)
      writeFileSync(join(folder, name), text);
    writeCheckpoint(join(folder, 'clip.safetensors'), { 'visual.proj': stored([1], [1]) });
    const { plan } = await importModel(options([folder, part('text'), part('vae')]));
    expect(plan.left.map(({ path, what }) => `${path.slice(folder.length)}: ${what}`).sort()).toEqual([
      '/clip.safetensors: These are not the weights of a network that LongLive uses; it has visual.proj, …',
      `/dcp: a checkpoint of torch.distributed (DCP); convert it: python -m torch.distributed.checkpoint.format_utils dcp_to_torch ${folder}/dcp model.pt`,
      '/dit.gguf: a GGUF file, which holds quantized weights; take the original checkpoint.',
    ]);
  });

  it('tell what was passed over when something is missing', async () => {
    const folder = join(root, 'all');
    mkdirSync(folder);
    writeFileSync(join(folder, 'dit.gguf'), 'GGUF');
    await expect(importModel(options([folder, ...others()]))).rejects.toThrow(
      /lack the video network.*\nNot used:\n.*dit\.gguf: a GGUF file/,
    );
  });

  it('of a training run beside the weights are left, and nothing in them is read', async () => {
    const folder = join(root, 'checkpoint-100');
    mkdirSync(folder);
    writeCheckpoint(join(folder, 'dit.safetensors'), await dit());
    const states = ['optimizer.bin', 'scheduler.bin', 'training_args.bin', 'rng_state_0.pth', 'zero_optim_states.pt'];
    for (const name of states) writeFileSync(join(folder, name), 'x');
    const { left } = await planImport(options([folder, ...others()]));
    expect(left.map(({ path, what }) => [path.slice(folder.length + 1), what]).sort()).toEqual(
      states.map((name) => [name, 'state of a training run']).sort(),
    );
  });

  it.each([
    ['org/model', 'Sources are files and folders on this machine; download it first.'],
    ['https://example.com/dit.safetensors', 'Sources are files and folders on this machine; download it first.'],
    ['dit.safetensors', ''],
  ])('%s that does not exist is told what to do', async (source, way) => {
    await expect(planImport(options([source, ...others()]))).rejects.toThrow(
      new RegExp(`^${source.replaceAll('.', '\\.')} does not exist\\.${way && ` ${way}`}$`),
    );
  });

  it('a whole network that is named as an adapter is told to be one', async () => {
    const path = writeCheckpoint(join(root, 'dit.safetensors'), await dit());
    await expect(planImport(options([path, ...others()], { loras: [{ path, weight: 1 }] }))).rejects.toThrow(
      /has no LoRA; it has \w[\w.]+, \w[\w.]+, \w[\w.]+, … If it is a whole network, name it without --lora\./,
    );
  });

  it('of networks that do not belong together are both named', async () => {
    const all = await dit();
    const patch = all['patch_embedding.weight'] as Stored;
    const shape = patch.shape.map((size, i) => (i === 1 ? 2 * size : size));
    const bytes = Buffer.concat([patch.bytes, patch.bytes]);
    const path = writeCheckpoint(join(root, 'i2v.safetensors'), {
      ...all,
      'patch_embedding.weight': { ...patch, shape, bytes },
    });
    await expect(planImport(options([path, ...others()]))).rejects.toThrow(
      /the video codec \(VAE\) has latent channels \d+ \(.*vae\.safetensors\), but the video network takes \d+ \(.*i2v\.safe.*image-to-video/,
    );
  });

  it('whole numbers with scales that nobody knows are named in one line', async () => {
    const all = await dit();
    const weight = all['blocks.0.ffn.0.weight'] as Stored;
    const path = writeCheckpoint(join(root, 'int8.safetensors'), {
      ...all,
      'blocks.0.ffn.0.weight': empty('I8', weight.shape),
      'blocks.0.ffn.0.scale': stored([1], [1]),
    });
    await expect(planImport(options([path, ...others()], { dequantize: true }))).rejects.toThrow(
      /^.*int8\.safetensors: The video network \(DiT\) is quantized: whole numbers of 8 bits or less, in an unknown layout; use the bf16 or fp16 file\.$/,
    );
  });

  it('a config.json that cannot be read is refused by its name', async () => {
    const folder = join(root, 'all');
    mkdirSync(folder);
    writeCheckpoint(join(folder, 'dit.safetensors'), await dit());
    writeFileSync(join(folder, 'config.json'), '{"num_heads": 2');
    await expect(importModel(options([folder, ...others()]))).rejects.toThrow(
      /all\/config\.json cannot be read: .*JSON/,
    );
    writeFileSync(join(folder, 'config.json'), '\ufeff{"num_heads": "2"}');
    await expect(importModel(options([folder, ...others()]))).rejects.toThrow(
      /config\.json: num_heads is "2"; it should be a whole number above 0/,
    );
    expect(existsSync(join(root, 'out'))).toBe(false);
  });

  it('several networks in one file are told apart by their prefixes', async () => {
    const [text, vae] = [await storedIn(part('text')), await storedIn(part('vae'))];
    const under = (prefix: string, tensors: Record<string, Stored>) =>
      Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [`${prefix}${name}`, tensor]));
    const path = writeCheckpoint(join(root, 'all.safetensors'), {
      ...under('model.diffusion_model.', await dit()),
      ...under('text_encoders.umt5xxl.transformer.', text),
      ...under('vae.', vae),
    });
    await importModel(options([path]));
    await expectSameNetwork();
    expect((await tensorsOf(written('vae.safetensors'))).size).toBe(Object.keys(vae).length);
  });
});

describe('tensors beside the weights', () => {
  const pieces = (): Stored => {
    const bytes = readFileSync(sentencePiece);
    return { dtype: 'U8', shape: [bytes.length], bytes };
  };

  it('spiece_model of a text encoder is its tokenizer when none is named', async () => {
    const path = writeCheckpoint(join(root, 'text.safetensors'), {
      ...(await storedIn(part('text'))),
      spiece_model: pieces(),
    });
    const sources = [base, path, part('vae')];
    await importModel(options(sources, { tokenizer: undefined }));
    expect(JSON.parse(readFileSync(written('tokenizer.json'), 'utf8'))).toEqual(
      convertSentencePiece(readFileSync(sentencePiece)),
    );
    rmSync(join(root, 'out'), { recursive: true });
    const { plan } = await importModel(options(sources));
    expect(readFileSync(written('tokenizer.json'), 'utf8')).toBe(readFileSync(tokenizer, 'utf8'));
    expect(plan.left).toEqual([
      { path: base, what: '"critic" in it is not used (6 tensors)' },
      { path: base, what: '"generator_optimizer" in it is not used (6 tensors)' },
      { path, what: 'its tokenizer is not used: another one takes precedence' },
    ]);
  });

  it('_extra_state is ignored when it holds nothing, and named when it does', async () => {
    const weights = await dit();
    const state = 'blocks.0.self_attn.q._extra_state';
    const path = writeCheckpoint(join(root, 'dit.safetensors'), { ...weights, [state]: empty('U8', [0]) });
    const { plan } = await importModel(options([path, ...others()]));
    await expectSameNetwork();
    expect(plan.left).toEqual([{ path, what: `1 tensor that generation does not need ("${state}", …)` }]);
    writeCheckpoint(path, { ...weights, [state]: empty('U8', [4]) });
    rmSync(join(root, 'out'), { recursive: true });
    await expect(importModel(options([path, ...others()]))).rejects.toThrow(`1 not known:\n    ${state}`);
  });
});

describe('weights in 8 bits', () => {
  const MATRIX = 'blocks.0.ffn.0.weight';
  /** 1, -2, 0.5, 448 and so on, which every matrix is made of. */
  const CODES = [0x38, 0xc0, 0x30, 0x7e, 0x00, 0x01];
  const VALUES = [1, -2, 0.5, 448, 0, 2 ** -9];

  async function scaledNetwork(scales: (rows: number) => Stored | undefined, name: (matrix: string) => string) {
    const weights = await dit();
    for (const [matrix, { shape }] of Object.entries(weights)) {
      if (!/^blocks.*(?:self_attn\.[qkvo]|ffn\.\d)\.weight$/.test(matrix)) continue;
      const [rows = 0, columns = 0] = shape;
      const bytes = Uint8Array.from({ length: rows * columns }, (_, i) => CODES[i % CODES.length] as number);
      weights[matrix] = { dtype: 'F8_E4M3', shape, bytes };
      const scale = scales(rows);
      if (scale) weights[name(matrix)] = scale;
    }
    return weights;
  }

  it.each([
    [
      'scale_weight of ComfyUI',
      'scale_weight',
      () => stored([0.5], []),
      () => 0.5,
      { scaled_fp8: empty('F8_E4M3', [2]) },
    ],
    ['weight_scale for all rows', 'weight_scale', () => stored([0.25], [1]), () => 0.25, {}],
    [
      'weight_scale of each row',
      'weight_scale',
      (rows: number) =>
        stored(
          Array.from({ length: rows }, (_, i) => i + 1),
          [rows, 1],
        ),
      (row: number) => row + 1,
      {},
    ],
    ['no scales at all', '', () => undefined, () => 1, {}],
  ] as const)('%s: refused in a line, read on request', async (_, suffix, scales, scaleOf, more) => {
    const weights = await scaledNetwork(scales, (matrix) => matrix.replace(/weight$/, suffix));
    const path = writeCheckpoint(join(root, 'fp8.safetensors'), { ...weights, ...more });
    const refused = importModel(options([path, ...others()])).catch((error: Error) => error.message);
    expect(await refused).toMatch(
      /^\S+fp8\.safetensors: The video network \(DiT\) is quantized: .* --dequantize [^\n]*$/,
    );
    expect(existsSync(join(root, 'out'))).toBe(false);
    await importModel(options([path, ...others()], { dequantize: true }));
    const stored = await tensorsOf(written('dit.safetensors'));
    const matrix = stored.get(MATRIX) as Tensor;
    const columns = matrix.shape[1] as number;
    expect([...(await floats(matrix))]).toEqual(
      Array.from(
        { length: 40 * columns },
        (_, i) => (VALUES[i % VALUES.length] as number) * scaleOf(Math.floor(i / columns)),
      ),
    );
    expect(stored.size).toBe(69);
  });

  it('scales for parts of rows are refused at once, with what to take', async () => {
    const scales = (rows: number) => ({ ...empty('U8', [rows, 2]) });
    const weights = await scaledNetwork(scales, (matrix) => matrix.replace(/weight$/, 'weight_scale'));
    const path = writeCheckpoint(join(root, 'fp8.safetensors'), weights);
    for (const dequantize of [false, true])
      await expect(planImport(options([path, ...others()], { dequantize }))).rejects.toThrow(
        /fp8\.safetensors: The video network \(DiT\) is quantized: numbers with scales for parts of rows \(MXFP8 and the like\); use the bf16 or fp16 file\.$/,
      );
  });

  it('scales of columns are not taken for those of rows where there are as many', async () => {
    const weights = await scaledNetwork(
      (rows) =>
        stored(
          Array.from({ length: rows }, (_, i) => i + 1),
          [1, rows],
        ),
      (matrix) => matrix.replace(/weight$/, 'weight_scale'),
    );
    const path = writeCheckpoint(join(root, 'fp8.safetensors'), weights);
    await expect(planImport(options([path, ...others()], { dequantize: true }))).rejects.toThrow(
      /numbers with scales for parts of rows/,
    );
  });

  it.each([
    ['is missing where others have one', undefined, /"blocks\.0\.self_attn\.k\.weight" is F8_E4M3, but has no scale/],
    ['is 0', stored([0], []), /The scale of "blocks\.0\.self_attn\.k\.weight" is 0/],
  ] as const)('a scale that %s is refused by the name of its weight', async (_, scale, message) => {
    const weights = await scaledNetwork(
      () => stored([0.5], []),
      (matrix) => matrix.replace(/weight$/, 'scale_weight'),
    );
    delete weights['blocks.0.self_attn.k.scale_weight'];
    if (scale) weights['blocks.0.self_attn.k.scale_weight'] = scale;
    const path = writeCheckpoint(join(root, 'fp8.safetensors'), weights);
    await expect(importModel(options([path, ...others()], { dequantize: true }))).rejects.toThrow(message);
    expect(existsSync(written('dit.safetensors'))).toBe(false);
  });

  it('a scale without its weight is refused by name', async () => {
    const weights = {
      ...(await scaledNetwork(
        () => stored([1], []),
        (m) => m.replace(/weight$/, 'scale_weight'),
      )),
      'blocks.9.x.scale_weight': stored([1], []),
    };
    const path = writeCheckpoint(join(root, 'fp8.safetensors'), weights);
    await expect(importModel(options([path, ...others()], { dequantize: true }))).rejects.toThrow(
      '"blocks.9.x.scale_weight" is a scale without a weight.',
    );
  });
});

describe('numbers that are none', () => {
  it('are refused by file and tensor, and nothing is left', async () => {
    const weights = await dit();
    const name = 'blocks.0.ffn.0.bias';
    const shape = (weights[name] as Stored).shape;
    const count = shape.reduce((product, size) => product * size, 1);
    const path = writeCheckpoint(join(root, 'nan.safetensors'), {
      ...weights,
      [name]: stored(new Array<number>(count).fill(NaN), shape),
    });
    await expect(importModel(options([path, ...others()]))).rejects.toThrow(
      `${path}: "${name}" cannot be used. It contains NaN, infinity`,
    );
    expect(existsSync(join(root, 'out'))).toBe(false);
  });
});

describe('longlive import --dry-run', () => {
  it('says what would be read, merged and left, and writes nothing', async () => {
    const weights = await dit();
    const module = 'blocks.0.self_attn.q';
    const lora = writeCheckpoint(
      join(root, 'ink.safetensors'),
      {
        [`diffusion_model.${module}.lora_A.weight`]: empty('F32', [2, 24]),
        [`diffusion_model.${module}.lora_B.weight`]: empty('F32', [24, 2]),
      },
      { lora_alpha: '8' },
    );
    const path = writeCheckpoint(join(root, 'dit.safetensors'), weights);
    const plan = await planImport(options([path, ...others()], { loras: [{ path: lora, weight: 0.5, alpha: 3 }] }));
    expect(readdirSync(root).sort()).toEqual(['dit.safetensors', 'ink.safetensors']);
    const lines = planText(plan).split('\n');
    expect(lines).toEqual([
      expect.stringMatching(/^Would write mine: [\d.]+ MiB$/),
      expect.stringMatching(/^ {2}video network \(DiT\): .*dit\.safetensors \(69 tensors, \d+ parameters\)$/),
      expect.stringContaining('text encoder'),
      expect.stringContaining('video codec'),
      `  tokenizer: ${tokenizer}`,
      'would merge ink.safetensors (ComfyUI) into 1 matrix at 2 x B A, weight 0.5 included: rank 2, alpha 8 of its metadata',
      'note: ink.safetensors: --lora-alpha is not used: the adapter states its own alpha (its metadata).',
      expect.stringMatching(/^note: positions are absolute: a session ends after 255 s\..*--set rope=relative/),
      'Nothing was written.',
    ]);
  });

  it('refuses what an import would refuse', async () => {
    const lora = writeCheckpoint(join(root, 'ink.safetensors'), {
      'blocks.0.self_attn.q.lora_A.weight': stored([NaN], [1, 1]),
      'blocks.0.self_attn.q.lora_B.weight': empty('F32', [24, 1]),
    });
    const given = options([base, ...others()], { loras: [{ path: lora, weight: 1 }] });
    await expect(planImport(given)).rejects.toThrow(
      /ink\.safetensors does not fit the weights:\n.*\[24, 24\] cannot take \[24, 1\] x \[1, 1\]/,
    );
    writeCheckpoint(lora, {
      'blocks.0.self_attn.q.lora_A.weight': stored(new Array<number>(24).fill(NaN), [1, 24]),
      'blocks.0.self_attn.q.lora_B.weight': empty('F32', [24, 1]),
    });
    await expect(importModel(given)).rejects.toThrow(
      `${lora}: "blocks.0.self_attn.q.lora_A.weight" holds NaN or infinity.`,
    );
    expect(existsSync(join(root, 'out'))).toBe(false);
  });
});

describe('settings of the package', () => {
  const sampling = () =>
    JSON.parse(readFileSync(written('config.json'), 'utf8')) as { sampling: object; video: object };

  it('are those of LongLive, and may be set', async () => {
    const settings = ['sampling.rope=relative', 'fps=24', 'denoisingSteps=1000,500'].map(parseSetting);
    const { plan } = await importModel(options([base, ...others()], { settings }));
    expect(plan.endSeconds).toBeNull();
    expect(sampling()).toMatchObject({
      sampling: { rope: 'relative', denoisingSteps: [1000, 500], windowFrames: 12 },
      video: { width: 832, fps: 24 },
    });
  });

  it('are kept from a package that is imported again', async () => {
    await importModel(
      options([base, ...others()], { settings: ['rope=relative', 'sinkFrames=2', 'width=256'].map(parseSetting) }),
    );
    const again = options([join(root, 'out/mine')], { out: join(root, 'again'), hints: {}, tokenizer: undefined });
    await importModel(again);
    const config = (name: string) => JSON.parse(readFileSync(join(root, name, 'config.json'), 'utf8')) as object;
    expect(config('again')).toEqual(config('out/mine'));
  });

  it.each([
    ['rope=sideways', /sampling\.rope is "sideways", but must be "absolute" or "relative"/],
    ['windowFrames=4', /sampling\.windowFrames is 4: must hold the sink and one block/],
    ['width=100', /video\.width/],
  ])('are refused before anything is written: %s', async (setting, message) => {
    await expect(importModel(options([base, ...others()], { settings: [parseSetting(setting)] }))).rejects.toThrow(
      message,
    );
    expect(existsSync(join(root, 'out'))).toBe(false);
  });

  it('are refused by a list of those that there are', () => {
    expect(() => parseSetting('sampling.speed=2')).toThrow(
      /"sampling\.speed=2" is not a package setting.*sampling\.rope/,
    );
    expect(() => parseSetting('rope')).toThrow(/KEY=VALUE/);
    expect(() => parseSetting('toString=1')).toThrow(/not a package setting/);
  });
});
