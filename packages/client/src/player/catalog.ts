/** Which chunks there are, by index: from events as they come, and from the playlist where somebody goes back to before. */
export interface Chunk {
  readonly index: number;
  readonly startSeconds: number;
  readonly durationSeconds: number;
  readonly url: string;
}

export class Catalog {
  private readonly chunks: Chunk[] = [];
  initUrl: string | undefined;

  add(chunk: Chunk): void {
    this.chunks[chunk.index] = chunk;
  }

  /** Where the newest chunk ends. */
  get end(): number {
    const last = this.chunks.at(-1);
    return last ? last.startSeconds + last.durationSeconds : 0;
  }

  /** Whether any chunk is known. */
  get empty(): boolean {
    return this.chunks.length === 0;
  }

  /** The chunks of a span in order; undefined where one is not known. */
  *between(start: number, end: number): Iterable<Chunk | undefined> {
    for (let index = this.indexAt(start); index < this.chunks.length; index++) {
      const chunk = this.chunks[index];
      if (chunk && chunk.startSeconds >= end) return;
      yield chunk;
    }
  }

  /** Takes over all chunks of an HLS playlist. */
  read(playlist: string, base: string): void {
    let [index, startSeconds, durationSeconds] = [0, 0, 0];
    for (const line of playlist.split('\n')) {
      const init = /^#EXT-X-MAP:.*URI="([^"]+)"/.exec(line)?.[1];
      if (init) this.initUrl = new URL(init, base).href;
      const duration = /^#EXTINF:([\d.]+)/.exec(line)?.[1];
      if (duration) durationSeconds = Number(duration);
      if (line === '' || line.startsWith('#')) continue;
      // What an event told of it is exacter than the playlist's sum of rounded durations.
      const known = this.chunks[index];
      this.chunks[index] = { ...(known ?? { index, startSeconds, durationSeconds }), url: new URL(line, base).href };
      startSeconds = (known?.startSeconds ?? startSeconds) + durationSeconds;
      index++;
    }
  }

  /** The chunk that plays then, or the first of those that are missing before it. */
  private indexAt(seconds: number): number {
    let [low, high] = [0, this.chunks.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const chunk = this.chunks[middle];
      // Missing ones are all before those that the events told.
      if (!chunk || chunk.startSeconds + chunk.durationSeconds <= seconds + 0.001) low = middle + 1;
      else high = middle;
    }
    const before = this.chunks[low - 1];
    const first = this.chunks[low];
    return !before && low > 0 && (first === undefined || first.startSeconds > seconds) ? low - 1 : low;
  }
}
