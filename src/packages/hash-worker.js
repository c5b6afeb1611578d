// @ts-check
/** The thread of hash-thread.ts: plain JavaScript, so that it runs beside the sources and beside the compiled output. */
import { createHash } from 'node:crypto';
import { parentPort } from 'node:worker_threads';

/** @type {Map<number, import('node:crypto').Hash>} */
const hashes = new Map();

parentPort?.on('message', (/** @type {{ id: number, bytes?: Uint8Array }} */ { id, bytes }) => {
  const hash = hashes.get(id) ?? createHash('sha256');
  hashes.set(id, hash);
  if (bytes) {
    hash.update(bytes);
    parentPort?.postMessage('');
  } else {
    hashes.delete(id);
    parentPort?.postMessage(hash.digest('hex'));
  }
});
