/**
 * What files of strangers may ask for, in one place. Time and memory of a reader are linear in what it reads: the limits on
 * counts stop what is no checkpoint, the allowance stops what is small and unfolds.
 */

import { printed } from '../files/printable.js';
import { ImportError } from './errors.js';

/** Of a tensor's name, in characters; the longest that a known network has is 84. */
export const LONGEST_NAME = 1_024;
/** Of one file. */
export const MOST_TENSORS = 100_000;
export const MOST_PICKLE_BYTES = 64 * 2 ** 20;
/** Of a safetensors file, or of an index of several; of a network of 14 billion numbers: 0.3 MB. */
export const MOST_HEADER_BYTES = 16 * 2 ** 20;
/** Of tokenizer.json or spiece.model. */
export const MOST_TOKENIZER_BYTES = 256 * 2 ** 20;
export const MOST_PIECES = 1_000_000;
/** Of config.json, adapter_config.json and manifest.json. */
export const MOST_CONFIG_BYTES = 2 ** 20;
/** Bytes that building the contents of a small file may take, and how much more each byte read allows. */
const ALLOWANCE_BYTES = 8 * 2 ** 20;
const ALLOWANCE_PER_BYTE = 16;

/** Counts the memory that reading a file takes against what a file of its size has a use for. */
export class Allowance {
  private spent = 0;

  /** `read`: bytes of the file that were read so far. */
  constructor(private readonly read: () => number) {}

  /** Throws an ImportError when it is used up. */
  spend(bytes: number): void {
    this.spent += bytes;
    if (this.spent <= ALLOWANCE_BYTES + ALLOWANCE_PER_BYTE * this.read()) return;
    throw new ImportError(
      printed`The file expands at byte ${this.read()} to far more data than it contains (over ${this.spent} bytes), which no real checkpoint does. ` +
        'If you trust it, load it in PyTorch and save its state dict as safetensors.',
    );
  }
}
