/** Frames in, playable media out: the `MediaFactory` of the session domain, on H.264 and CMAF. */
import { availableParallelism } from 'node:os';
import type {
  ChunkEncoder,
  EncodedChunk,
  EncoderName,
  Frames,
  MediaFactory,
  PictureEncoder,
} from '../sessions/ports.js';
import { encodeWithin } from './ceiling.js';
import { fragment, initSegment, type Sample } from './cmaf.js';
import { codecString, levelFor, rewriteSps } from './h264.js';
import { MiniH264 } from './minih264.js';
import { playlist } from './playlist.js';
import { poster } from './poster.js';
import { progressive } from './progressive.js';
import { samplesBehind } from './quantizer.js';

export interface MediaOptions {
  /** H.264 quantization parameter, 10 (best) to 51: constant quality, so still scenes are small. Default 24. */
  quantizer?: number;
  /** Ceiling of a chunk, in bits per second of its video: what needs more gets coarser. Default 8e6. */
  maxBitsPerSecond?: number;
  /** 0 (smallest files) to 10 (fastest), of the encoder that needs nothing. Default 10. */
  speed?: number;
  /** Encoder threads. Default: half of the cores, at least one and at most four. */
  threads?: number;
  /** Encoders of this machine, beside the one that needs nothing. */
  natives?: readonly PictureEncoder[];
  /** What new sessions are encoded with. Default minih264. */
  encoder?: EncoderName;
}

export interface ClosableMediaFactory extends MediaFactory, AsyncDisposable {
  /** Makes an encoder ready ahead of the first session. */
  warmUp(): void;
  /** Stops the encoder threads. */
  close(): Promise<void>;
}

interface Picture {
  width: number;
  height: number;
  fps: number;
}

/** How chunks are encoded, and how large they may be. */
interface Encoding {
  encoder: PictureEncoder;
  quantizer: number;
  maxBitsPerSecond: number;
}

export function createMediaFactory(options: MediaOptions = {}): ClosableMediaFactory {
  const { quantizer = 24, maxBitsPerSecond = 8e6, speed = 10 } = options;
  requireInteger('quantizer', quantizer, 10, 51);
  requireInteger('speed', speed, 0, 10);
  const threads = options.threads ?? Math.min(4, Math.max(1, availableParallelism() >> 1));
  const encoders: PictureEncoder[] = [new MiniH264(threads, speed), ...(options.natives ?? [])];
  const find = (name: EncoderName): PictureEncoder => {
    const found = encoders.find((encoder) => encoder.name === name);
    if (!found) throw new Error(`the encoder ${name} is not available`);
    return found;
  };
  const close = async () => void (await Promise.all(encoders.map((encoder) => encoder.close())));
  const preferred = find(options.encoder ?? 'minih264');
  return {
    encoders: [preferred, ...encoders.filter((encoder) => encoder !== preferred)].map(({ name }) => name),
    open: async ({ encoder = preferred.name, ...picture }) =>
      openChunkEncoder(picture, { encoder: find(encoder), quantizer, maxBitsPerSecond }),
    poster: async (frames, index) => ({
      bytes: await poster(frameAt(frames, index), frames.width, frames.height),
      contentType: 'image/webp',
    }),
    playlist,
    progressive,
    warmUp: () => preferred.warmUp(),
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** Encodes one black frame to learn the parameter sets, which every chunk of the session must then share. */
async function openChunkEncoder(picture: Picture, encoding: Encoding): Promise<ChunkEncoder> {
  const { width, height, fps } = picture;
  requirePicture(picture);
  const { encoder, quantizer, maxBitsPerSecond } = encoding;
  const level = levelFor(width, height, fps);
  const { parameterSets } = await encoder.encode({ ...picture, frames: blackFrame(width, height), quantizer });
  const sps = rewriteSps(parameterSets.sps, level);
  const init = initSegment({ ...picture, parameterSets: { sps, pps: parameterSets.pps } });
  return {
    codec: codecString(sps),
    init,
    encode: async (frames) => {
      requireSameSize(frames, picture);
      const ceiling = (maxBitsPerSecond / 8) * (frames.count / fps) - boxBytes(frames.count);
      const encoded = await encodeWithin(
        ceiling,
        quantizer,
        { width, height, frames: frames.i420 },
        (pictures, coarse) => encoder.encode({ ...picture, frames: pictures, quantizer: coarse }),
      );
      return toChunk(frames, samplesBehind(parameterSets, encoded));
    },
    close: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** Of a fragment, beside its samples. */
const boxBytes = (samples: number): number => 136 + 8 * samples;

function requirePicture({ width, height, fps }: Picture): void {
  for (const [name, value] of [
    ['width', width],
    ['height', height],
  ] as const) {
    requireInteger(name, value, 16, 4096);
    if (value % 2 !== 0) throw new RangeError(`${name} must be even, not ${value}`);
  }
  if (!(fps > 0 && fps <= 240)) throw new RangeError(`fps must be above 0 and at most 240, not ${fps}`);
}

function toChunk(frames: Frames, samples: Sample[]): EncodedChunk {
  if (samples.length !== frames.count || samples[0]?.key !== true) {
    throw new Error(`the encoder returned ${samples.length} frames for the ${frames.count} of block ${frames.block}`);
  }
  return {
    bytes: fragment(frames.block + 1, frames.firstFrame, samples),
    frameCount: frames.count,
    samples: samples.map(({ bytes, key }) => ({ size: bytes.length, key })),
  };
}

function blackFrame(width: number, height: number): Uint8Array {
  const luma = width * height;
  return new Uint8Array((luma * 3) / 2).fill(16, 0, luma).fill(128, luma);
}

/** One picture of a block, planar I420. */
export function frameAt({ i420, width, height, count }: Frames, index: number): Uint8Array {
  requireInteger('index', index, 0, count - 1);
  const bytes = (width * height * 3) / 2;
  return i420.subarray(index * bytes, (index + 1) * bytes);
}

function requireSameSize(frames: Frames, { width, height }: Picture): void {
  if (frames.width !== width || frames.height !== height) {
    throw new RangeError(
      `block ${frames.block} is ${frames.width}x${frames.height}, the session is ${width}x${height}`,
    );
  }
  const expected = (frames.count * width * height * 3) / 2;
  if (frames.count < 1 || frames.i420.length !== expected) {
    throw new RangeError(`block ${frames.block} has ${frames.i420.length} bytes instead of ${expected}`);
  }
}

function requireInteger(name: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new RangeError(`${name} must be a whole number from ${least} to ${most}, not ${value}`);
  }
}
