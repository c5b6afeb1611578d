/** Names and shapes of every tensor of the four networks, as their sizes imply them; names as in the reference. */

import type { DitSizes, TextEncoderSizes, TinyVaeSizes, VaeSizes } from './sizes.js';

export type Shapes = Map<string, readonly number[]>;

class ShapeList {
  readonly shapes: Shapes = new Map();

  add(name: string, ...shape: number[]): void {
    this.shapes.set(name, shape);
  }

  /** A weight of any rank with its bias. */
  layer(name: string, ...weight: number[]): void {
    this.add(`${name}.weight`, ...weight);
    this.add(`${name}.bias`, weight[0] as number);
  }
}

/** What the shapes of a video network follow from. */
export type DitWidths = Omit<DitSizes, 'numHeads' | 'textLen' | 'eps' | 'ropeTheta' | 'ropeTableLength'>;

export function ditShapes(sizes: DitWidths): Shapes {
  const { dim, ffnDim, numLayers, freqDim, inDim, outDim, textDim, patchSize } = sizes;
  const list = new ShapeList();
  list.layer('patch_embedding', dim, inDim, ...patchSize);
  list.layer('text_embedding.0', dim, textDim);
  list.layer('text_embedding.2', dim, dim);
  list.layer('time_embedding.0', dim, freqDim);
  list.layer('time_embedding.2', dim, dim);
  list.layer('time_projection.1', 6 * dim, dim);
  for (let i = 0; i < numLayers; i++) ditBlock(list, `blocks.${i}`, dim, ffnDim);
  list.add('head.modulation', 1, 2, dim);
  list.layer('head.head', outDim * patchSize.reduce((product, size) => product * size, 1), dim);
  return list.shapes;
}

function ditBlock(list: ShapeList, block: string, dim: number, ffnDim: number): void {
  list.add(`${block}.modulation`, 1, 6, dim);
  for (const attention of ['self_attn', 'cross_attn']) {
    for (const part of ['q', 'k', 'v', 'o']) list.layer(`${block}.${attention}.${part}`, dim, dim);
    list.add(`${block}.${attention}.norm_q.weight`, dim);
    list.add(`${block}.${attention}.norm_k.weight`, dim);
  }
  list.layer(`${block}.norm3`, dim);
  list.layer(`${block}.ffn.0`, ffnDim, dim);
  list.layer(`${block}.ffn.2`, dim, ffnDim);
}

export function textEncoderShapes(sizes: TextEncoderSizes): Shapes {
  const { vocabSize, dim, dimAttn, dimFfn, numHeads, numLayers, numBuckets } = sizes;
  const list = new ShapeList();
  list.add('token_embedding.weight', vocabSize, dim);
  for (let i = 0; i < numLayers; i++) {
    const block = `blocks.${i}`;
    list.add(`${block}.norm1.weight`, dim);
    for (const part of ['q', 'k', 'v']) list.add(`${block}.attn.${part}.weight`, dimAttn, dim);
    list.add(`${block}.attn.o.weight`, dim, dimAttn);
    list.add(`${block}.norm2.weight`, dim);
    list.add(`${block}.ffn.gate.0.weight`, dimFfn, dim);
    list.add(`${block}.ffn.fc1.weight`, dimFfn, dim);
    list.add(`${block}.ffn.fc2.weight`, dim, dimFfn);
    list.add(`${block}.pos_embedding.embedding.weight`, numBuckets, numHeads);
  }
  list.add('norm.weight', dim);
  return list.shapes;
}

export function vaeShapes({ dim, zDim, dimMult, numResBlocks, temporalDownsample }: VaeSizes): Shapes {
  const list = new ShapeList();
  const widths = dimMult.map((factor) => factor * dim);
  const widest = widths.at(-1) as number;
  list.layer('encoder.conv1', dim, 3, 3, 3, 3);
  encoderStages(list, [dim, ...widths], numResBlocks, temporalDownsample);
  middle(list, 'encoder', widest);
  head(list, 'encoder', widest, 2 * zDim);
  list.layer('conv1', 2 * zDim, 2 * zDim, 1, 1, 1);
  list.layer('conv2', zDim, zDim, 1, 1, 1);
  list.layer('decoder.conv1', widest, zDim, 3, 3, 3);
  middle(list, 'decoder', widest);
  decoderStages(list, [widest, ...[...widths].reverse()], numResBlocks, [...temporalDownsample].reverse());
  head(list, 'decoder', dim, 3);
  return list.shapes;
}

function encoderStages(list: ShapeList, widths: number[], blocks: number, temporal: readonly boolean[]): void {
  let index = 0;
  for (let stage = 0; stage + 1 < widths.length; stage++) {
    let width = widths[stage] as number;
    const out = widths[stage + 1] as number;
    for (let i = 0; i < blocks; i++, width = out) residual(list, `encoder.downsamples.${index++}`, width, out);
    if (stage + 2 < widths.length)
      resample(list, `encoder.downsamples.${index++}`, out, out, temporal[stage] ? out : 0);
  }
}

/** Each resampling of the decoder halves the channels. */
function decoderStages(list: ShapeList, widths: number[], blocks: number, temporal: readonly boolean[]): void {
  let index = 0;
  for (let stage = 0; stage + 1 < widths.length; stage++) {
    let width = stage === 0 ? (widths[0] as number) : (widths[stage] as number) / 2;
    const out = widths[stage + 1] as number;
    for (let i = 0; i <= blocks; i++, width = out) residual(list, `decoder.upsamples.${index++}`, width, out);
    if (stage + 2 < widths.length) {
      resample(list, `decoder.upsamples.${index++}`, out / 2, out, temporal[stage] ? 2 * out : 0);
    }
  }
}

function residual(list: ShapeList, name: string, width: number, out: number): void {
  list.add(`${name}.residual.0.gamma`, width, 1, 1, 1);
  list.layer(`${name}.residual.2`, out, width, 3, 3, 3);
  list.add(`${name}.residual.3.gamma`, out, 1, 1, 1);
  list.layer(`${name}.residual.6`, out, out, 3, 3, 3);
  if (width !== out) list.layer(`${name}.shortcut`, out, width, 1, 1, 1);
}

function resample(list: ShapeList, name: string, out: number, width: number, temporal: number): void {
  list.layer(`${name}.resample.1`, out, width, 3, 3);
  if (temporal > 0) list.layer(`${name}.time_conv`, temporal, width, 3, 1, 1);
}

function middle(list: ShapeList, side: string, width: number): void {
  residual(list, `${side}.middle.0`, width, width);
  list.add(`${side}.middle.1.norm.gamma`, width, 1, 1);
  list.layer(`${side}.middle.1.to_qkv`, 3 * width, width, 1, 1);
  list.layer(`${side}.middle.1.proj`, width, width, 1, 1);
  residual(list, `${side}.middle.2`, width, width);
}

function head(list: ShapeList, side: string, width: number, out: number): void {
  list.add(`${side}.head.0.gamma`, width, 1, 1, 1);
  list.layer(`${side}.head.2`, out, width, 3, 3, 3);
}

/** The decoder of TAEHV: three stages of three memory blocks, each followed by growth in time and a convolution. */
export function tinyVaeShapes({ channels, zDim, timeUpscale }: TinyVaeSizes): Shapes {
  const list = new ShapeList();
  list.layer('decoder.1', channels[0] as number, zDim, 3, 3);
  timeUpscale.forEach((grow, stage) => {
    const width = channels[stage] as number;
    const first = 3 + 6 * stage;
    for (let i = first; i < first + 3; i++) {
      list.layer(`decoder.${i}.conv.0`, width, 2 * width, 3, 3);
      list.layer(`decoder.${i}.conv.2`, width, width, 3, 3);
      list.layer(`decoder.${i}.conv.4`, width, width, 3, 3);
    }
    list.add(`decoder.${first + 4}.conv.weight`, grow * width, width, 1, 1);
    list.add(`decoder.${first + 5}.weight`, channels[stage + 1] as number, width, 3, 3);
  });
  list.layer(`decoder.${4 + 6 * timeUpscale.length}`, 3, channels.at(-1) as number, 3, 3);
  return list.shapes;
}
