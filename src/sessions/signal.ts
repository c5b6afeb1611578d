import type { Clock } from './ports.js';

/** Why somebody waits no longer. One for all: an AbortController makes an error with a stack when it is given none. */
export const OVER = new Error('no longer waited for');

/** Wakes everybody who waits; remembers nothing, so waiters look at the state before they wait. */
export class Signal {
  private waiters = new Set<() => void>();

  notify(): void {
    const waiters = this.waiters;
    this.waiters = new Set();
    for (const wake of waiters) wake();
  }

  /** Resolves at the next notify, after the time, or when the abort signal fires. */
  async wait(clock: Clock, milliseconds: number, abort?: AbortSignal): Promise<void> {
    const timer = new AbortController();
    let wake: () => void = () => undefined;
    const notified = new Promise<void>((resolve) => {
      wake = resolve;
      this.waiters.add(resolve);
      abort?.addEventListener('abort', wake, { once: true });
      if (abort?.aborted) resolve();
    });
    try {
      await Promise.race([notified, clock.sleep(milliseconds, timer.signal)]);
    } finally {
      timer.abort(OVER);
      this.waiters.delete(wake);
      abort?.removeEventListener('abort', wake);
    }
  }
}

/** A generator answers return() only when its pending next() is over: this one is told to end that wait first. */
export function closable<T>(
  outer: AbortSignal | undefined,
  begin: (signal: AbortSignal) => AsyncGenerator<T, void, undefined>,
): AsyncGenerator<T, void, undefined> {
  const closed = new AbortController();
  const events = begin(outer ? AbortSignal.any([outer, closed.signal]) : closed.signal);
  const end = events.return.bind(events);
  events.return = (value) => {
    closed.abort(OVER);
    return end(value);
  };
  return events;
}
