/** Which chunks a session has, by when they play. What came before the first one that was announced is looked up when it is wanted. */

export interface Chunk {
  readonly index: number;
  readonly startSeconds: number;
  readonly durationSeconds: number;
  readonly url: string;
  /** What making it cost, where that is known. */
  readonly generateMilliseconds?: number;
}

export const endOf = ({ startSeconds, durationSeconds }: Chunk): number => startSeconds + durationSeconds;

export class ChunkIndex {
  /** Without holes; the first one is not always the session's first. */
  private chunks: readonly Chunk[] = [];
  /** Nothing will come behind the last one. */
  complete = false;

  /** Where the video ends so far, in seconds. */
  get edgeSeconds(): number {
    const last = this.chunks.at(-1);
    return last ? endOf(last) : 0;
  }

  get newest(): Chunk | undefined {
    return this.chunks.at(-1);
  }

  /** One that was announced. A repeated one brings a fresh URL. */
  add(chunk: Chunk): void {
    const place = chunk.index - (this.chunks[0]?.index ?? chunk.index);
    if (place === this.chunks.length) (this.chunks as Chunk[]).push(chunk);
    else if (place >= 0 && place < this.chunks.length) (this.chunks as Chunk[])[place] = chunk;
    else this.chunks = [chunk];
  }

  /** All from the session's first on, as they were looked up; newer ones that are known already stay. */
  fill(all: readonly Chunk[]): void {
    const next = all.at(-1)?.index ?? -1;
    this.chunks = [...all, ...this.chunks.filter(({ index }) => index > next)];
  }

  /** The one that plays at the time; undefined behind the edge, and `unknown` before the first that is known. */
  at(seconds: number): Chunk | 'unknown' | undefined {
    const first = this.chunks[0];
    if (!first) return undefined;
    if (seconds < first.startSeconds) return 'unknown';
    let low = 0;
    let high = this.chunks.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (endOf(this.chunks[middle] as Chunk) > seconds) high = middle;
      else low = middle + 1;
    }
    return this.chunks[low];
  }

  after({ index }: Chunk): Chunk | undefined {
    return this.chunks[index + 1 - (this.chunks[0]?.index ?? 0)];
  }
}
