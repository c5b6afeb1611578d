import { printed } from '../files/printable.js';
import { systemProblem } from '../files/system-errors.js';
import { ImportError } from '../import/errors.js';
import { ConfigError } from '../server/config.js';
import { DomainError } from '../sessions/errors.js';
import { StoreError } from '../sessions/ports.js';

/** Exit codes, stable for scripts. */
export const EXIT = {
  ok: 0,
  /** A defect of this program. */
  bug: 1,
  /** `fsck` found what it could not repair, or was not asked to. */
  damaged: 1,
  /** The command line or a setting makes no sense. */
  usage: 2,
  /** No usable model package, device or native core. */
  unavailable: 3,
  /** The store or the output file cannot be written. */
  storage: 4,
  /** Generation began and failed. */
  generation: 5,
  interrupted: 130,
} as const;

/** An expected failure of a command: a message for people and a code for scripts. */
export class Failure extends Error {
  override readonly name = 'Failure';

  constructor(
    readonly exitCode: number,
    message: string,
  ) {
    super(message);
  }
}

const OF_DOMAIN: Partial<Record<DomainError['code'], number>> = {
  INVALID_INPUT: EXIT.usage,
  NOT_FOUND: EXIT.usage,
  MODEL_UNAVAILABLE: EXIT.unavailable,
  ENCODER_UNAVAILABLE: EXIT.unavailable,
  AT_CAPACITY: EXIT.unavailable,
  STORAGE: EXIT.storage,
  ENGINE: EXIT.generation,
  MEDIA: EXIT.generation,
};

/** Anything thrown, as a message and an exit code; a stack only for what nobody foresaw. */
export function explain(error: unknown): { exitCode: number; message: string } {
  if (error instanceof Failure) return { exitCode: error.exitCode, message: error.message };
  if (error instanceof ConfigError) return { exitCode: EXIT.usage, message: error.message };
  if (error instanceof ImportError) return { exitCode: EXIT.unavailable, message: error.message };
  if (error instanceof DomainError) {
    const cause = error.cause instanceof Error && error.code === 'STORAGE' ? ` ${error.cause.message}` : '';
    return { exitCode: OF_DOMAIN[error.code] ?? EXIT.bug, message: `${error.message}${cause}` };
  }
  if (error instanceof StoreError) return { exitCode: EXIT.storage, message: error.message };
  if (isListenError(error)) return { exitCode: EXIT.usage, message: error.message };
  const problem = systemProblem(error);
  if (problem !== undefined) {
    const { path = 'A file' } = error as NodeJS.ErrnoException;
    return { exitCode: EXIT.storage, message: printed`${path} cannot be used: ${problem}.` };
  }
  return { exitCode: EXIT.bug, message: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}

/** Also where the host to listen on has no address: whoever else is asked for by name has errors of its own. */
function isListenError(error: unknown): error is Error {
  return (
    error instanceof Error && 'syscall' in error && (error.syscall === 'listen' || error.syscall === 'getaddrinfo')
  );
}
