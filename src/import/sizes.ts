/** The sizes of the four networks, read off the shapes of their tensors; config.json of docs/model-package.md. */

import { printed } from '../files/printable.js';
import { ImportError } from './errors.js';

export interface DitSizes {
  dim: number;
  ffnDim: number;
  numHeads: number;
  numLayers: number;
  freqDim: number;
  inDim: number;
  outDim: number;
  textDim: number;
  textLen: number;
  patchSize: readonly number[];
  eps: number;
  ropeTheta: number;
  ropeTableLength: number;
}

export interface TextEncoderSizes {
  vocabSize: number;
  dim: number;
  dimAttn: number;
  dimFfn: number;
  numHeads: number;
  numLayers: number;
  numBuckets: number;
  maxDistance: number;
  eps: number;
}

export interface VaeSizes {
  dim: number;
  zDim: number;
  dimMult: readonly number[];
  numResBlocks: number;
  temporalDownsample: readonly boolean[];
  mean: readonly number[];
  std: readonly number[];
}

export interface TinyVaeSizes {
  channels: readonly number[];
  zDim: number;
  timeUpscale: readonly number[];
}

/** What the shapes do not tell. */
export interface DitHints {
  numHeads?: number;
  textLen?: number;
  ropeTableLength?: number;
  ropeTheta?: number;
  eps?: number;
}

export interface TextEncoderHints {
  maxDistance?: number;
  textEps?: number;
}

/** What the latents were shifted and divided by for the network that makes them: a number per channel. */
export interface VaeHints {
  mean?: readonly number[];
  std?: readonly number[];
}

export interface Hints extends DitHints, TextEncoderHints, VaeHints {
  /** Of a model package's config.json, taken as they are. */
  sampling?: Readonly<Record<string, unknown>>;
  video?: Readonly<Record<string, unknown>>;
}

export type ShapeOf = (name: string) => readonly number[] | undefined;

/** Of Wan2.1, for the latents that LongLive's network was trained on. */
const LATENT_MEAN = [
  -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517, -0.3632, -0.1922,
  -0.9497, 0.2503, -0.2921,
];
const LATENT_STD = [
  2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253,
  2.8251, 1.916,
];

/** Every Wan model has heads of this width; smaller ones have to say how many heads they have. */
const HEAD_WIDTH = 128;

export function ditSizes(shapeOf: ShapeOf, hints: DitHints = {}): DitSizes {
  const [dim, inDim, ...patchSize] = need(shapeOf, 'patch_embedding.weight', 5);
  const [headWidth] = need(shapeOf, 'head.head.weight', 2);
  const patch = patchSize.reduce((product, size) => product * size, 1);
  return {
    dim,
    ffnDim: need(shapeOf, 'blocks.0.ffn.0.weight', 2)[0],
    numHeads: headsOf(dim, hints.numHeads),
    numLayers: layers(shapeOf, (i) => `blocks.${i}.self_attn.q.weight`),
    freqDim: need(shapeOf, 'time_embedding.0.weight', 2)[1],
    inDim,
    outDim: headWidth / patch,
    textDim: need(shapeOf, 'text_embedding.0.weight', 2)[1],
    textLen: whole('length of the text', hints.textLen ?? 512, LONGEST_TEXT),
    patchSize,
    eps: hints.eps ?? 1e-6,
    ropeTheta: hints.ropeTheta ?? 10_000,
    ropeTableLength: hints.ropeTableLength ?? 1_024,
  };
}

/** Tokens; the native core's limit. */
const LONGEST_TEXT = 65_536;

function whole(what: string, value: number, most: number): number {
  if (Number.isInteger(value) && value >= 1 && value <= most) return value;
  throw new ImportError(printed`The ${what} is stated as ${value}; it must be a whole number from 1 to ${most}.`);
}

function headsOf(dim: number, said: number | undefined): number {
  if (said !== undefined) {
    if (dim % whole('number of heads', said, dim) === 0) return said;
    throw new ImportError(
      printed`A network of width ${dim} cannot have ${said} heads; give the right number with --heads.`,
    );
  }
  if (dim % HEAD_WIDTH === 0) return dim / HEAD_WIDTH;
  throw new ImportError(
    printed`A network of width ${dim} is not a known Wan size; give its number of heads with --heads.`,
  );
}

export function textEncoderSizes(shapeOf: ShapeOf, hints: TextEncoderHints = {}): TextEncoderSizes {
  const [vocabSize, dim] = need(shapeOf, 'token_embedding.weight', 2);
  const [numBuckets, numHeads] = need(shapeOf, 'blocks.0.pos_embedding.embedding.weight', 2);
  return {
    ...{ vocabSize, dim, numHeads, numBuckets },
    dimAttn: need(shapeOf, 'blocks.0.attn.q.weight', 2)[0],
    dimFfn: need(shapeOf, 'blocks.0.ffn.fc1.weight', 2)[0],
    numLayers: layers(shapeOf, (i) => `blocks.${i}.attn.q.weight`),
    maxDistance: hints.maxDistance ?? 128,
    eps: hints.textEps ?? 1e-6,
  };
}

export function vaeSizes(shapeOf: ShapeOf, hints: VaeHints = {}): VaeSizes {
  const [dim] = need(shapeOf, 'encoder.conv1.weight', 5);
  const [zDim] = need(shapeOf, 'conv2.weight', 5);
  const widths = [0, 3, 6, 9].map((block) => need(shapeOf, `encoder.downsamples.${block}.residual.2.weight`, 5)[0]);
  return {
    ...{ dim, zDim, dimMult: widths.map((width) => width / dim), numResBlocks: 2 },
    temporalDownsample: [false, true, true],
    ...latentsOf(zDim, { mean: hints.mean ?? LATENT_MEAN, std: hints.std ?? LATENT_STD }),
  };
}

function latentsOf(zDim: number, { mean, std }: Required<VaeHints>): Required<VaeHints> {
  if (std.some((deviation) => deviation <= 0))
    throw new ImportError('latents_std has a deviation that is not above 0.');
  if (mean.length === zDim && std.length === zDim) return { mean, std };
  throw new ImportError(
    printed`The VAE has ${zDim} latent channels, but ${mean.length} means and ${std.length} deviations of them are known ` +
      printed`(Wan2.1's, where nothing says others). Put a config.json with latents_mean and latents_std, ${zDim} numbers each, beside its weights.`,
  );
}

export function tinyVaeSizes(shapeOf: ShapeOf): TinyVaeSizes {
  const [first, zDim] = need(shapeOf, 'decoder.1.weight', 4);
  const rest = [8, 14, 20].map((layer) => need(shapeOf, `decoder.${layer}.weight`, 4)[0]);
  return { channels: [first, ...rest], zDim, timeUpscale: [1, 2, 2] };
}

function layers(shapeOf: ShapeOf, name: (layer: number) => string): number {
  let count = 0;
  while (shapeOf(name(count))) count++;
  return count;
}

type Fixed<N extends number> = N extends 2
  ? [number, number]
  : N extends 4
    ? [number, number, number, number]
    : [number, number, number, number, number];

function need<N extends 2 | 4 | 5>(shapeOf: ShapeOf, name: string, rank: N): Fixed<N> {
  const shape = shapeOf(name);
  if (!shape)
    throw new ImportError(
      printed`The weights lack "${name}". The file is incomplete, or one of several that belong together.`,
    );
  if (shape.length !== rank)
    throw new ImportError(printed`"${name}" has shape [${shape.join(', ')}]; it should have ${rank} sizes.`);
  if (shape.includes(0)) throw new ImportError(printed`"${name}" has shape [${shape.join(', ')}]: it is empty.`);
  return shape as unknown as Fixed<N>;
}
