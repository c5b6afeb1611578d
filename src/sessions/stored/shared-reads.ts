import type { Clock } from '../ports.js';

/** A reading that takes longer keeps nobody else waiting: its store may have come back meanwhile. */
const SLOW = 1_000;

interface Reading<T> {
  since: number;
  result: Promise<T>;
  /** Of those who asked after it had begun: what they read must not be older than their question. */
  next?: Promise<T>;
}

/** Readers of one object at the same moment share a reading, so that a crowd costs the store no more than a few do. */
export class SharedReads<T> {
  private readonly readings = new Map<string, Reading<T>>();

  constructor(private readonly clock: Clock) {}

  read(key: string, read: () => Promise<T>): Promise<T> {
    const reading = this.readings.get(key);
    if (!reading || this.clock.monotonic() - reading.since > SLOW) return this.begin(key, read);
    const begin = () => this.begin(key, read);
    return (reading.next ??= reading.result.then(begin, begin));
  }

  private begin(key: string, read: () => Promise<T>): Promise<T> {
    const reading: Reading<T> = { since: this.clock.monotonic(), result: read() };
    this.readings.set(key, reading);
    const forget = () => {
      if (this.readings.get(key) === reading && !reading.next) this.readings.delete(key);
    };
    reading.result.then(forget, forget);
    return reading.result;
  }
}
