import { type Chunk, endOf } from './chunk-index.js';

interface Arrival {
  readonly at: number;
  readonly endSeconds: number;
  /** How much later than the ones before it promised, in seconds. */
  readonly late: number;
}

/** Enough for what happens now and then, and little enough to be over soon. */
const REMEMBERED = 40;
/** So many tell how fast they come at present. */
const RECENT = 7;

/** When chunks came into the buffer: what playback may count on. Times are in seconds. */
export class Arrivals {
  private list: Arrival[] = [];
  /** Seconds that a second of video costs to make, where nothing newer is there. */
  private cost: number | undefined;

  /** Of the newest chunk that there is, what it cost says how long the next one will take; older ones only have to be fetched. */
  add(at: number, chunk: Chunk, newest: boolean): void {
    const last = this.list.at(-1);
    const endSeconds = endOf(chunk);
    const late = last ? Math.max(0, last.late + (at - last.at) - (endSeconds - last.endSeconds)) : 0;
    this.cost = newest ? (chunk.generateMilliseconds ?? 0) / 1000 / chunk.durationSeconds : undefined;
    this.list = [...this.list, { at, endSeconds, late }].slice(-REMEMBERED);
  }

  /** What came before says nothing about what comes: playback went elsewhere, or generation rested. */
  forget(): void {
    this.list = [];
  }

  /** How late they come at worst, in seconds. */
  get jitterSeconds(): number {
    return this.list.reduce((most, { late }) => Math.max(most, late), 0);
  }

  /** Seconds of video that come in a second, as far as can be told. */
  get speed(): number {
    const generated = this.cost ? 1 / this.cost : Infinity;
    const [first, last] = [this.list.at(-RECENT) ?? this.list[0], this.list.at(-1)];
    const took = first && last ? last.at - first.at : 0;
    const came = first && last && took > 0 ? (last.endSeconds - first.endSeconds) / took : Infinity;
    const speed = Math.min(generated, came);
    return speed === Infinity ? 1 : speed;
  }
}
