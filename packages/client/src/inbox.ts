import { ConnectionError } from './errors.js';
import type { Sink } from './wire/wire.js';

/** What a subscription brought and nobody took yet: at most `limit` items, then it says so and takes no more. */
export class Inbox<Item> implements Sink<Item> {
  private readonly items: Item[] = [];
  private over: { readonly error?: Error } | undefined;
  private wake: () => void = () => undefined;

  constructor(
    private readonly limit: number,
    private readonly onOpen: () => void,
    private readonly onFull: () => void,
  ) {}

  open(): void {
    if (!this.over) this.onOpen();
  }

  next(item: Item): void {
    if (this.over) return;
    this.items.push(item);
    if (this.items.length >= this.limit) {
      this.over = {};
      this.onFull();
    }
    this.wake();
  }

  error(error: Error): void {
    this.over ??= { error };
    this.wake();
  }

  complete(): void {
    this.over ??= {};
    this.wake();
  }

  /** The next item, or undefined when there will be none; fails with what ended it, or when nothing comes for so long. */
  async take(silenceMilliseconds: number, signal: AbortSignal): Promise<Item | undefined> {
    if (this.items.length === 0 && !this.over) await this.something(silenceMilliseconds, signal);
    signal.throwIfAborted();
    const item = this.items.shift();
    if (item === undefined && this.over?.error) throw this.over.error;
    return item;
  }

  private async something(milliseconds: number, signal: AbortSignal): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const woken = new Promise<void>((resolve, reject) => {
      this.wake = resolve;
      signal.addEventListener('abort', this.wake, { once: true });
      timer = setTimeout(() => reject(new SilenceError()), milliseconds);
    });
    await woken.finally(() => {
      clearTimeout(timer);
      signal.removeEventListener('abort', this.wake);
    });
  }
}

/** Not even a heartbeat came: the connection is dead though nobody said so. */
export class SilenceError extends ConnectionError {
  constructor() {
    super('The service fell silent.');
  }
}
