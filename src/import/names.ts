/** From the names that tensors have in the wild to those of the reference. */

import { printed } from '../files/printable.js';
import { ImportError, quoted } from './errors.js';
import { APART, EMA_KEYS, MARKS, PREFIXES } from './layouts.js';
import type { Tensor } from './tensor.js';
import { NESTED } from './torch.js';

/** Left in names by FSDP, activation checkpointing and `torch.compile`. */
const WRAPPERS = new Set(['_fsdp_wrapped_module', '_checkpoint_wrapped_module', '_orig_mod']);

/** Where checkpoints keep what inference needs, best first; the rest (critic, optimizers) is for training. */
const OUTER_KEYS = [
  ...['generator', 'generator_ema', 'generator_lora', 'model', 'state_dict', 'module', 'model_state_dict'],
  ...['transformer', 'dit', 'net', 'weights', 'params', 'student', ...EMA_KEYS],
];
/** Around those, in what tools convert (dcp_to_torch) and trainers nest. */
const AROUND = ['app', 'checkpoint', 'state'];

export interface NamedTensors {
  /** The outer key they were found under, if any. */
  outer: string;
  tensors: Map<string, Tensor>;
  /** The other outer keys, with their numbers of tensors. */
  left: ReadonlyMap<string, number>;
}

/** The tensors for inference in a file, under their plain names. Those under a key of `first` are preferred. */
export function pickTensors(
  tensors: readonly Tensor[],
  first: readonly string[] = [],
  naming: (tensors: readonly Tensor[]) => Map<string, Tensor> = plainNames,
): NamedTensors {
  const groups = new Map<string, Tensor[]>();
  for (const tensor of tensors) {
    const keys = tensor.name.split(NESTED);
    const name = keys.pop() as string;
    const [, apart] = APART.exec(name) ?? [];
    const outer = [...keys, ...(apart === undefined ? [] : [apart])].join(NESTED);
    const own = apart === undefined ? tensor : { ...tensor, name: name.slice(apart.length + 1) };
    const group = groups.get(outer);
    if (group) group.push(own);
    else groups.set(outer, [own]);
  }
  const outer = bestOf(new Map([...groups].map(([key, { length }]) => [key, length])), first);
  if (outer === undefined) throw noneUsable([...groups.keys()]);
  const left = new Map<string, number>();
  for (const [key, { length }] of groups) {
    const [first = ''] = key.split(NESTED);
    if (key !== outer) left.set(first, (left.get(first) ?? 0) + length);
  }
  return { outer, tensors: naming(groups.get(outer) as Tensor[]), left };
}

/**
 * The one whose keys are all known and come first in the order; else what stands under no key, as it also does where the only
 * others are averages of it that nobody asked for.
 */
function bestOf(sizes: ReadonlyMap<string, number>, first: readonly string[]): string | undefined {
  const outers = [...sizes.keys()];
  const order = [...first, ...OUTER_KEYS];
  const rankOf = (outer: string) => outer.split(NESTED).map((key) => [...order, ...AROUND].indexOf(key));
  const usable = outers.filter((outer) => outer !== '' && !rankOf(outer).includes(-1));
  const [best] = usable.sort((a, b) => compareRanks(rankOf(a), rankOf(b)));
  const averaged = best !== undefined && !first.includes(best) && EMA_KEYS.includes(best);
  const whole = (sizes.get('') ?? 0) >= (sizes.get(best ?? '') ?? 0) / 2;
  return best === undefined || (averaged && whole) ? (sizes.has('') ? '' : best) : best;
}

function compareRanks(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((rank, i) => rank !== b[i]);
  return at < 0 ? a.length - b.length : (a[at] as number) - (b[at] ?? -1);
}

function noneUsable(outers: readonly string[]): ImportError {
  if (outers.length === 0) return new ImportError('The file has no tensors; save or download it again.');
  const found = outers
    .slice(0, 5)
    .map((outer) => quoted(outer.replaceAll(NESTED, '.')))
    .join(', ');
  return new ImportError(
    printed`The file keeps its weights under ${found}; none of these is known to hold what a network generates with (such as "${OUTER_KEYS.slice(0, 5).join('", "')}"). ` +
      'Save the state dict of the network by itself, and import that.',
  );
}

/** Removes the segments of wrappers, then every prefix that all names share. */
export function plainNames(tensors: readonly Tensor[]): Map<string, Tensor> {
  let names = tensors.map(({ name }) => withoutWrappers(name.split(NESTED).at(-1) as string));
  for (let found = sharedPrefix(names); found; found = sharedPrefix(names)) {
    const prefix = found;
    const { length } = prefix;
    names = names.map((name) => (name.startsWith(prefix) ? name.slice(length) : name));
  }
  return named(names, tensors);
}

/** Removes the segments of wrappers only. */
export function unwrappedNames(tensors: readonly Tensor[]): Map<string, Tensor> {
  return named(
    tensors.map(({ name }) => withoutWrappers(name.split(NESTED).at(-1) as string)),
    tensors,
  );
}

function named(names: readonly string[], tensors: readonly Tensor[]): Map<string, Tensor> {
  const plain = new Map<string, Tensor>();
  names.forEach((name, i) => {
    if (plain.has(name))
      throw new ImportError(printed`Two tensors are called ${quoted(name)} once their prefixes are gone.`);
    plain.set(name, tensors[i] as Tensor);
  });
  return plain;
}

function withoutWrappers(name: string): string {
  return name
    .split('.')
    .filter((segment) => !WRAPPERS.has(segment))
    .join('.');
}

/** What stands beside the weights in some files need not have it. */
function sharedPrefix(all: readonly string[]): string | undefined {
  const names = all.filter((name) => !MARKS.test(name));
  return names.length === 0 ? undefined : PREFIXES.find((prefix) => names.every((name) => name.startsWith(prefix)));
}

type Rule = readonly [RegExp, string];

/** Diffusers' transformer (`WanTransformer3DModel`). */
const DIFFUSERS_DIT: readonly Rule[] = [
  [/^condition_embedder\.time_embedder\.linear_1\./, 'time_embedding.0.'],
  [/^condition_embedder\.time_embedder\.linear_2\./, 'time_embedding.2.'],
  [/^condition_embedder\.text_embedder\.linear_1\./, 'text_embedding.0.'],
  [/^condition_embedder\.text_embedder\.linear_2\./, 'text_embedding.2.'],
  [/^condition_embedder\.time_proj\./, 'time_projection.1.'],
  [/^scale_shift_table$/, 'head.modulation'],
  [/^(blocks\.\d+)\.scale_shift_table$/, '$1.modulation'],
  [/^(blocks\.\d+)\.attn1\.to_([qkv])\./, '$1.self_attn.$2.'],
  [/^(blocks\.\d+)\.attn1\.to_out\.0\./, '$1.self_attn.o.'],
  [/^(blocks\.\d+)\.attn1\./, '$1.self_attn.'],
  [/^(blocks\.\d+)\.attn2\.to_([qkv])\./, '$1.cross_attn.$2.'],
  [/^(blocks\.\d+)\.attn2\.to_out\.0\./, '$1.cross_attn.o.'],
  [/^(blocks\.\d+)\.attn2\./, '$1.cross_attn.'],
  [/^(blocks\.\d+)\.norm2\./, '$1.norm3.'],
  [/^(blocks\.\d+)\.ffn\.net\.0\.proj\./, '$1.ffn.0.'],
  [/^(blocks\.\d+)\.ffn\.net\.2\./, '$1.ffn.2.'],
  [/^proj_out\./, 'head.head.'],
];

// -- modules of adapters

const PROCESSOR = /^(.+)\.processor\.(to_[qkv]|to_out)_lora$/;
/** kohya's and LyCORIS's: a word of the trainer, then the module with underscores for dots. */
const FLAT = /^(?:lora|lycoris)_(?:(?:unet|transformer|dit|generator|wan)(?=[._]))?[._]*(.+)$/;
const FLAT_PREFIX =
  /^(?:(?:orig_mod|module|base_model|diffusion_model|model|transformer|pipe_dit|dit|unet)_)+(?=blocks_|head_|time_|text_|patch_|condition_|proj_)/;

const partsOf = (name: string, parts: readonly string[]) => parts.map((part) => `${name}.${part}`);
/** Of a block, in both families of names. */
const BLOCK_MODULES = [
  ...['self_attn', 'cross_attn'].flatMap((name) =>
    partsOf(name, ['q', 'k', 'v', 'o', 'norm_q', 'norm_k', 'qkv', 'kv']),
  ),
  ...['attn1', 'attn2'].flatMap((name) =>
    partsOf(name, ['to_q', 'to_k', 'to_v', 'to_out.0', 'norm_q', 'norm_k', 'to_qkv', 'to_kv']),
  ),
  ...['ffn.0', 'ffn.2', 'ffn.net.0.proj', 'ffn.net.2', 'norm3', 'norm2'],
];
const TOP_MODULES = [
  ...['patch_embedding', 'text_embedding.0', 'text_embedding.2', 'time_embedding.0', 'time_embedding.2'],
  ...['time_projection.1', 'head.head', 'head', 'proj_out', 'condition_embedder.time_proj'],
  ...['time', 'text'].flatMap((kind) => [1, 2].map((i) => `condition_embedder.${kind}_embedder.linear_${i}`)),
];
const flattened = (name: string) => name.replace(/[._]+/g, '_');
const byFlatName = (names: readonly string[]) => new Map(names.map((name) => [flattened(name), name]));
const FLAT_BLOCK = byFlatName(BLOCK_MODULES);
const FLAT_TOP = byFlatName(TOP_MODULES);

/** The weight that a module of an adapter changes, and the module's name without what stands in front. */
export function adaptedModule(module: string): { target: string; plain: string } {
  const plain = FLAT.test(module) ? unflattened(module) : withoutPrefixes(module.replace(PROCESSOR, processed));
  return { target: referenceName('dit', `${plain}.weight`), plain };
}

function processed(_: string, attention: string, part: string): string {
  return `${attention}.${part === 'to_out' ? 'to_out.0' : part}`;
}

function withoutPrefixes(name: string): string {
  const prefix = PREFIXES.find((each) => name.startsWith(each));
  return prefix === undefined ? name : withoutPrefixes(name.slice(prefix.length));
}

/** A name that is not known stays, for whoever compares it with the network to tell. */
function unflattened(module: string): string {
  const rest = flattened(FLAT.exec(module)?.[1] ?? module).replace(FLAT_PREFIX, '');
  const [, index, inner = ''] = /^blocks_(\d+)_(.+)$/.exec(rest) ?? [];
  const found = index === undefined ? FLAT_TOP.get(rest) : FLAT_BLOCK.get(inner);
  if (found === undefined) return rest;
  return index === undefined ? found : `blocks.${index}.${found}`;
}

/** Hugging Face's UMT5. */
const HF_UMT5: readonly Rule[] = [
  [/^(?:shared|encoder\.embed_tokens)\./, 'token_embedding.'],
  [/^encoder\.final_layer_norm\./, 'norm.'],
  [/^encoder\.block\.(\d+)\.layer\.0\.layer_norm\./, 'blocks.$1.norm1.'],
  [/^encoder\.block\.(\d+)\.layer\.1\.layer_norm\./, 'blocks.$1.norm2.'],
  [/^encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.relative_attention_bias\./, 'blocks.$1.pos_embedding.embedding.'],
  [/^encoder\.block\.(\d+)\.layer\.0\.SelfAttention\./, 'blocks.$1.attn.'],
  [/^encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wi_0\./, 'blocks.$1.ffn.gate.0.'],
  [/^encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wi_1\./, 'blocks.$1.ffn.fc1.'],
  [/^encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wo\./, 'blocks.$1.ffn.fc2.'],
];

/** Diffusers' `AutoencoderKLWan`. */
const DIFFUSERS_VAE: readonly Rule[] = [
  [/^quant_conv\./, 'conv1.'],
  [/^post_quant_conv\./, 'conv2.'],
  [/^(encoder|decoder)\.conv_in\./, '$1.conv1.'],
  [/^(encoder|decoder)\.norm_out\./, '$1.head.0.'],
  [/^(encoder|decoder)\.conv_out\./, '$1.head.2.'],
  [/^(encoder|decoder)\.mid_block\.resnets\.0\./, '$1.middle.0.'],
  [/^(encoder|decoder)\.mid_block\.attentions\.0\./, '$1.middle.1.'],
  [/^(encoder|decoder)\.mid_block\.resnets\.1\./, '$1.middle.2.'],
  [/^encoder\.down_blocks\.(\d+)\./, 'encoder.downsamples.$1.'],
];

/** Inside a residual block. */
const DIFFUSERS_RESIDUAL: readonly Rule[] = [
  [/\.norm1\./, '.residual.0.'],
  [/\.conv1\./, '.residual.2.'],
  [/\.norm2\./, '.residual.3.'],
  [/\.conv2\./, '.residual.6.'],
  [/\.conv_shortcut\./, '.shortcut.'],
];

const RESIDUAL = /^(encoder|decoder)\.(middle\.[02]|downsamples\.\d+|upsamples\.\d+)\./;

/** Blocks of a decoder stage: three residual ones, then one that resamples. */
const STAGE = 4;

export type Component = 'dit' | 'textEncoder' | 'vae' | 'tinyVae';

/** The reference's name of a tensor; a name that is one already stays. */
export function referenceName(component: Component, name: string): string {
  if (component === 'dit') return apply(DIFFUSERS_DIT, name);
  if (component === 'textEncoder') return apply(HF_UMT5, name);
  return component === 'vae' ? vaeName(name) : name;
}

function vaeName(name: string): string {
  const staged = apply(DIFFUSERS_VAE, name)
    .replace(/^decoder\.up_blocks\.(\d+)\.resnets\.(\d+)\./, (_, stage, block) =>
      upsample(Number(stage), Number(block)),
    )
    .replace(/^decoder\.up_blocks\.(\d+)\.upsamplers\.0\./, (_, stage) => upsample(Number(stage), STAGE - 1));
  return RESIDUAL.test(staged) ? apply(DIFFUSERS_RESIDUAL, staged) : staged;
}

function upsample(stage: number, block: number): string {
  return `decoder.upsamples.${STAGE * stage + block}.`;
}

/** The first rule that fits. */
function apply(rules: readonly Rule[], name: string): string {
  const rule = rules.find(([pattern]) => pattern.test(name));
  return rule ? name.replace(rule[0], rule[1]) : name;
}
