import {
  type Clock,
  type ListOptions,
  type ObjectStore,
  type PutOptions,
  StoreError,
} from '../../src/sessions/index.js';

/** The world as one process sees it, until it dies: from then on nothing it waits for ever happens. */
export class Mortal {
  private dead = false;
  private isCut = false;
  private slowness = 0;

  constructor(private readonly time: Clock) {}

  /** As `kill -9`: what has reached the store stays, and nothing follows. */
  kill(): void {
    this.dead = true;
  }

  /** Whether the store cannot be reached. */
  cut(isCut: boolean): void {
    this.isCut = isCut;
  }

  slow(milliseconds: number): void {
    this.slowness = milliseconds;
  }

  clock(clock: Clock): Clock {
    return {
      now: () => clock.now(),
      monotonic: () => clock.monotonic(),
      sleep: (milliseconds, signal) => this.alive(() => clock.sleep(milliseconds, signal)),
    };
  }

  store(store: ObjectStore): ObjectStore {
    const list = (prefix: string, options?: ListOptions) => this.list(store.list(prefix, options));
    return {
      put: (key, body, options) => this.reach(() => store.put(key, body, options)),
      putStream: (key: string, body: AsyncIterable<Uint8Array>, options?: PutOptions) =>
        this.reach(() => store.putStream(key, body, options)),
      get: (key, range) => this.reach(() => store.get(key, range)),
      head: (key) => this.reach(() => store.head(key)),
      list,
      delete: (key) => this.reach(() => store.delete(key)),
      presign: (key, options) => this.reach(() => store.presign(key, options)),
      check: () => this.reach(() => store.check()),
    };
  }

  private async *list<T>(entries: AsyncIterable<T>): AsyncGenerator<T> {
    for await (const entry of entries) {
      await this.reach(async () => undefined);
      yield entry;
    }
  }

  private reach<T>(work: () => Promise<T>): Promise<T> {
    return this.alive(async () => {
      if (this.isCut) throw new StoreError('UNREACHABLE', 'no route to the store');
      if (this.slowness > 0) await this.time.sleep(this.slowness);
      if (this.dead) return never();
      const answer = await work();
      if (this.slowness > 0) await this.time.sleep(this.slowness);
      return answer;
    });
  }

  private async alive<T>(work: () => Promise<T>): Promise<T> {
    if (this.dead) return never();
    try {
      const result = await work();
      return this.dead ? await never() : result;
    } catch (error) {
      if (this.dead) return never();
      throw error;
    }
  }
}

function never(): Promise<never> {
  return new Promise(() => undefined);
}
