/** An import whose disk stops in the middle of its last large file, and that waits to be killed; its options are its argument. */

import { writeSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { importModel, type ImportOptions } from '../../../src/import/index.js';

const some = await open(fileURLToPath(import.meta.url));
const disk = Object.getPrototypeOf(some) as Pick<FileHandle, 'write'>;
await some.close();
// Somebody has to be there for as long as nothing happens.
setInterval(() => undefined, 1_000);

const options = JSON.parse(process.argv[2] as string) as ImportOptions;
const addProduct = () => Promise.reject(new Error('There is nothing to merge.'));
await importModel({
  ...options,
  addProduct,
  onProgress(_bytes, file) {
    if (file !== 'vae.safetensors') return;
    disk.write = () => new Promise<never>(() => undefined);
    writeSync(1, `${file}\n`);
  },
});
