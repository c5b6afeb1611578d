/** Frames in, playable media out: the `MediaFactory` of the session domain, on H.264 and CMAF. */
import { availableParallelism } from 'node:os';
import type { ChunkEncoder, EncodedChunk, Frames, MediaFactory } from '../sessions/ports.js';
import { findBox } from './boxes.js';
import { fragment, initSegment, type Sample } from './cmaf.js';
import { EncoderPool } from './encoder-pool.js';
import { codecString, levelFor, parseDecoderConfiguration, rewriteSps, type ParameterSets } from './h264.js';
import { playlist } from './playlist.js';
import { poster } from './poster.js';
import { progressive } from './progressive.js';

export interface MediaOptions {
  /** H.264 quantization parameter, 10 (best) to 51: constant quality, so still scenes are small. Default 24. */
  quantizer?: number;
  /** 0 (smallest files) to 10 (fastest). Default 10. */
  speed?: number;
  /** Encoder threads. Default: half of the cores, at least one and at most four. */
  workers?: number;
}

export interface ClosableMediaFactory extends MediaFactory {
  /** Makes an encoder ready ahead of the first session. */
  prepare(): void;
  /** Stops the encoder threads. */
  close(): Promise<void>;
}

interface Picture {
  width: number;
  height: number;
  fps: number;
}

type EncodeSamples = (frames: Uint8Array) => Promise<{ parameterSets: ParameterSets; samples: Sample[] }>;

export function createMediaFactory(options: MediaOptions = {}): ClosableMediaFactory {
  const { quantizer = 24, speed = 10 } = options;
  requireInteger('quantizer', quantizer, 10, 51);
  requireInteger('speed', speed, 0, 10);
  const pool = new EncoderPool(options.workers ?? Math.min(4, Math.max(1, availableParallelism() >> 1)));
  return {
    open: (picture) =>
      openChunkEncoder(picture, async (frames) =>
        readSamples(await pool.encode({ ...picture, frames, quantizer, speed })),
      ),
    poster: async (frames, index) => ({
      bytes: await poster(frameAt(frames, index), frames.width, frames.height),
      contentType: 'image/webp',
    }),
    playlist,
    progressive,
    prepare: () => pool.prepare(),
    close: () => pool.close(),
  };
}

/** Encodes one black frame to learn the parameter sets, which every chunk of the session must then share. */
async function openChunkEncoder(picture: Picture, encodeSamples: EncodeSamples): Promise<ChunkEncoder> {
  const { width, height, fps } = picture;
  for (const [name, value] of [
    ['width', width],
    ['height', height],
  ] as const) {
    requireInteger(name, value, 16, 4096);
    if (value % 2 !== 0) throw new RangeError(`${name} must be even, not ${value}`);
  }
  if (!(fps > 0 && fps <= 240)) throw new RangeError(`fps must be above 0 and at most 240, not ${fps}`);
  const level = levelFor(width, height, fps);
  const { parameterSets } = await encodeSamples(blackFrame(width, height));
  const sps = rewriteSps(parameterSets.sps, level);
  const init = initSegment({ ...picture, parameterSets: { sps, pps: parameterSets.pps } });
  return {
    codec: codecString(sps),
    init,
    encode: async (frames) => {
      requireSameSize(frames, picture);
      const encoded = await encodeSamples(new Uint8Array(frames.i420));
      requireSameParameterSets(encoded.parameterSets, parameterSets);
      return toChunk(frames, encoded.samples);
    },
    close: () => Promise.resolve(),
  };
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

/** The parameter sets and samples of the plain MP4 file that the encoder writes: one track, in decoding order. */
function readSamples(file: Uint8Array): { parameterSets: ParameterSets; samples: Sample[] } {
  const tables = findBox(file, 'moov', 'trak', 'mdia', 'minf', 'stbl');
  const avc1 = findBox(tables, 'stsd').subarray(8 + 8 + 78); // full box, then the sample entry's own fields
  const sizes = findBox(tables, 'stsz');
  const chunks = findBox(tables, 'stco');
  const runs = findBox(tables, 'stsc');
  const samples: Sample[] = [];
  let run = 0;
  for (let chunk = 0; chunk < chunks.readUInt32BE(4); chunk++) {
    const runEntry = 8 + (run + 1) * 12;
    if (runEntry < runs.length && runs.readUInt32BE(runEntry) === chunk + 1) run++;
    let offset = chunks.readUInt32BE(8 + chunk * 4);
    for (let left = runs.readUInt32BE(8 + run * 12 + 4); left > 0; left--) {
      const size = sizes.readUInt32BE(4) || sizes.readUInt32BE(12 + samples.length * 4);
      const bytes = file.subarray(offset, offset + size);
      samples.push({ bytes, key: isKey(bytes) });
      offset += size;
    }
  }
  return { parameterSets: parseDecoderConfiguration(findBox(avc1, 'avcC')), samples };
}

/** Whether the first NAL unit, after its four-byte length, is a slice of an IDR picture. */
function isKey(sample: Uint8Array): boolean {
  return (sample[4]! & 0x1f) === 5;
}

function blackFrame(width: number, height: number): Uint8Array {
  const luma = width * height;
  return new Uint8Array((luma * 3) / 2).fill(16, 0, luma).fill(128, luma);
}

function frameAt({ i420, width, height, count }: Frames, index: number): Uint8Array {
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

function requireSameParameterSets(actual: ParameterSets, expected: ParameterSets): void {
  if (Buffer.compare(actual.sps, expected.sps) !== 0 || Buffer.compare(actual.pps, expected.pps) !== 0) {
    throw new Error('the encoder changed its parameter sets within a session');
  }
}

function requireInteger(name: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new RangeError(`${name} must be a whole number from ${least} to ${most}, not ${value}`);
  }
}
