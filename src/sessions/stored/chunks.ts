/** Media of a session as the log names them: what is read is what was logged, or DamagedError. */

import type { FrameChunk } from '../events.js';
import { checksumOf, DamagedError } from './checksum.js';
import type { Vault } from './vault.js';

export function readChunk(vault: Vault, { key, bytes, check }: FrameChunk): Promise<Uint8Array> {
  return readMedia(vault, key, check, bytes);
}

export function readInit(vault: Vault, { initKey, initCheck }: FrameChunk): Promise<Uint8Array> {
  return readMedia(vault, initKey, initCheck);
}

/** What is not known of it, because it was logged before there were checksums, is not compared. */
async function readMedia(vault: Vault, key: string, check?: string, bytes?: number): Promise<Uint8Array> {
  const stored = await vault.read(key);
  if (!stored) throw new DamagedError(key, 'is missing from the store');
  const problem = problemOf(stored.bytes, check, bytes);
  if (problem !== undefined) throw new DamagedError(key, problem);
  return stored.bytes;
}

function problemOf(stored: Uint8Array, check?: string, bytes?: number): string | undefined {
  if (bytes !== undefined && stored.length !== bytes) return `has ${stored.length} bytes, where ${bytes} were written`;
  if (check !== undefined && checksumOf(stored) !== check) return 'is damaged: its checksum differs';
  return undefined;
}
