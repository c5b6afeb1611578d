/** An import that stops in the middle of its last large file and waits to be killed; its options are its argument. */

import { writeSync } from 'node:fs';
import { importModel, type ImportOptions } from '../../../src/import/index.js';

const options = JSON.parse(process.argv[2] as string) as ImportOptions;
const addProduct = () => Promise.reject(new Error('There is nothing to merge.'));
await importModel({
  ...options,
  addProduct,
  onProgress(_bytes, file) {
    if (file !== 'vae.safetensors') return;
    writeSync(1, `${file}\n`);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  },
});
