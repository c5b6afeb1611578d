/** What errors of the file system mean to a store. */
import { StoreError, type StoreErrorCode } from '../sessions/ports.js';

const CODES: Readonly<Record<string, StoreErrorCode>> = {
  ENOENT: 'NOT_FOUND',
  EEXIST: 'CONFLICT',
  ENOSPC: 'NO_SPACE',
  EDQUOT: 'NO_SPACE',
  EFBIG: 'NO_SPACE',
  EACCES: 'DENIED',
  EPERM: 'DENIED',
  EROFS: 'DENIED',
  EISDIR: 'INVALID_KEY',
  ENOTDIR: 'INVALID_KEY',
  ENAMETOOLONG: 'INVALID_KEY',
};

const HINTS: Partial<Record<StoreErrorCode, string>> = {
  NOT_FOUND: 'there is no such object',
  CONFLICT: 'the object exists already',
  NO_SPACE: 'the disk is full: free some space',
  DENIED: 'access denied: check the permissions of the data directory',
  INVALID_KEY: 'a file is where a folder is needed, or the other way round; rename or remove it',
};

const READ_ONLY = 'the file system of the data directory is read-only: mount it for writing, or choose another place';

/** Turns an error of the file system into a StoreError. */
export function fileError(error: unknown, key: string): StoreError {
  if (error instanceof StoreError) return error;
  const systemCode = errorCode(error);
  const folderIsObject = systemCode === 'EEXIST' && (error as NodeJS.ErrnoException).syscall === 'mkdir';
  const code = folderIsObject ? 'INVALID_KEY' : (CODES[systemCode] ?? 'UNREACHABLE');
  const hint = systemCode === 'EROFS' ? READ_ONLY : HINTS[code];
  return new StoreError(code, `${key}: ${hint ?? `the file system failed (${systemCode || String(error)})`}`, {
    cause: error,
  });
}

export async function translate<T>(key: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw fileError(error, key);
  }
}

export async function ignore<T>(codes: readonly string[], work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (codes.includes(errorCode(error))) return undefined;
    throw error;
  }
}

export function errorCode(error: unknown): string {
  return (error as NodeJS.ErrnoException | undefined)?.code ?? '';
}
