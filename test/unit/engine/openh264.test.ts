import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { loadAddon, openOpenH264 } from '../../../src/engine/index.js';
import { createMediaFactory } from '../../../src/media/index.js';
import type { EncodedPictures } from '../../../src/sessions/ports.js';
import { sliceQuantizers } from '../../../src/media/quantizer.js';
import { localOpenH264 } from '../../support/openh264.js';
import { decode, movingDisc, nalUnits, noise, psnr } from '../media/pictures.js';

const FORMAT = { width: 192, height: 112, fps: 16 };
const BYTES = (192 * 112 * 3) / 2;
const disc = () => movingDisc({ count: 12, ...FORMAT });
const encoder = localOpenH264(2);
afterAll(() => encoder?.close());

describe.skipIf(!encoder)('OpenH264 in the native core', () => {
  const encode = (quantizer: number, frames = disc().i420) => encoder!.encode({ ...FORMAT, quantizer, frames });

  it('writes the same parameter sets whatever the quantizer, which the slices tell', async () => {
    const { parameterSets } = await encode(24);
    for (const quantizer of [10, 24, 37, 51]) {
      const made = await encode(quantizer);
      expect(made.parameterSets).toEqual(parameterSets);
      expect(made.samples.flatMap(({ bytes }) => sliceQuantizers(bytes, parameterSets))).toEqual(
        Array<number>(12).fill(quantizer),
      );
    }
  });

  it('begins with the only key picture, leaves out none, and shows what it was given', async () => {
    const { samples, parameterSets } = await encode(24);
    expect(samples.map(({ key }) => key)).toEqual(samples.map((_, i) => i === 0));
    const nals = samples.flatMap(({ bytes }) => nalUnits(bytes));
    const pictures = await decode([parameterSets.sps, parameterSets.pps, ...nals]);
    expect(pictures).toHaveLength(12);
    const { i420 } = disc();
    pictures.forEach((picture, i) =>
      expect(psnr(picture, i420.subarray(i * BYTES, (i + 1) * BYTES))).toBeGreaterThan(38),
    );
  });

  it('has no key picture at a cut, which the next chunk brings anyway', async () => {
    const half = disc().i420.slice();
    half.fill(235, 6 * BYTES, 6 * BYTES + 192 * 112);
    expect((await encode(24, half)).samples.filter(({ key }) => key)).toHaveLength(1);
  });

  it('gives the same bytes for the same pictures, on any thread, and leaves them to the caller', async () => {
    const { i420 } = disc();
    const made = await Promise.all(Array.from({ length: 6 }, () => encode(24, i420)));
    const bytesOf = ({ samples }: EncodedPictures) => Buffer.concat(samples.map(({ bytes }) => bytes));
    for (const other of made) expect(Buffer.compare(bytesOf(other), bytesOf(made[0]!))).toBe(0);
    expect(Buffer.compare(i420, disc().i420)).toBe(0);
  });

  it('takes noise that does not fit its buffers, coarser', async () => {
    const { samples, parameterSets } = await encode(10, noise(disc(), 255).i420);
    expect(samples).toHaveLength(12);
    expect(sliceQuantizers(samples[0]!.bytes, parameterSets)[0]).toBeGreaterThan(10);
  });

  it('refuses what it cannot encode', async () => {
    await expect(encode(52)).rejects.toThrow('quantizer');
    await expect(encode(24, new Uint8Array(5))).rejects.toThrow('not whole pictures');
    await expect(encoder!.encode({ ...FORMAT, width: 191, quantizer: 24, frames: disc().i420 })).rejects.toThrow(
      'even',
    );
  });

  it('refuses what is asked of it when it is closed, and finishes what was', async () => {
    const closing = openOpenH264(loadAddon(), 1);
    const pending = closing.encode({ ...FORMAT, quantizer: 24, frames: disc().i420 });
    await closing.close();
    expect((await pending).samples).toHaveLength(12);
    await expect(closing.encode({ ...FORMAT, quantizer: 24, frames: disc().i420 })).rejects.toThrow('closed');
  });

  it('stands behind the media beside the encoder that needs nothing', async () => {
    const media = createMediaFactory({ threads: 1, encoder: 'openh264', natives: [localOpenH264()!] });
    expect(media.encoders).toEqual(['openh264', 'minih264']);
    const [native, wasm] = [await media.open(FORMAT), await media.open({ ...FORMAT, encoder: 'minih264' })];
    expect(native.codec).toBe(wasm.codec);
    expect(Buffer.compare(native.init, wasm.init)).not.toBe(0);
    await media.close();
  });
});

describe('a machine without the library', () => {
  const { LONGLIVE_OPENH264: before } = process.env;
  afterEach(() => {
    if (before === undefined) delete process.env.LONGLIVE_OPENH264;
    else process.env.LONGLIVE_OPENH264 = before;
  });

  it.skipIf(!encoder)('is told what to install', () => {
    process.env.LONGLIVE_OPENH264 = 'off';
    expect(() => openOpenH264(loadAddon(), 1)).toThrow(
      expect.objectContaining({ code: 'UNAVAILABLE', message: expect.stringContaining('libopenh264-7') as string }),
    );
  });

  it('has the encoder that needs nothing, and no other', () => {
    const media = createMediaFactory({ threads: 1 });
    expect(media.encoders).toEqual(['minih264']);
    expect(() => createMediaFactory({ threads: 1, encoder: 'openh264' })).toThrow(
      'the encoder openh264 is not available',
    );
  });
});
