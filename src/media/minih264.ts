/** The encoder that needs nothing: minih264 in WebAssembly, in worker threads. */
import type { EncodedPictures, PictureEncoder, PictureJob } from '../sessions/ports.js';
import { findBox } from './boxes.js';
import { EncoderPool } from './encoder-pool.js';
import { parseDecoderConfiguration } from './h264.js';

export class MiniH264 implements PictureEncoder {
  readonly name = 'minih264';
  readonly #pool: EncoderPool;

  constructor(
    threads: number,
    private readonly speed: number,
  ) {
    this.#pool = new EncoderPool(threads);
  }

  async encode(job: PictureJob): Promise<EncodedPictures> {
    return readSamples(await this.#pool.encode({ ...job, frames: copyOf(job.frames), speed: this.speed }));
  }

  warmUp(): void {
    this.#pool.warmUp();
  }

  close(): Promise<void> {
    return this.#pool.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** In memory of its own, which a thread can take; `slice` of a Buffer would not copy. */
const copyOf = (frames: Uint8Array): Uint8Array => new Uint8Array(frames);

/** The parameter sets and samples of the plain MP4 file that the encoder writes: one track, in decoding order. */
function readSamples(file: Uint8Array): EncodedPictures {
  const tables = findBox(file, 'moov', 'trak', 'mdia', 'minf', 'stbl');
  const avc1 = findBox(tables, 'stsd').subarray(8 + 8 + 78); // full box, then the sample entry's own fields
  const sizes = findBox(tables, 'stsz');
  const chunks = findBox(tables, 'stco');
  const runs = findBox(tables, 'stsc');
  const samples: EncodedPictures['samples'] = [];
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
