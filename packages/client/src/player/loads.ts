import type { Chunk } from './chunk-index.js';

export type Load = (url: string, signal: AbortSignal) => Promise<Uint8Array<ArrayBuffer>>;

/** A connection on which nothing comes any more looks like a slow one. */
const LOAD_WITHIN_MS = 15_000;

interface Loading {
  readonly bytes: Promise<Uint8Array<ArrayBuffer>>;
  readonly stop: AbortController;
}

/** The bytes of chunks that are wanted now or next, each fetched once. */
export class Loads {
  private readonly under = new Map<number, Loading>();

  constructor(private readonly load: Load) {}

  /** Of the first of them; the others are fetched meanwhile, and what is not among them is given up. */
  get(wanted: readonly [Chunk, ...Chunk[]]): Promise<Uint8Array<ArrayBuffer>> {
    for (const index of this.under.keys()) if (!wanted.some((chunk) => chunk.index === index)) this.drop(index);
    const [first] = wanted.map((chunk) => this.begin(chunk)) as [Loading];
    return first.bytes;
  }

  /** It is in the buffer, or has to be fetched anew. */
  drop(index: number): void {
    this.under.get(index)?.stop.abort();
    this.under.delete(index);
  }

  close(): void {
    for (const index of this.under.keys()) this.drop(index);
  }

  private begin(chunk: Chunk): Loading {
    const known = this.under.get(chunk.index);
    if (known) return known;
    const stop = new AbortController();
    const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(LOAD_WITHIN_MS)]);
    const begun = { stop, bytes: this.load(chunk.url, signal) };
    begun.bytes.catch(() => undefined); // Who takes it is told.
    this.under.set(chunk.index, begun);
    return begun;
  }
}
