import { createRequire } from 'node:module';
import type { Frames } from '../../../src/sessions/ports.js';

/** A bright disc that moves over a gradient: enough motion to exercise prediction. */
export function movingDisc(options: {
  block?: number;
  firstFrame?: number;
  count: number;
  width: number;
  height: number;
}): Frames {
  const { block = 0, firstFrame = 0, count, width, height } = options;
  const frameBytes = (width * height * 3) / 2;
  const i420 = new Uint8Array(frameBytes * count);
  for (let n = 0; n < count; n++) {
    const picture = i420.subarray(n * frameBytes, (n + 1) * frameBytes);
    const centre = ((firstFrame + n) * 5) % width;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const inside = (x - centre) ** 2 + (y - height / 2) ** 2 < (height / 5) ** 2;
        picture[y * width + x] = inside ? 220 : 40 + Math.round((x / width) * 100);
      }
    }
    picture.fill(110, width * height).fill(150, (width * height * 5) / 4);
  }
  return { block, firstFrame, count, width, height, i420 };
}

interface DecoderModule {
  default: new (
    module: unknown,
    onPicture: (i420: Uint8Array, width: number, height: number) => void,
  ) => {
    decode(nal: Uint8Array): void;
    release(): void;
  };
}

/** Decodes NAL units (without start codes) with a decoder that shares no code with the encoder. */
export async function decode(nals: readonly Uint8Array[]): Promise<Uint8Array[]> {
  const require = createRequire(import.meta.url);
  Object.assign(globalThis, { self: { location: { href: '' } } }); // the decoder expects a browser
  const { default: create } = require('tinyh264/lib/TinyH264.js') as { default: (module: object) => Promise<unknown> };
  const { default: Decoder } = require('tinyh264/lib/TinyH264Decoder.js') as DecoderModule;
  const pictures: Uint8Array[] = [];
  const decoder = new Decoder(await create({}), (i420) => pictures.push(i420));
  for (const nal of nals) decoder.decode(Buffer.concat([Uint8Array.of(0, 0, 0, 1), nal]));
  decoder.release();
  return pictures;
}

/** The NAL units of samples that prefix each with its length in four bytes. */
export function nalUnits(samples: Uint8Array): Uint8Array[] {
  const bytes = Buffer.from(samples.buffer, samples.byteOffset, samples.length);
  const units: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const size = bytes.readUInt32BE(at);
    units.push(bytes.subarray(at + 4, at + 4 + size));
    at += 4 + size;
  }
  return units;
}

/** Peak signal-to-noise ratio of two pictures in decibels. */
export function psnr(a: Uint8Array, b: Uint8Array): number {
  let squares = 0;
  a.forEach((value, i) => (squares += (value - b[i]!) ** 2));
  return 10 * Math.log10((255 ** 2 * a.length) / squares);
}

/** The pictures with noise of up to this amplitude on them, the same whenever it is asked for. */
export function noise(frames: Frames, amplitude: number): Frames {
  let state = frames.block + 1;
  const i420 = frames.i420.map((value) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.max(0, Math.min(255, value + Math.round((state / 2 ** 32 - 0.5) * 2 * amplitude)));
  });
  return { ...frames, i420 };
}
