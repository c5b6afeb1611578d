/**
 * Checksums of what is stored: the first 64 bits of SHA-256, in hexadecimal. They find damage, not forgery. Lines of the
 * log and the record carry theirs in `check`, their last field; files of bytes in a trailer; media in the log (FrameChunk).
 */

import { createHash } from 'node:crypto';
import { DomainError } from '../errors.js';
import { StoreError } from '../ports.js';

const CHECK = /,"check":"([0-9a-f]{16})"\}$/;
const MAGIC = Buffer.from('LLCHECK1');
const TRAILER = MAGIC.length + 8;

/** What is stored cannot be read, and trying again does not help. */
export abstract class UnreadableError extends DomainError {
  constructor(
    /** Of the store. */
    readonly key: string,
    readonly problem: string,
    advice: string,
    cause?: unknown,
  ) {
    super('STORAGE', `${key} ${problem}${advice}`, { cause });
  }
}

/** Something stored is missing, or is not what was written; `longlive fsck` may help. */
export class DamagedError extends UnreadableError {
  override readonly name = 'DamagedError';

  constructor(key: string, problem: string, cause?: unknown) {
    super(key, problem, '; run longlive fsck to see all damage and what can be repaired.', cause);
  }
}

/** A later release wrote it: it is whole, and not for this one to judge or to remove. */
export class NewerFormatError extends UnreadableError {
  override readonly name = 'NewerFormatError';

  constructor(key: string, version: number, newest: number) {
    super(key, `has format version ${version}; this release reads versions 1 to ${newest}`, `: ${NEWER_ADVICE}.`);
  }
}

export const NEWER_ADVICE = 'use the release that wrote it, or a later one';

/** What is stored is the problem, not the store: trying again does not help. */
export function isLasting(error: unknown): error is DomainError {
  return error instanceof DomainError && error.code === 'STORAGE' && !(error.cause instanceof StoreError);
}

/** The store is the problem, not what is stored: the same may succeed later. */
export function isPassing(error: unknown): boolean {
  return error instanceof DomainError && error.code === 'STORAGE' && error.cause instanceof StoreError;
}

export function checksumOf(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex').slice(0, 16);
}

/** The checksum of what passes through. */
export class Summing {
  private readonly hash = createHash('sha256');
  bytes = 0;

  async *through(parts: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const part of parts) {
      this.hash.update(part);
      this.bytes += part.length;
      yield part;
    }
  }

  get check(): string {
    return this.hash.copy().digest('hex').slice(0, 16);
  }
}

/** Of all that comes. */
export async function sumOf(body: AsyncIterable<Uint8Array>): Promise<Summing> {
  const sum = new Summing();
  const parts = sum.through(body);
  while (!(await parts.next()).done);
  return sum;
}

/** How what is stored differs from what was written, as far as that is known; `undefined` when it does not. */
export function differenceOf(
  stored: { readonly bytes: number; readonly check: string },
  written: { bytes?: number | undefined; check?: string | undefined },
): string | undefined {
  if (written.bytes !== undefined && stored.bytes !== written.bytes)
    return `has ${stored.bytes} bytes, but ${written.bytes} were written`;
  if (written.check !== undefined && stored.check !== written.check) return 'is damaged: its checksum differs';
  return undefined;
}

/** The JSON text of an object, with its checksum. */
export function sealText(json: string): string {
  return `${json.slice(0, -1)},"check":"${checksumOf(json)}"}`;
}

/** The same without; what was written before there were checksums as it is. Throws DamagedError. */
export function unsealText(text: string, key: string): string {
  const check = CHECK.exec(text);
  if (!check) return text;
  const json = `${text.slice(0, check.index)}}`;
  if (checksumOf(json) !== check[1]) throw new DamagedError(key, 'is damaged: its checksum differs');
  return json;
}

export function isSealed(text: string): boolean {
  return CHECK.test(text);
}

/** The bytes, and behind them their checksum. */
export function sealBytes(bytes: Uint8Array): Uint8Array {
  return Buffer.concat([bytes, MAGIC, Buffer.from(checksumOf(bytes), 'hex')]);
}

/** The bytes; `sealed` tells whether a checksum said that they are the right ones. Throws DamagedError. */
export function unsealBytes(stored: Uint8Array, key: string): { bytes: Uint8Array; sealed: boolean } {
  const end = stored.length - TRAILER;
  if (stored.length === 0) throw new DamagedError(key, 'is empty');
  if (end < 0 || Buffer.compare(stored.subarray(end, end + MAGIC.length), MAGIC) !== 0) {
    return { bytes: stored, sealed: false };
  }
  const bytes = stored.subarray(0, end);
  const check = Buffer.from(stored.subarray(end + MAGIC.length)).toString('hex');
  if (checksumOf(bytes) !== check) throw new DamagedError(key, 'is damaged: its checksum differs');
  return { bytes, sealed: true };
}
