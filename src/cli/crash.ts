import { setTimeout as delay } from 'node:timers/promises';
import { inspect } from 'node:util';

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
    tell(log, error, { origin }, 'Unexpected failure: the service is stopping and must be restarted');
    if (ending) return;
    ending = true;
    // Also when the event loop's work never ends, or what is closed hangs.
    void delay(seconds * 1000).then(() => process.exit(exitCode));
    attempt(() => parts.notReady('Internal error: the service is about to restart.'));
    void Promise.resolve()
      .then(() => parts.close())
      .catch((failure: unknown) => tell(log, failure, {}, 'Not everything could be saved'))
      .finally(() => process.exit(exitCode));
  };
  const exception = (error: unknown, origin: string) => end(error, origin);
  const rejection = (reason: unknown) => end(reason, 'unhandledRejection');
  process.on('uncaughtException', exception).on('unhandledRejection', rejection);
  return () => void process.off('uncaughtException', exception).off('unhandledRejection', rejection);
}

/** Whatever was thrown, an object that throws when it is looked at included: the end must not fail on the way to the log. */
function tell(log: CrashParts['log'], thrown: unknown, facts: object, message: string): void {
  const told =
    attempt(() => log.fatal({ ...facts, error: asError(thrown) }, message)) ||
    attempt(() => log.fatal({ ...facts, error: inWords(thrown) }, message));
  if (!told) attempt(() => log.fatal(facts, message));
}

/** An error as it is; anything else that can be thrown as what it holds. */
function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(`Thrown without an Error: ${wordsOf(() => thrown)}`);
}

/** Of what cannot be logged as it is, all that can be read, as text. */
function inWords(thrown: unknown): Error {
  const from = Object(thrown) as Record<PropertyKey, unknown>;
  const words = new Error(wordsOf(() => from['message']));
  words.stack = wordsOf(() => from['stack']);
  let keys: string[] = [];
  attempt(() => (keys = Object.keys(from)));
  for (const key of keys) Object.assign(words, { [key]: wordsOf(() => from[key]) });
  return words;
}

/** Reads nothing through a proxy's traps, a getter or a method of what is shown. */
function wordsOf(read: () => unknown): string {
  try {
    const value = read();
    return typeof value === 'string' ? value : inspect(value, { customInspect: false, breakLength: Infinity });
  } catch {
    return '(cannot be read)';
  }
}

/** Whether it could be done. */
function attempt(work: () => unknown): boolean {
  try {
    work();
    return true;
  } catch {
    return false; // The end goes on.
  }
}
