import { setTimeout as delay } from 'node:timers/promises';

export interface CrashParts {
  log: { fatal(details: object, message: string): void };
  /** What must be known at once: that the service takes no more work. */
  notReady(reason: string): void;
  /** Writes down what can be written down, and frees the rest. */
  close(): Promise<void>;
  /** The longest that may take. */
  seconds: number;
  /** A supervisor starts the process again on this code. */
  exitCode: number;
}

/**
 * Ends the process in order when something happens that nobody foresaw: an exception that no code caught leaves behind a
 * state that nobody knows. Logged with all that it carries; what can be saved is saved, within a bounded time.
 */
export function endWhenUnforeseen(parts: CrashParts): () => void {
  const { log, seconds, exitCode } = parts;
  let ending = false;
  const end = (error: unknown, origin: string) => {
    log.fatal({ ...describe(error), origin }, 'Unexpected failure: the service is stopping and must be restarted');
    if (ending) return;
    ending = true;
    // Also when the event loop's work never ends, or what is closed hangs.
    void delay(seconds * 1000).then(() => process.exit(exitCode));
    attempt(() => parts.notReady('Internal error: the service is about to restart.'));
    void Promise.resolve()
      .then(() => parts.close())
      .catch((failure: unknown) => log.fatal(describe(failure), 'Not everything could be saved'))
      .finally(() => process.exit(exitCode));
  };
  const exception = (error: unknown, origin: string) => end(error, origin);
  const rejection = (reason: unknown) => end(reason, 'unhandledRejection');
  process.on('uncaughtException', exception).on('unhandledRejection', rejection);
  return () => void process.off('uncaughtException', exception).off('unhandledRejection', rejection);
}

/** An error as it is; anything else that can be thrown as what it holds. */
function describe(error: unknown): object {
  if (error instanceof Error) return { error };
  try {
    return {
      error: new Error(`Thrown without an Error: ${typeof error === 'string' ? error : JSON.stringify(error)}`),
    };
  } catch {
    return { error: new Error(`Thrown without an Error: ${typeof error}`) };
  }
}

function attempt(work: () => void): void {
  try {
    work();
  } catch {
    // The end goes on.
  }
}
