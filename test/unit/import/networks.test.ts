import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, vi } from 'vitest';
import { memoryBytes } from '../../../src/import/bytes.js';
import { componentOf, readNetwork, shapesOf } from '../../../src/import/components.js';
import { type Component, pickTensors, plainNames } from '../../../src/import/names.js';
import { type Shapes } from '../../../src/import/shapes.js';
import { readTensors } from '../../../src/import/source.js';
import type { Tensor } from '../../../src/import/tensor.js';

interface Listed {
  name: string;
  shape: number[];
}

vi.setConfig({ testTimeout: 60_000 });

const golden = (name: string) => fileURLToPath(new URL(`../../golden/${name}`, import.meta.url));
const manifest = JSON.parse(readFileSync(golden('manifest_1.3b.json'), 'utf8')) as Record<string, Listed[]>;
const OF: Record<Component, string> = { dit: 'generator', textEncoder: 'umt5', vae: 'vae', tinyVae: 'taehv' };
const COMPONENTS = Object.keys(OF) as Component[];

const tensor = (name: string, shape: readonly number[], dtype: Tensor['dtype'] = 'F32'): Tensor => ({
  ...{ name, dtype, shape },
  read: async () => new Uint8Array(),
});
const listed = (component: Component) => manifest[OF[component]] as Listed[];
const released = (component: Component, rename: (name: string) => string = (name) => name) =>
  new Map(listed(component).map(({ name, shape }) => [rename(name), tensor(name, shape)]));
const sorted = (shapes: Shapes) => Object.fromEntries([...shapes].sort(([a], [b]) => (a < b ? -1 : 1)));

describe('the networks of Wan2.1-T2V-1.3B', () => {
  it.each(COMPONENTS)('%s: sizes are read off the shapes, and imply exactly the released tensors', (component) => {
    const { sizes, tensors } = readNetwork(component, released(component));
    const used = listed(component).filter(({ name }) => component !== 'tinyVae' || name.startsWith('decoder.'));
    expect(sorted(shapesOf(component, sizes))).toEqual(sorted(new Map(used.map(({ name, shape }) => [name, shape]))));
    expect(tensors.size).toBe(used.length);
  });

  it('are those of the released configuration', () => {
    expect(readNetwork('dit', released('dit')).sizes).toMatchObject({
      ...{ dim: 1536, ffnDim: 8960, numHeads: 12, numLayers: 30, freqDim: 256, textDim: 4096, textLen: 512 },
      ...{ inDim: 16, outDim: 16, patchSize: [1, 2, 2] },
    });
    expect(readNetwork('textEncoder', released('textEncoder')).sizes).toMatchObject({
      ...{ vocabSize: 256384, dim: 4096, dimAttn: 4096, dimFfn: 10240, numHeads: 64, numLayers: 24, numBuckets: 32 },
    });
    expect(readNetwork('vae', released('vae')).sizes).toMatchObject({ dim: 96, zDim: 16 });
    expect(readNetwork('tinyVae', released('tinyVae')).sizes).toMatchObject({ channels: [256, 128, 64, 64], zDim: 16 });
  });

  it.each(COMPONENTS)('%s is told from the others', (component) => {
    expect(componentOf(released(component))).toBe(component);
  });
});

/** The names of Diffusers and Hugging Face, written out from their side. */
describe('other names', () => {
  const diffusersBlock = (name: string) =>
    name
      .replace('.modulation', '.scale_shift_table')
      .replace(/self_attn\.([qkv])\./, 'attn1.to_$1.')
      .replace('self_attn.o.', 'attn1.to_out.0.')
      .replace('self_attn.norm_', 'attn1.norm_')
      .replace(/cross_attn\.([qkv])\./, 'attn2.to_$1.')
      .replace('cross_attn.o.', 'attn2.to_out.0.')
      .replace('cross_attn.norm_', 'attn2.norm_')
      .replace('norm3', 'norm2')
      .replace('ffn.0.', 'ffn.net.0.proj.')
      .replace('ffn.2.', 'ffn.net.2.');
  const diffusersDit = (name: string) => {
    if (name.startsWith('blocks.')) return diffusersBlock(name);
    const time = name
      .replace('time_embedding.0', 'time_embedder.linear_1')
      .replace('time_embedding.2', 'time_embedder.linear_2');
    const text = time
      .replace('text_embedding.0', 'text_embedder.linear_1')
      .replace('text_embedding.2', 'text_embedder.linear_2');
    const embedded = text.replace('time_projection.1', 'time_proj');
    if (embedded !== name) return `condition_embedder.${embedded}`;
    return name.replace('head.modulation', 'scale_shift_table').replace('head.head', 'proj_out');
  };
  const hf = (name: string) =>
    name
      .replace('token_embedding', 'shared')
      .replace(/^norm\./, 'encoder.final_layer_norm.')
      .replace(/^blocks\.(\d+)\.norm1/, 'encoder.block.$1.layer.0.layer_norm')
      .replace(/^blocks\.(\d+)\.norm2/, 'encoder.block.$1.layer.1.layer_norm')
      .replace(/^blocks\.(\d+)\.attn/, 'encoder.block.$1.layer.0.SelfAttention')
      .replace(
        /^blocks\.(\d+)\.pos_embedding\.embedding/,
        'encoder.block.$1.layer.0.SelfAttention.relative_attention_bias',
      )
      .replace(/^blocks\.(\d+)\.ffn\.gate\.0/, 'encoder.block.$1.layer.1.DenseReluDense.wi_0')
      .replace(/^blocks\.(\d+)\.ffn\.fc1/, 'encoder.block.$1.layer.1.DenseReluDense.wi_1')
      .replace(/^blocks\.(\d+)\.ffn\.fc2/, 'encoder.block.$1.layer.1.DenseReluDense.wo');
  const diffusersVae = (name: string) => {
    if (/^conv[12]\./.test(name)) return name.replace('conv1', 'quant_conv').replace('conv2', 'post_quant_conv');
    return name
      .replace(/^(encoder|decoder)\.conv1/, '$1.conv_in')
      .replace('head.0', 'norm_out')
      .replace('head.2', 'conv_out')
      .replace('middle.0', 'mid_block.resnets.0')
      .replace('middle.1', 'mid_block.attentions.0')
      .replace('middle.2', 'mid_block.resnets.1')
      .replace('residual.0', 'norm1')
      .replace('residual.2', 'conv1')
      .replace('residual.3', 'norm2')
      .replace('residual.6', 'conv2')
      .replace('shortcut', 'conv_shortcut')
      .replace('downsamples', 'down_blocks')
      .replace(/upsamples\.(\d+)/, (_, index: string) => {
        const [stage, block] = [Math.floor(Number(index) / 4), Number(index) % 4];
        return block === 3 ? `up_blocks.${stage}.upsamplers.0` : `up_blocks.${stage}.resnets.${block}`;
      });
  };

  it.each([
    ['dit', diffusersDit, 'blocks.29.attn2.to_out.0.bias'],
    ['textEncoder', hf, 'encoder.block.23.layer.1.DenseReluDense.wi_0.weight'],
    ['vae', diffusersVae, 'decoder.up_blocks.1.resnets.0.conv_shortcut.weight'],
  ] as const)('%s of Diffusers or Hugging Face', (component, rename, example) => {
    const renamed = released(component, rename);
    expect(renamed.has(example)).toBe(true);
    expect(componentOf(renamed)).toBe(component);
    const { tensors } = readNetwork(component, renamed);
    for (const [name, { name: original }] of tensors) expect(name).toBe(original);
    expect(tensors.size).toBe(listed(component).length);
  });

  it('takes the embedding of a text encoder once, by either name', () => {
    const tied = released('textEncoder', hf);
    const embedding = tied.get('shared.weight') as Tensor;
    tied.set('encoder.embed_tokens.weight', embedding).set('lm_head.weight', embedding);
    expect(readNetwork('textEncoder', tied).tensors.size).toBe(242);
    tied.delete('shared.weight');
    expect(readNetwork('textEncoder', tied).tensors.size).toBe(242);
  });

  it('takes the last rows of a growth layer that has too many', async () => {
    const tiny = released('tinyVae');
    const asked: number[][] = [];
    const read = async (from: number, to: number) => (asked.push([from, to]), new Uint8Array());
    tiny.set('decoder.7.conv.weight', { ...tensor('grow', [512, 256, 1, 1]), read });
    const grow = readNetwork('tinyVae', tiny).tensors.get('decoder.7.conv.weight') as Tensor;
    await grow.read(0, 10);
    expect(grow.shape).toEqual([256, 256, 1, 1]);
    expect(asked).toEqual([[256 * 256, 256 * 256 + 10]]);
  });

  it('refuses two tensors of one name', () => {
    expect(() => plainNames([tensor('model.a', [1]), tensor('model._orig_mod.a', [1])])).toThrow(/called "a"/);
  });
});

describe('what is wrong with a set of weights', () => {
  it('is listed in one error', () => {
    const dit = released('dit');
    dit.delete('blocks.3.ffn.0.bias');
    dit.delete('head.modulation');
    dit.set('blocks.2.norm3.weight', tensor('x', [1535]));
    dit.set('blocks.2.norm3.extra', tensor('x', [1]));
    dit.set('blocks.4.norm3.bias', tensor('x', [1536], 'I64'));
    const message = (() => {
      try {
        readNetwork('dit', dit);
      } catch (error) {
        return (error as Error).message;
      }
      return '';
    })();
    expect(message).toContain('2 missing:\n    blocks.3.ffn.0.bias\n    head.modulation');
    expect(message).toContain('1 not known:\n    blocks.2.norm3.extra');
    expect(message).toContain('blocks.2.norm3.weight [1535] instead of [1536]');
    expect(message).toContain('blocks.4.norm3.bias I64');
  });

  it('may be a VAE whose latents nobody knows', () => {
    const known = readNetwork('vae', released('vae')).sizes;
    const own = { ...known, dim: 16, zDim: 3, dimMult: [1, 2, 6, 6], mean: [0.5, 0, -1], std: [1, 2, 0.25] };
    const weights = new Map([...shapesOf('vae', own)].map(([name, shape]) => [name, tensor(name, shape)]));
    const { mean, std } = own;
    expect(readNetwork('vae', weights, { mean, std }).sizes).toEqual(own);
    expect(() => readNetwork('vae', weights)).toThrow(
      /3 latent channels, but 16 means and 16 deviations.*latents_mean/,
    );
    expect(() => readNetwork('vae', weights, { mean, std: [1, 2] })).toThrow(/3 means and 2 deviations/);
    expect(() => readNetwork('vae', weights, { mean, std: [1, 0, 2] })).toThrow(/not above 0/);
  });

  it('may be that nobody knows its number of heads', () => {
    const dit = new Map([
      ['patch_embedding.weight', tensor('p', [24, 16, 1, 2, 2])],
      ['head.head.weight', tensor('h', [64, 24])],
      ['blocks.0.ffn.0.weight', tensor('f', [40, 24])],
    ]);
    expect(() => readNetwork('dit', dit)).toThrow(/--heads/);
  });
});

describe('the golden checkpoints', () => {
  const picked = async (name: string, first: readonly string[] = []) => {
    const bytes = readFileSync(golden(`checkpoints/${name}`));
    return pickTensors(await readTensors(memoryBytes(bytes)), first);
  };

  it.each([
    ['base_bf16.pt', 'generator', 69],
    ['base_bf16_archive.pt', 'generator', 69],
    ['base_bf16_legacy.pt', 'generator', 69],
    ['base_fp32_extra.pt', 'generator', 69],
    ['ema_fsdp_fp32.pt', 'generator', 69],
    ['model_key_fp32.pt', 'model', 69],
  ])('%s: a whole network under "%s"', async (name, outer, count) => {
    const found = await picked(name);
    expect(found.outer).toBe(outer);
    expect(readNetwork('dit', found.tensors, { numHeads: 2, textLen: 8 })).toMatchObject({
      sizes: { dim: 24, ffnDim: 40, numHeads: 2, numLayers: 2, freqDim: 32, textDim: 16, textLen: 8 },
    });
    expect(found.tensors.size).toBe(count);
  });

  it('has the averaged weights when asked for them', async () => {
    const found = await picked('ema_fsdp_fp32.pt', ['generator_ema']);
    expect(found.outer).toBe('generator_ema');
    expect(readNetwork('dit', found.tensors, { numHeads: 2 }).tensors.size).toBe(69);
  });
});
