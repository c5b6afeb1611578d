import { DomainError, type DomainErrorCode, UnusableCheckpoint } from '../sessions/errors.js';

/** What native/include/longlive/error.h may say. */
type NativeCode =
  'INVALID_ARGUMENT' | 'INVALID_PACKAGE' | 'UNAVAILABLE' | 'OUT_OF_MEMORY' | 'DEVICE_FAULT' | 'INTERNAL' | 'CANCELLED';

const MEANING: Record<NativeCode, DomainErrorCode> = {
  INVALID_ARGUMENT: 'INVALID_INPUT',
  INVALID_PACKAGE: 'MODEL_UNAVAILABLE',
  UNAVAILABLE: 'MODEL_UNAVAILABLE',
  OUT_OF_MEMORY: 'AT_CAPACITY',
  DEVICE_FAULT: 'ENGINE',
  INTERNAL: 'ENGINE',
  CANCELLED: 'ENGINE',
};

const RETRY_AFTER_SECONDS = 30;

/** While opening: the request or the package may be at fault. */
export function openingError(error: unknown): DomainError {
  if (error instanceof DomainError) return error;
  const code = MEANING[nativeCode(error) ?? 'INTERNAL'];
  const retryAfterSeconds = code === 'AT_CAPACITY' ? RETRY_AFTER_SECONDS : undefined;
  return new DomainError(code, messageOf(error), { cause: error, ...(retryAfterSeconds && { retryAfterSeconds }) });
}

/** While going on from a checkpoint: where that is at fault, neither what was asked for nor the package is. */
export function restoringError(error: unknown): DomainError {
  const code = nativeCode(error);
  if (code !== 'INVALID_ARGUMENT' && code !== 'INVALID_PACKAGE') return openingError(error);
  return new UnusableCheckpoint(messageOf(error), error);
}

/** While running: whatever happens now is the engine's. */
export function runningError(error: unknown): DomainError {
  return new DomainError('ENGINE', messageOf(error), { cause: error });
}

/** Of loading: the device does not have what the options ask for. */
export function isUnsupported(error: unknown): boolean {
  return nativeCode(error) === 'INVALID_ARGUMENT';
}

/** What only the device itself reports; every other error is that of one session, model or call. */
export function isDeviceFault(error: unknown): boolean {
  return nativeCode(error) === 'DEVICE_FAULT';
}

function nativeCode(error: unknown): NativeCode | undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' && code in MEANING ? (code as NativeCode) : undefined;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
