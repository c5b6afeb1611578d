/** A process of its own: what the threads of the service answer, however its sources were loaded. */
import { HashThread } from '../../src/packages/hash-thread.js';
import { EncoderPool } from '../../src/media/encoder-pool.js';

const pool = new EncoderPool(1);
const frames = new Uint8Array((64 * 64 * 3) / 2).fill(128);
const file = await pool.encode({ width: 64, height: 64, fps: 16, frames, quantizer: 24, speed: 10 });
await pool.close();

const hashes = new HashThread();
const hash = hashes.open();
await hash.update(new Uint8Array(new SharedArrayBuffer(1)));
const digest = await hash.digest();
await hashes.close();

process.stdout.write(JSON.stringify({ encoded: file.length > 100, digest }));
