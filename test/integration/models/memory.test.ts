/** What `longlive doctor` says of the whole model, as files that have their sizes and nothing in them. */

import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { memoryFindings } from '../../../src/cli/memory.js';
import { loadAddon } from '../../../src/engine/index.js';
import { ditShapes, type Shapes, textEncoderShapes, tinyVaeShapes, vaeShapes } from '../../../src/import/shapes.js';

const BYTES = { I8: 1, BF16: 2, F32: 4 };
type Type = keyof typeof BYTES;

const dit = { dim: 1536, ffnDim: 8960, numHeads: 12, numLayers: 30, freqDim: 256, inDim: 16, outDim: 16 };
const text = { textDim: 4096, textLen: 512 };
const textEncoder = { vocabSize: 256384, dim: 4096, dimAttn: 4096, dimFfn: 10240, numHeads: 64, numLayers: 24 };
const buckets = { numBuckets: 32, maxDistance: 128, eps: 1e-6 };
const vae = { dim: 96, zDim: 16, dimMult: [1, 2, 4, 4], numResBlocks: 2, temporalDownsample: [false, true, true] };
const config = {
  formatVersion: 1,
  dit: { ...dit, ...text, patchSize: [1, 2, 2], eps: 1e-6, ropeTheta: 10000, ropeTableLength: 1024 },
  textEncoder: { ...textEncoder, ...buckets },
  vae: { ...vae, mean: Array<number>(16).fill(0), std: Array<number>(16).fill(1) },
  tinyVae: { channels: [256, 128, 64, 64] },
  sampling: {
    ...{ framesPerBlock: 3, windowFrames: 12, sinkFrames: 3, rope: 'relative', globalSink: true, timestepShift: 5 },
    ...{ denoisingSteps: [1000, 750, 500, 250], warpDenoisingSteps: true, contextNoise: 0 },
  },
  video: { width: 832, height: 480, fps: 16 },
};

const root = mkdtempSync(join(tmpdir(), 'longlive-memory-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** A safetensors file; matrices that are multiplied take 8 bits if asked. */
function hollow(file: string, shapes: Shapes, eightBit = false): void {
  const header: Record<string, unknown> = {};
  let at = 0;
  const add = (name: string, dtype: Type, shape: readonly number[]) => {
    const end = at + shape.reduce((product, size) => product * size, BYTES[dtype]);
    header[name] = { dtype, shape, data_offsets: [at, end] };
    at = end;
  };
  for (const [name, shape] of shapes) {
    const matrix = eightBit && /\.(attn|ffn)\./.test(name);
    add(name, matrix ? 'I8' : 'BF16', shape);
    if (matrix) add(`${name}_scale`, 'F32', shape.slice(0, 1));
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  writeFileSync(join(root, file), Buffer.concat([length, json]));
  truncateSync(join(root, file), 8 + json.length + at);
}

/** Planning reads no weights, so that nobody compares their checksums. */
function entryOf(name: string): { bytes: number; sha256: string } {
  const { size } = statSync(join(root, name));
  const hollow = name.endsWith('.safetensors');
  const sha256 = hollow ? '0'.repeat(64) : createHash('sha256').update(readFileSync(join(root, name))).digest('hex');
  return { bytes: size, sha256 };
}

beforeAll(() => {
  hollow('dit.safetensors', ditShapes({ ...config.dit, patchSize: [1, 2, 2] }));
  hollow('text_encoder.safetensors', textEncoderShapes(config.textEncoder), true);
  hollow('vae.safetensors', vaeShapes(config.vae));
  hollow('tiny_vae.safetensors', tinyVaeShapes({ ...config.tinyVae, zDim: 16, timeUpscale: [1, 2, 2] }));
  writeFileSync(join(root, 'tokenizer.json'), '{}');
  writeFileSync(join(root, 'config.json'), JSON.stringify(config));
  const names = ['dit', 'text_encoder', 'vae', 'tiny_vae'].map((name) => `${name}.safetensors`);
  const entries = [...names, 'tokenizer.json', 'config.json'].map((name) => [name, entryOf(name)] as const);
  const about = { name: 'whole', version: '1', title: '', description: '', license: '' };
  const manifest = { formatVersion: 1, ...about, createdAt: '2026-01-01T00:00:00Z', files: Object.fromEntries(entries) };
  writeFileSync(join(root, 'manifest.json'), JSON.stringify(manifest));
});

it('holds LongLive-1.3B with an 8-bit text encoder in 16 GB of a GPU with the tiny decoder, and tells of the full one', async () => {
  const source = { name: 'whole', directory: root, storedPrecision: 'bf16', hasTinyDecoder: true };
  const findings = await memoryFindings(loadAddon(), source, { decoder: 'tiny' });
  const [tiny, full] = findings.filter(({ topic }) => topic.startsWith('Memory whole, cuda'));
  const total = (detail = '') => Number(/^bf16, ([\d.]+) GB/.exec(detail)?.[1]);
  expect([tiny?.topic, full?.topic]).toEqual(['Memory whole, cuda, decoder tiny', 'Memory whole, cuda, decoder full']);
  expect(total(tiny?.detail)).toBeGreaterThan(14);
  expect(total(tiny?.detail)).toBeLessThan(16);
  expect(total(full?.detail)).toBeGreaterThan(total(tiny?.detail));
});
