/**
 * The smallest model package that the native core generates with: random weights, always the same ones, so that sessions
 * made with it long ago find the very same package again. Its digest is part of the test data: change nothing here.
 */

import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ditShapes, textEncoderShapes, vaeShapes, type Shapes } from '../../src/import/shapes.js';
import { describeFile, safeTensors } from './model-packages.js';

const COMMON = { eps: 1e-6 };
const DIT = {
  ...{ dim: 48, ffnDim: 80, numHeads: 2, numLayers: 2, freqDim: 32, inDim: 16, outDim: 16, textDim: 24, textLen: 16 },
  ...{ patchSize: [1, 2, 2], ropeTheta: 10000, ropeTableLength: 1024 },
};
const TEXT = {
  ...{ vocabSize: 260, dim: 24, dimAttn: 24, dimFfn: 32, numHeads: 2, numLayers: 1, numBuckets: 32, maxDistance: 128 },
};
const VAE = {
  ...{ dim: 4, zDim: 16, dimMult: [1, 2, 4, 4], numResBlocks: 1, temporalDownsample: [false, true, true] },
  ...{ mean: Array<number>(16).fill(0), std: Array<number>(16).fill(1) },
};
const CONFIG = {
  formatVersion: 1,
  dit: { ...DIT, ...COMMON },
  textEncoder: { ...TEXT, ...COMMON },
  vae: VAE,
  tinyVae: null,
  sampling: {
    ...{ framesPerBlock: 3, windowFrames: 6, sinkFrames: 1, rope: 'relative', globalSink: true, timestepShift: 5 },
    ...{ denoisingSteps: [1000, 500], warpDenoisingSteps: true, contextNoise: 0 },
  },
  video: { width: 64, height: 64, fps: 16 },
};

/** Writes the package `<root>/<name>`, and says its digest. Another `version` is another package. */
export function writeToyPackage(root: string, name = 'toy', version = '1.0.0'): { directory: string; digest: string } {
  const directory = join(root, name);
  const decoder = new Map([...vaeShapes(VAE)].filter(([tensor]) => /^(decoder|conv2)\b/.test(tensor)));
  const files: Record<string, string | Uint8Array> = {
    'config.json': JSON.stringify(CONFIG),
    'dit.safetensors': weights(ditShapes(DIT), 1),
    'text_encoder.safetensors': weights(textEncoderShapes({ ...TEXT, ...COMMON }), 2),
    'tokenizer.json': JSON.stringify(byteTokenizer()),
    'vae.safetensors': weights(decoder, 3),
  };
  const manifest = JSON.stringify({
    ...{ formatVersion: 1, name: 'toy', version, title: 'Toy', description: 'Random weights.', license: 'Apache-2.0' },
    createdAt: '2026-11-29T00:00:00Z',
    files: Object.fromEntries(Object.entries(files).map(([file, content]) => [file, describeFile(content)])),
  });
  mkdirSync(directory, { recursive: true });
  for (const [file, content] of Object.entries(files)) writeFileSync(join(directory, file), content);
  writeFileSync(join(directory, 'manifest.json'), manifest);
  return { directory, digest: createHash('sha256').update(manifest).digest('hex') };
}

/** Scaled so that activations keep their size from layer to layer, but for the last one: dull pictures are small files. */
function weights(shapes: Shapes, seed: number): Buffer {
  let state = seed;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
  const tensors = [...shapes].map(([name, shape]) => {
    const count = shape.reduce((product, size) => product * size, 1);
    const scale = scaleOf(name, shape, count);
    return [
      name,
      { shape: [...shape], values: Array.from({ length: count }, () => scale.mean + scale.by * uniform()) },
    ];
  });
  return safeTensors(Object.fromEntries(tensors) as Parameters<typeof safeTensors>[0]);
}

function scaleOf(name: string, shape: readonly number[], count: number): { mean: number; by: number } {
  if (/gamma$|norm\w*\.weight$/.test(name)) return { mean: 1, by: 0.2 };
  if (/bias$/.test(name)) return { mean: 0, by: 0.1 };
  const by = Math.sqrt((3 * (shape[0] as number)) / count);
  return { mean: 0, by: name === 'decoder.head.2.weight' ? by / 16 : by };
}

/** A token for every byte. */
function byteTokenizer(): object {
  const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`);
  const vocab = ['<pad>', '</s>', '<unk>', ...bytes, '\u2581'].map((token) => [token, -100]);
  const metaspace = { type: 'Metaspace', replacement: '\u2581', prepend_scheme: 'always', split: true };
  const [text, end] = [{ Sequence: { id: 'A', type_id: 0 } }, { SpecialToken: { id: '</s>', type_id: 0 } }];
  return {
    ...{
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: metaspace,
    },
    post_processor: {
      ...{ type: 'TemplateProcessing', single: [text, end], pair: [text, { Sequence: { id: 'B', type_id: 1 } }, end] },
      special_tokens: { '</s>': { id: '</s>', ids: [1], tokens: ['</s>'] } },
    },
    decoder: { type: 'Sequence', decoders: [{ type: 'ByteFallback' }, metaspace] },
    model: { type: 'Unigram', unk_id: 2, vocab, byte_fallback: true },
  };
}
