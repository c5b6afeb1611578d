import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type SourceTensor, writeTorch } from '../../../scripts/torch-writer.js';
import type { LoadOptions } from '../../../src/engine/addon.js';
import { loadAddon, openEngine } from '../../../src/engine/index.js';
import { findPackages } from '../../../src/packages/index.js';
import { convert } from '../../../src/import/convert.js';
import { importModel, type ImportOptions, openSource, quantizePackage } from '../../../src/import/index.js';
import { wholeTensor } from '../../../src/import/tensor.js';

const models = fileURLToPath(new URL('../../../models', import.meta.url));
/** The default model as others would release it: its video network as a checkpoint, the rest as safetensors. */
const pocket = join(models, 'pocket');
const root = mkdtempSync(join(tmpdir(), 'longlive-video-'));
const checkpoint = join(root, 'base.pt');
const lora = join(root, 'lora.pt');
const addon = loadAddon();

beforeAll(async () => {
  const source = await openSource(join(pocket, 'dit.safetensors'));
  const network: SourceTensor[] = [];
  for (const tensor of source.tensors) {
    const bytes = convert(await wholeTensor(tensor), tensor.dtype, 'F32');
    network.push({ name: `model.${tensor.name}`, shape: tensor.shape, type: 'F32', chunks: () => [bytes] });
  }
  await source.close();
  await writeTorch(checkpoint, { generator: network });
  const factor = (name: string, shape: readonly number[]): SourceTensor => {
    const count = shape.reduce((product, size) => product * size, 1);
    const values = Float32Array.from({ length: count }, (_, i) => Math.sin(i + shape.length) / 8);
    return { name, shape, type: 'F32', chunks: () => [new Uint8Array(values.buffer)] };
  };
  const matrix = source.tensors.find(({ name }) => name === 'blocks.0.ffn.0.weight')?.shape ?? [];
  const [rows = 0, columns = 0] = matrix;
  await writeTorch(lora, {
    generator_lora: [
      factor('base_model.model.blocks.0.ffn.0.lora_A.weight', [4, columns]),
      factor('base_model.model.blocks.0.ffn.0.lora_B.weight', [rows, 4]),
    ],
  });
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

async function imported(name: string, change: Partial<ImportOptions>): Promise<string> {
  const config = JSON.parse(readFileSync(join(pocket, 'config.json'), 'utf8')) as {
    dit: { numHeads: number; textLen: number };
  };
  const { directory } = await importModel({
    sources: [checkpoint, join(pocket, 'text_encoder.safetensors'), join(pocket, 'vae.safetensors')],
    ...{ out: join(root, name), tokenizer: join(pocket, 'tokenizer.json') },
    hints: { numHeads: config.dit.numHeads, textLen: config.dit.textLen },
    addProduct: (...operands) => addon.addProduct(...operands),
    ...change,
  });
  return directory;
}

/** The settings that no checkpoint has: sampling, native size, what the latents were divided by. */
function adopt(directory: string): string {
  const config = readFileSync(join(pocket, 'config.json'));
  writeFileSync(join(directory, 'config.json'), config);
  const path = join(directory, 'manifest.json');
  const manifest = JSON.parse(readFileSync(path, 'utf8')) as { files: Record<string, object> };
  manifest.files['config.json'] = { bytes: config.length, sha256: createHash('sha256').update(config).digest('hex') };
  writeFileSync(path, JSON.stringify(manifest));
  return directory;
}

/** The pictures of the first block. */
async function video(directory: string, precision: LoadOptions['precision']): Promise<Buffer> {
  const model = await addon.loadModel({ directory, precision, device: 'cpu', threads: 1, decoder: 'full', isa: '' });
  try {
    const session = await model.createSession({ seed: 5n, width: 96, height: 64, rope: 'package' });
    await session.setPrompt(await model.encodePrompt(Int32Array.of(259, 260, 305, 1)), 'recache');
    for (;;) {
      const step = await session.step();
      if (step.kind !== 'frames') continue;
      const { count, width, height, i420 } = step.frames;
      expect([count, width, height]).toEqual([9, 96, 64]);
      const frames = Buffer.from(i420);
      session.dispose();
      return frames;
    }
  } finally {
    model.dispose();
  }
}

describe('the int8 variant of the default model', () => {
  const shipped = join(models, 'pocket-int8');

  it('is what `npm run pocket:int8` makes of the default one', async () => {
    const { packages } = await findPackages(models);
    const source = packages.find(({ directory }) => directory === pocket);
    const variant = packages.find(({ directory }) => directory === shipped);
    if (!source || !variant) throw new Error('models/ has to hold pocket and pocket-int8');
    const { files } = await quantizePackage({ source, out: join(root, 'pocket-int8'), precision: 'int8' });
    expect(variant.manifest).toMatchObject({ name: 'pocket-int8', version: source.manifest.version, files });
  });

  it('makes, bit for bit, the video of the default one quantized when it is loaded', async () => {
    expect((await video(shipped, 'int8')).equals(await video(pocket, 'int8'))).toBe(true);
  });

  it('stands beside the default one, which stays the default', async () => {
    await using engine = await openEngine({ models, threads: 1 });
    const names = engine.models().map(({ name }) => name);
    expect([names[0], names.includes('pocket-int8')]).toEqual(['pocket', true]);
  });
});

describe('a video from an imported package', () => {
  it('is, bit for bit, that of the package the checkpoint came from', async () => {
    const made = adopt(await imported('exact', { precision: 'fp32' }));
    const expected = await video(pocket, 'bf16');
    expect(new Set(expected).size).toBeGreaterThan(20);
    expect((await video(made, 'bf16')).equals(expected)).toBe(true);
  });

  it('in int8 is that of the same weights quantized when they are loaded', async () => {
    const made = adopt(await imported('small', { precision: 'int8', textEncoder: 'fp32' }));
    expect((await video(made, 'int8')).equals(await video(pocket, 'int8'))).toBe(true);
  });

  it.each([
    ['bf16', undefined],
    ['int8', 'int8'],
    ['fp8', 'int8'],
  ] as const)('can be made in %s with the settings that the import assumes', async (precision, textEncoder) => {
    const made = await imported(`own-${precision}`, { precision, textEncoder });
    const frames = await video(made, precision === 'int8' ? 'int8' : 'bf16');
    expect(new Set(frames).size).toBeGreaterThan(20);
  });

  it('changes with an adapter, as strongly as it is asked to', async () => {
    const exact = { precision: 'fp32' } as const;
    const [off, on] = [
      adopt(await imported('off', { ...exact, loras: [{ path: lora, weight: 0 }] })),
      adopt(await imported('on', { ...exact, loras: [{ path: lora, weight: 1 }] })),
    ];
    const expected = await video(pocket, 'bf16');
    expect((await video(off, 'bf16')).equals(expected)).toBe(true);
    expect((await video(on, 'bf16')).equals(expected)).toBe(false);
  });
});
