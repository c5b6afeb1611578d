/** What the queue needs of a `SourceBuffer`. */
export interface BufferLike extends Pick<EventTarget, 'addEventListener' | 'removeEventListener'> {
  readonly updating: boolean;
  appendBuffer(bytes: BufferSource): void;
  remove(start: number, end: number): void;
}

export class DecodeError extends Error {
  override readonly name = 'DecodeError';
  readonly code = 'DECODE';

  constructor() {
    super('The browser could not decode the video.');
  }
}

/**
 * Changes to a buffer, one after the other: each begins when the one before is done. However many there are, the buffer
 * has one listener for each of its two events. A change that fails, such as for want of room, leaves the queue as it was.
 */
export class AppendQueue {
  private last: Promise<void> = Promise.resolve();
  private settle: ((error?: Error) => void) | undefined;
  private closed: Error | undefined;

  constructor(private readonly buffer: BufferLike) {
    buffer.addEventListener('updateend', this.done);
    buffer.addEventListener('error', this.failed);
  }

  /** Fails with the browser's `QuotaExceededError` when there is no room. */
  append(bytes: BufferSource): Promise<void> {
    return this.change(() => this.buffer.appendBuffer(bytes));
  }

  remove(start: number, end: number): Promise<void> {
    return this.change(() => this.buffer.remove(start, end));
  }

  /** Does what must not be done while the buffer changes. */
  change(work: () => void): Promise<void> {
    const change = this.last.then(() => this.begin(work));
    this.last = change.catch(() => undefined);
    return change;
  }

  /** What waits, and what comes, fails with the reason. */
  close(reason: Error): void {
    this.closed ??= reason;
    this.buffer.removeEventListener('updateend', this.done);
    this.buffer.removeEventListener('error', this.failed);
    this.settle?.(this.closed);
  }

  private begin(work: () => void): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      if (this.closed) return reject(this.closed);
      this.settle = (error) => {
        this.settle = undefined;
        if (error) reject(error);
        else resolve();
      };
      try {
        work();
      } catch (error) {
        return this.settle(error as Error);
      }
      if (!this.buffer.updating) this.settle();
    });
  }

  private readonly done = (): void => this.settle?.();
  private readonly failed = (): void => this.settle?.(new DecodeError());
}
