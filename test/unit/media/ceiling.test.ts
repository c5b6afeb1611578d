import { afterAll, describe, expect, it } from 'vitest';
import { findBox, readBoxes } from '../../../src/media/boxes.js';
import { soften } from '../../../src/media/ceiling.js';
import { readFragment, readInit } from '../../../src/media/cmaf.js';
import { parseDecoderConfiguration, type ParameterSets } from '../../../src/media/h264.js';
import { type ClosableMediaFactory, createMediaFactory } from '../../../src/media/index.js';
import { MiniH264 } from '../../../src/media/minih264.js';
import { samplesBehind, sliceQuantizers } from '../../../src/media/quantizer.js';
import type { EncodedChunk, Frames } from '../../../src/sessions/ports.js';
import { localOpenH264 } from '../../support/openh264.js';
import { decode, movingDisc, nalUnits, noise, psnr } from './pictures.js';

const PICTURE = { width: 192, height: 112, fps: 16 };
const FRAME_BYTES = (PICTURE.width * PICTURE.height * 3) / 2;
/** For a chunk of 12 frames, 30 kB; the disc needs less than 20, noise a hundred times as much. */
const TIGHT = (30_000 * 8) / (12 / 16);

const probe = localOpenH264();
const hasOpenH264 = probe !== undefined;
void probe?.close();

const disc = (block: number): Frames => movingDisc({ block, firstFrame: block * 12, count: 12, ...PICTURE });
const noisy = (block: number, amplitude = 255): Frames => noise(disc(block), amplitude);

function parameterSetsOf(init: Uint8Array): ParameterSets {
  const avc1 = readBoxes(readInit(init).entry)[0]!;
  return parseDecoderConfiguration(findBox(avc1.payload.subarray(78), 'avcC'));
}

function quantizersOf(chunk: EncodedChunk, sets: ParameterSets): number[] {
  return sliceQuantizers(readFragment(chunk.bytes).payload, sets);
}

/** Decodes the chunks behind the parameter sets of the init segment, as one stream. */
function play(init: Uint8Array, chunks: readonly EncodedChunk[]): Promise<Uint8Array[]> {
  const { sps, pps } = parameterSetsOf(init);
  return decode([sps, pps, ...chunks.flatMap((chunk) => nalUnits(readFragment(chunk.bytes).payload))]);
}

describe.each([
  { encoder: 'minih264' as const, here: true },
  { encoder: 'openh264' as const, here: hasOpenH264 },
])('the ceiling of a chunk by $encoder', ({ encoder: name, here }) => {
  if (!here) return it.skip('is not here', () => undefined);
  const make = (maxBitsPerSecond: number): ClosableMediaFactory => {
    const native = localOpenH264();
    return createMediaFactory({ threads: 1, maxBitsPerSecond, encoder: name, natives: native ? [native] : [] });
  };
  const [tight, free] = [make(TIGHT), make(240e6)];
  afterAll(() => Promise.all([tight.close(), free.close()]));

  it('leaves chunks below it as they are', async () => {
    const [a, b] = await Promise.all([tight.open(PICTURE), free.open(PICTURE)]);
    expect(Buffer.compare((await a.encode(disc(0))).bytes, (await b.encode(disc(0))).bytes)).toBe(0);
  });

  it('holds for noise, which passes it even at the coarsest quantizer', async () => {
    const encoder = await tight.open(PICTURE);
    expect((await (await free.open(PICTURE)).encode(noisy(0))).bytes.length).toBeGreaterThan(200_000);
    const chunk = await encoder.encode(noisy(0));
    expect(chunk.bytes.length).toBeLessThanOrEqual(30_000);
    expect(await play(encoder.init, [chunk])).toHaveLength(12);
  });

  it('makes a chunk that passes it coarser, no more than it must, behind the same parameter sets', async () => {
    const encoder = await tight.open(PICTURE);
    const chunk = await encoder.encode(noisy(0, 24));
    const [quantizer, ...others] = new Set(quantizersOf(chunk, parameterSetsOf(encoder.init)));
    expect(others).toEqual([]);
    expect(quantizer).toBeGreaterThan(24);
    expect(quantizer).toBeLessThan(51);
    expect(chunk.bytes.length).toBeLessThanOrEqual(30_000);
    expect(chunk.bytes.length).toBeGreaterThan(15_000);
  });

  it('counts a shorter chunk by its frames', async () => {
    const encoder = await tight.open(PICTURE);
    const { i420, ...frames } = noisy(0);
    const chunk = await encoder.encode({ ...frames, count: 3, i420: i420.subarray(0, 3 * FRAME_BYTES) });
    expect(chunk.bytes.length).toBeLessThanOrEqual(7_500);
  });

  it('keeps the seams: coarse chunks between others play as one stream, each picture as when its chunk is alone', async () => {
    const encoder = await tight.open(PICTURE);
    const blocks = [disc(0), noisy(1, 24), disc(2), noisy(3), disc(4)];
    const chunks = await Promise.all(blocks.map((frames) => encoder.encode(frames)));
    const together = await play(encoder.init, chunks);
    const alone = (await Promise.all(chunks.map((chunk) => play(encoder.init, [chunk])))).flat();
    expect(together).toHaveLength(60);
    together.forEach((picture, i) => expect(Buffer.compare(picture, alone[i]!), `picture ${i}`).toBe(0));
    const plain = blocks[2]!.i420;
    for (let i = 0; i < 12; i++) {
      expect(psnr(together[24 + i]!, plain.subarray(i * FRAME_BYTES, (i + 1) * FRAME_BYTES))).toBeGreaterThan(38);
    }
    expect(new Set(chunks.map((chunk) => quantizersOf(chunk, parameterSetsOf(encoder.init))[0])).size).toBeGreaterThan(
      1,
    );
  });

  it('gives the same bytes for the same frames, whatever was encoded before', async () => {
    const encoder = await tight.open(PICTURE);
    const first = await encoder.encode(noisy(1));
    await encoder.encode(disc(0));
    expect(Buffer.compare((await encoder.encode(noisy(1))).bytes, first.bytes)).toBe(0);
  });
});

describe('a chunk at another quantizer', () => {
  const encoder = new MiniH264(1, 10);
  afterAll(() => encoder.close());
  const encode = (frames: Frames, quantizer: number) =>
    encoder.encode({ ...PICTURE, frames: new Uint8Array(frames.i420), quantizer });

  it.each([10, 23, 25, 31, 40, 51])(
    'decodes to the same pictures behind the parameter sets of 24 (%i)',
    async (quantizer) => {
      const { parameterSets } = await encode(disc(0), 24);
      const coarse = await encode(noisy(0, 60), quantizer);
      expect(Buffer.compare(coarse.parameterSets.pps, parameterSets.pps)).not.toBe(0);
      const moved = samplesBehind(parameterSets, coarse);
      const pictures = async ({ sps, pps }: ParameterSets, samples: typeof moved) =>
        Buffer.concat(await decode([sps, pps, ...samples.flatMap(({ bytes }) => nalUnits(bytes))]));
      const expected = await pictures(coarse.parameterSets, coarse.samples);
      expect(expected).toHaveLength(12 * FRAME_BYTES);
      expect(Buffer.compare(await pictures(parameterSets, moved), expected)).toBe(0);
      for (const { bytes } of moved) expect(sliceQuantizers(bytes, parameterSets)).toEqual([quantizer]);
    },
  );

  it('is refused when more than the quantizer has changed', async () => {
    const { parameterSets } = await encode(disc(0), 24);
    const other = await encoder.encode({
      ...PICTURE,
      width: 96,
      frames: new Uint8Array(FRAME_BYTES / 2),
      quantizer: 30,
    });
    expect(() => samplesBehind(parameterSets, other)).toThrow('changed its parameter sets');
    const pps = Uint8Array.from(parameterSets.pps, (byte, i) => (i === 1 ? byte ^ 0x20 : byte));
    const coarse = await encode(disc(0), 30);
    expect(() => samplesBehind({ ...parameterSets, pps }, coarse)).toThrow();
  });
});

describe('softening', () => {
  it('averages squares in every plane, at the edges too', () => {
    const frames = Uint8Array.from([0, 4, 8, 8, 0, 4, 8, 8, 10, 30, 50, 70].concat([1, 2, 3, 4, 5, 6]).slice(0, 12));
    expect([...soften({ width: 4, height: 2, frames }, 2)]).toEqual([2, 2, 8, 8, 2, 2, 8, 8, 20, 20, 60, 60]);
  });
});
