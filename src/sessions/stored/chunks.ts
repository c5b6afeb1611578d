/** Media of a session as the log names them: what is read is what was logged, or DamagedError. */

import type { FrameChunk } from '../events.js';
import { checksumOf, DamagedError, differenceOf } from './checksum.js';
import type { Vault } from './vault.js';

export async function readChunk(vault: Vault, chunk: FrameChunk): Promise<Uint8Array> {
  return mustBeChunk(chunk, await readMedia(vault, chunk.key));
}

export async function readInit(vault: Vault, chunk: FrameChunk): Promise<Uint8Array> {
  return mustBeInit(chunk, await readMedia(vault, chunk.initKey));
}

/** The bytes, unless they are not those of the chunk; throws DamagedError. */
export function mustBeChunk({ key, check, bytes }: FrameChunk, stored: Uint8Array): Uint8Array {
  return mustBe(key, stored, check, bytes);
}

export function mustBeInit({ initKey, initCheck }: FrameChunk, stored: Uint8Array): Uint8Array {
  return mustBe(initKey, stored, initCheck);
}

async function readMedia(vault: Vault, key: string): Promise<Uint8Array> {
  const stored = await vault.read(key);
  if (!stored) throw new DamagedError(key, 'is missing from the store');
  return stored.bytes;
}

/** What is not known of it, because it was logged before there were checksums, is not compared. */
function mustBe(key: string, stored: Uint8Array, check?: string, bytes?: number): Uint8Array {
  const sum = {
    bytes: stored.length,
    get check() {
      return checksumOf(stored);
    },
  };
  const difference = differenceOf(sum, { check, bytes });
  if (difference !== undefined) throw new DamagedError(key, difference);
  return stored;
}
