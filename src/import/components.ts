/** Which network a set of tensors is, what its sizes are, and whether it is whole. */

import { printed } from '../files/printable.js';
import { dequantizedNetwork, quantizedKind } from './dequantize.js';
import { ImportError, lined, listed, quoted } from './errors.js';
import { unfused } from './fused.js';
import { TOKENIZER_TENSOR } from './layouts.js';
import { type Component, referenceName } from './names.js';
import { ditShapes, type Shapes, textEncoderShapes, tinyVaeShapes, vaeShapes } from './shapes.js';
import {
  type DitSizes,
  ditSizes,
  type Hints,
  type ShapeOf,
  type TextEncoderSizes,
  textEncoderSizes,
  type TinyVaeSizes,
  tinyVaeSizes,
  type VaeSizes,
  vaeSizes,
} from './sizes.js';
import type { DType, Tensor } from './tensor.js';

export interface Sizes {
  dit: DitSizes;
  textEncoder: TextEncoderSizes;
  vae: VaeSizes;
  tinyVae: TinyVaeSizes;
}

export interface Network<C extends Component = Component> {
  component: C;
  sizes: Sizes[C];
  /** Under their reference names, in the reference's order. */
  tensors: Map<string, Tensor>;
  /** Names in the file that inference has no use for. */
  unused: readonly string[];
}

export interface ReadOptions extends Hints {
  /** Read weights of 8 bits as the numbers they stand for. */
  dequantize?: boolean;
}

/** One tensor that only this network has, under the names it goes by. */
const SIGNS: Record<Component, readonly string[]> = {
  dit: ['patch_embedding.weight'],
  textEncoder: ['token_embedding.weight', 'shared.weight', 'encoder.embed_tokens.weight'],
  vae: ['decoder.middle.1.to_qkv.weight', 'decoder.mid_block.attentions.0.to_qkv.weight'],
  tinyVae: ['decoder.3.conv.0.weight'],
};

/** Parts of files that inference has no use for. */
const UNUSED: Record<Component, RegExp> = {
  dit: /^(freqs|rope\.freqs.*)$/,
  // The decoder of a whole UMT5, and the second name of its embedding.
  textEncoder: /^(decoder\.|lm_head\.|encoder\.embed_tokens\.)/,
  vae: /^$/,
  tinyVae: /^encoder\./,
};

const FLOATING: ReadonlySet<DType> = new Set(['F64', 'F32', 'F16', 'BF16']);

export const TITLES: Record<Component, string> = {
  dit: 'video network (DiT)',
  textEncoder: 'text encoder (UMT5)',
  vae: 'video codec (VAE)',
  tinyVae: 'tiny video decoder (TAEHV)',
};

export function componentOf(tensors: ReadonlyMap<string, Tensor>): Component | undefined {
  return (Object.keys(SIGNS) as Component[]).find((component) => SIGNS[component].some((name) => tensors.has(name)));
}

/** Names, sizes and shapes of a network; everything that is wrong with it is listed in one error. */
export function readNetwork<C extends Component>(
  component: C,
  plain: ReadonlyMap<string, Tensor>,
  { dequantize = false, ...hints }: ReadOptions = {},
): Network<C> {
  const { used, unused } = withoutUnused(component, plain);
  const renamed = rename(component, unquantized(component, used, dequantize));
  const found = component === 'dit' ? unfused(renamed) : renamed;
  const sizes = sizesOf(component, (name) => found.get(name)?.shape, hints);
  const expected = shapesOf(component, sizes);
  const tensors = new Map<string, Tensor>();
  for (const [name, shape] of expected) {
    const tensor = found.get(name);
    if (tensor) tensors.set(name, component === 'tinyVae' ? lastRows(tensor, shape) : tensor);
  }
  compare(component, expected, found, tensors);
  return { component, sizes, tensors, unused };
}

/** Quantized weights are named in one line, whatever their scales are called. */
function unquantized(
  component: Component,
  plain: ReadonlyMap<string, Tensor>,
  dequantize: boolean,
): ReadonlyMap<string, Tensor> {
  const kind = quantizedKind(plain);
  if (!kind) return plain;
  if (kind.read && dequantize) return dequantizedNetwork(plain);
  const way = kind.read
    ? 'use the bf16 or fp16 file, or add --dequantize to accept the rounded weights'
    : 'use the bf16 or fp16 file';
  throw new ImportError(printed`The ${TITLES[component]} is quantized: ${kind.title}; ${way}.`);
}

function withoutUnused(
  component: Component,
  plain: ReadonlyMap<string, Tensor>,
): { used: Map<string, Tensor>; unused: string[] } {
  const used = new Map<string, Tensor>();
  const unused: string[] = [];
  const tied = component === 'textEncoder' && !plain.has('shared.weight') && !plain.has('token_embedding.weight');
  for (const [name, tensor] of plain) {
    const embedding = tied && name === 'encoder.embed_tokens.weight';
    if ((UNUSED[component].test(name) && !embedding) || isBeside(name, tensor)) unused.push(name);
    else used.set(name, tensor);
  }
  return { used, unused };
}

/** State of Transformer Engine that holds nothing; the tokenizer of some repackagings, which find.ts takes. */
function isBeside(name: string, { shape, dtype }: Tensor): boolean {
  if (/(?:^|\.)_extra_state$/.test(name)) return shape.includes(0);
  return name === TOKENIZER_TENSOR && (dtype === 'U8' || dtype === 'I8');
}

function rename(component: Component, plain: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
  const found = new Map<string, Tensor>();
  for (const [name, tensor] of plain) {
    const reference = referenceName(component, name);
    if (found.has(reference))
      throw new ImportError(printed`The weights have ${quoted(reference)} twice, once as ${quoted(name)}.`);
    found.set(reference, tensor);
  }
  return found;
}

function sizesOf<C extends Component>(component: C, shapeOf: ShapeOf, hints: Hints): Sizes[C] {
  const readers: { [K in Component]: () => Sizes[K] } = {
    dit: () => ditSizes(shapeOf, hints),
    textEncoder: () => textEncoderSizes(shapeOf, hints),
    vae: () => vaeSizes(shapeOf, hints),
    tinyVae: () => tinyVaeSizes(shapeOf),
  };
  return readers[component]();
}

export function shapesOf<C extends Component>(component: C, sizes: Sizes[C]): Shapes {
  const makers: { [K in Component]: (sizes: Sizes[K]) => Shapes } = {
    dit: ditShapes,
    textEncoder: textEncoderShapes,
    vae: vaeShapes,
    tinyVae: tinyVaeShapes,
  };
  return makers[component](sizes);
}

/** The growth layers of some TAEHV files have rows for more frames than are used: the last ones count. */
function lastRows(tensor: Tensor, shape: readonly number[]): Tensor {
  const [rows = 0, ...row] = shape;
  const [stored = 0, ...storedRow] = tensor.shape;
  const growth = row.length === 3 && row[1] === 1 && row[2] === 1;
  if (!growth || stored <= rows || storedRow.join() !== row.join()) return tensor;
  const skipped = (stored - rows) * (row[0] as number);
  return { ...tensor, shape, read: (from, to) => tensor.read(from + skipped, to + skipped) };
}

function compare(component: Component, expected: Shapes, found: Map<string, Tensor>, taken: Map<string, Tensor>): void {
  const missing = [...expected.keys()].filter((name) => !taken.has(name));
  const left = [...found.keys()].filter((name) => !expected.has(name));
  const misshapen: string[] = [];
  const mistyped: string[] = [];
  for (const [name, { shape, dtype }] of taken) {
    const wanted = expected.get(name) as readonly number[];
    if (shape.join() !== wanted.join())
      misshapen.push(`${name} [${shape.join(', ')}] instead of [${wanted.join(', ')}]`);
    if (!FLOATING.has(dtype)) mistyped.push(`${name} ${dtype}`);
  }
  const complaints = [
    list('missing', missing),
    list('not known', left),
    list('of another shape', misshapen),
    list('of a type that is not supported', mistyped),
  ].filter((line) => line !== '');
  if (complaints.length === 0) return;
  throw new ImportError(
    lined(
      printed`The weights are not those of a ${TITLES[component]}:`,
      ...complaints,
      'The file is incomplete, or of another architecture: see docs/models.md for those that can be imported.',
    ),
  );
}

function list(what: string, names: readonly string[]): string {
  return names.length === 0 ? '' : `  ${names.length} ${what}:\n${listed(names)}`;
}
