import { ClosedError } from '../errors.js';

/** What of a SourceBuffer is used here. */
export type MediaBuffer = Pick<SourceBuffer, 'appendBuffer' | 'remove' | 'updating' | 'addEventListener'>;

export interface Span {
  readonly start: number;
  readonly end: number;
}

/** The browser keeps no more, and nothing can be given up. */
export class BufferFullError extends Error {
  override readonly name = 'BufferFullError';
}

/** Changes of a SourceBuffer, one after the other: a second one while the first is under way would throw. */
export class AppendQueue {
  private last: Promise<void> = Promise.resolve();
  private readonly closing = new AbortController();

  /** `expendable` says what may go when the buffer is full, asked again with higher numbers while that is not enough. */
  constructor(
    private readonly buffer: MediaBuffer,
    private readonly expendable: (attempt: number) => Span | undefined,
  ) {}

  /** Resolves when it is in the buffer; what does not fit makes room for itself first. */
  append(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    return this.enqueue(async () => {
      for (let attempt = 0; ; attempt++) {
        try {
          return await this.change(() => this.buffer.appendBuffer(bytes));
        } catch (error) {
          if ((error as Error).name !== 'QuotaExceededError') throw error;
          const span = this.expendable(attempt);
          if (!span) throw new BufferFullError('The browser has no room for more video.', { cause: error });
          if (span.end > span.start) await this.change(() => this.buffer.remove(span.start, span.end));
        }
      }
    });
  }

  remove({ start, end }: Span): Promise<void> {
    return this.enqueue(() => this.change(() => this.buffer.remove(start, end)));
  }

  /** What is under way and what waits fails. */
  close(): void {
    this.closing.abort(new ClosedError());
  }

  private enqueue(work: () => Promise<void>): Promise<void> {
    const result = this.last.then(work);
    this.last = result.catch(() => undefined);
    return result;
  }

  private change(begin: () => void): Promise<void> {
    const { signal } = this.closing;
    signal.throwIfAborted();
    const done = new AbortController();
    return new Promise<void>((resolve, reject) => {
      const on = { signal: done.signal };
      this.buffer.addEventListener('updateend', () => resolve(), on);
      this.buffer.addEventListener('error', () => reject(new Error('The browser cannot decode this video.')), on);
      signal.addEventListener('abort', () => reject(signal.reason as Error), on);
      begin();
    }).finally(() => done.abort());
  }
}
