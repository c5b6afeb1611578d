// @ts-check
/**
 * The thread of encoder-pool.ts. A file of its own in plain JavaScript: it runs as it is beside the sources, where a
 * compiler may rewrite everything else, and beside the compiled output, where it is copied to.
 */
import { createRequire } from 'node:module';
import { parentPort } from 'node:worker_threads';

/**
 * What is needed of the encoder's interface.
 * @typedef {{
 *   width: number, height: number, frameRate: number, quantizationParameter: number, speed: number,
 *   groupOfPictures: number, outputFilename: string,
 *   FS: { readFile(path: string): Uint8Array, unlink(path: string): void },
 *   initialize(): void, addFrameYuv(frame: Uint8Array): void, finalize(): void, delete(): void,
 * }} WasmEncoder
 */

/** @type {{ createH264MP4Encoder: () => Promise<WasmEncoder> }} */
const { createH264MP4Encoder } = createRequire(import.meta.url)('h264-mp4-encoder');

/** @param {import('./encoder-pool.js').EncodeJob} job */
async function encode({ width, height, fps, frames, quantizer, speed }) {
  const frameBytes = (width * height * 3) / 2;
  const count = frames.length / frameBytes;
  const encoder = await createH264MP4Encoder();
  try {
    encoder.width = width;
    encoder.height = height;
    encoder.frameRate = fps;
    encoder.quantizationParameter = quantizer;
    encoder.speed = speed;
    encoder.groupOfPictures = count + 1;
    encoder.outputFilename = 'chunk.mp4';
    encoder.initialize();
    for (let i = 0; i < count; i++) encoder.addFrameYuv(frames.subarray(i * frameBytes, (i + 1) * frameBytes));
    encoder.finalize();
    const file = encoder.FS.readFile('chunk.mp4');
    encoder.FS.unlink('chunk.mp4');
    return file;
  } finally {
    encoder.delete();
  }
}

// Compiles the encoder before it is needed; what goes wrong will go wrong again when somebody is there to hear it.
createH264MP4Encoder().then(
  (encoder) => encoder.delete(),
  () => undefined,
);

parentPort?.on('message', (job) => {
  encode(job).then(
    (file) => parentPort?.postMessage({ file }, [/** @type {ArrayBuffer} */ (file.buffer)]),
    (error) => parentPort?.postMessage({ error: String(error) }),
  );
});
