import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findBox, readBoxes } from '../../../src/media/boxes.js';
import { readFragment, readInit } from '../../../src/media/cmaf.js';
import { parseDecoderConfiguration } from '../../../src/media/h264.js';
import { createMediaFactory, type ClosableMediaFactory } from '../../../src/media/index.js';
import type { ChunkEncoder, EncodedChunk } from '../../../src/sessions/ports.js';
import { decode, movingDisc, nalUnits, psnr } from './pictures.js';

const WIDTH = 192;
const HEIGHT = 112;
const COUNTS = [9, 12, 12];

describe('encoding a session', () => {
  let media: ClosableMediaFactory;
  let encoder: ChunkEncoder;
  const blocks = COUNTS.map((count, block) =>
    movingDisc({
      block,
      firstFrame: COUNTS.slice(0, block).reduce((a, b) => a + b, 0),
      count,
      width: WIDTH,
      height: HEIGHT,
    }),
  );
  let chunks: EncodedChunk[];

  beforeAll(async () => {
    media = createMediaFactory({ threads: 2 });
    encoder = await media.open({ width: WIDTH, height: HEIGHT, fps: 16 });
    chunks = await Promise.all(blocks.map((frames) => encoder.encode(frames)));
  });
  afterAll(() => media.close());

  const parameterSets = (): Uint8Array[] => {
    const avc1 = readBoxes(readInit(encoder.init).entry)[0]!;
    const { sps, pps } = parseDecoderConfiguration(findBox(avc1.payload.subarray(78), 'avcC'));
    return [sps, pps];
  };

  it('describes the track before the first chunk', () => {
    expect(encoder.codec).toBe('avc1.42c01e');
    expect(readBoxes(encoder.init).map((box) => box.type)).toEqual(['ftyp', 'moov']);
    expect(readInit(encoder.init)).toMatchObject({ width: WIDTH, height: HEIGHT, timescale: 16_000 });
    const avc1 = readBoxes(readInit(encoder.init).entry)[0]!.payload.subarray(78);
    expect(findBox(avc1, 'colr').toString('hex')).toBe(
      Buffer.from('nclx\0\x01\0\x01\0\x01\0', 'latin1').toString('hex'),
    );
  });

  it('writes each chunk as one fragment at its place in time', () => {
    chunks.forEach((chunk, i) => {
      expect(readBoxes(chunk.bytes).map((box) => box.type)).toEqual(['styp', 'moof', 'mdat']);
      const read = readFragment(chunk.bytes);
      expect(read.firstFrame).toBe(blocks[i]!.firstFrame);
      expect(read.samples).toEqual(chunk.samples);
      expect(chunk.frameCount).toBe(COUNTS[i]);
      expect(chunk.samples.map((sample) => sample.key)).toEqual(chunk.samples.map((_, n) => n === 0));
    });
  });

  it('makes every chunk decodable with nothing but the init segment', async () => {
    for (const [i, chunk] of chunks.entries()) {
      const pictures = await decode([...parameterSets(), ...nalUnits(readFragment(chunk.bytes).payload)]);
      expect(pictures).toHaveLength(COUNTS[i]!);
      const frameBytes = (WIDTH * HEIGHT * 3) / 2;
      pictures.forEach((picture, n) => {
        expect(psnr(picture, blocks[i]!.i420.subarray(n * frameBytes, (n + 1) * frameBytes))).toBeGreaterThan(38);
      });
    }
  });

  it('decodes as one stream in order', async () => {
    const slices = chunks.flatMap((chunk) => nalUnits(readFragment(chunk.bytes).payload));
    expect(await decode([...parameterSets(), ...slices])).toHaveLength(33);
  });

  it('gives the same bytes for the same frames, in any order and in another session', async () => {
    const other = await media.open({ width: WIDTH, height: HEIGHT, fps: 16 });
    expect(Buffer.compare(other.init, encoder.init)).toBe(0);
    expect(Buffer.compare((await other.encode(blocks[2]!)).bytes, chunks[2]!.bytes)).toBe(0);
  });

  it('leaves the frames to the caller', async () => {
    const frames = movingDisc({ count: 2, width: WIDTH, height: HEIGHT });
    await encoder.encode({ ...frames, i420: Buffer.from(frames.i420) });
    await encoder.encode(frames);
    expect(frames.i420).toHaveLength(WIDTH * HEIGHT * 3);
  });

  it('keeps time beyond 32 bits', async () => {
    const frames = movingDisc({ block: 5_000_000, firstFrame: 60_000_000, count: 1, width: WIDTH, height: HEIGHT });
    expect(readFragment((await encoder.encode(frames)).bytes).firstFrame).toBe(60_000_000);
  });

  it('crops pictures that are not whole macroblocks', async () => {
    const odd = await media.open({ width: 100, height: 70, fps: 24 });
    const chunk = await odd.encode(movingDisc({ count: 4, width: 100, height: 70 }));
    expect(chunk.samples).toHaveLength(4);
    expect(readInit(odd.init)).toMatchObject({ width: 100, height: 70, timescale: 24_000 });
  });

  it('refuses frames of another size', async () => {
    const frames = movingDisc({ count: 2, width: WIDTH, height: HEIGHT });
    await expect(encoder.encode({ ...frames, width: 96 })).rejects.toThrow('block 0 is 96x112, the session is 192x112');
    await expect(encoder.encode({ ...frames, count: 3 })).rejects.toThrow('instead of 96768');
  });
});

describe('opening an encoder', () => {
  const media = createMediaFactory({ threads: 1 });
  afterAll(() => media.close());

  it.each([
    [{ width: 191, height: 112, fps: 16 }, 'width must be even'],
    [{ width: 192, height: 0, fps: 16 }, 'height must be a whole number from 16 to 4096'],
    [{ width: 192, height: 112, fps: 0 }, 'fps must be above 0'],
    [{ width: 4096, height: 4096, fps: 16 }, 'beyond H.264 level 5.2'],
  ])('refuses %o', async (picture, message) => {
    await expect(media.open(picture)).rejects.toThrow(message);
  });

  it.each([
    [{ quantizer: 9 }, 'quantizer must be'],
    [{ speed: 11 }, 'speed must be'],
    [{ threads: 0 }, 'at least one thread'],
  ])('refuses %o', (options, message) => {
    expect(() => createMediaFactory(options)).toThrow(message);
  });

  it('is closed by who holds it with `await using`, too', async () => {
    const held = createMediaFactory({ threads: 1 });
    const encoder = await held.open({ width: 64, height: 64, fps: 16 });
    await held[Symbol.asyncDispose]();
    await expect(encoder.encode(movingDisc({ count: 1, width: 64, height: 64 }))).rejects.toThrow('closed');
  });

  it('fails what is asked of it after closing', async () => {
    const closing = createMediaFactory({ threads: 1 });
    const encoder = await closing.open({ width: 64, height: 64, fps: 16 });
    const pending = encoder.encode(movingDisc({ count: 4, width: 64, height: 64 }));
    const expectation = expect(pending).rejects.toThrow();
    await closing.close();
    await expectation;
    await expect(encoder.encode(movingDisc({ count: 1, width: 64, height: 64 }))).rejects.toThrow('closed');
  });
});
