import { DomainError } from '../errors.js';
import { type Clock, type ListOptions, type ObjectStore, type PutOptions, StoreError } from '../ports.js';
import { OVER, Signal } from '../signal.js';
import { DamagedError } from './checksum.js';
import { SharedReads } from './shared-reads.js';
import { readWhole } from './whole.js';

const FIRST_WAIT = 100;
/** The part of a wait that nothing shortens: what the store refuses although it takes other things is not asked for again at once. */
const LEAST = 1 / 8;
const LONGEST_WAIT = 5_000;

/** An operation that takes longer than this makes whoever waits for it wait for the store. */
const SLOW = 2_000;

/** Another server has written where only the owner may: whoever sees this has lost the session and must stop. */
export class OwnershipLost extends Error {
  constructor(key: string) {
    super(`${key} was written by another server.`);
    this.name = 'OwnershipLost';
  }
}

export interface StoredBytes {
  bytes: Uint8Array;
  etag: string;
  contentType: string;
}

interface OperationKind {
  /** Uploads take as long as they take. */
  long?: boolean;
  /** A conflict is an answer to it; of anything else it says that the store is busy. */
  conditional?: boolean;
}

/** Something asked of the store that is not answered yet. */
interface Operation extends OperationKind {
  key: string;
  since: number;
  failure?: unknown;
  /** Aborted to end the waiting for an answer, or for another attempt. */
  waiting: AbortController;
}

/**
 * The object store with patience: transient failures are tried again for `retrySeconds`, answers are awaited no longer
 * than that, and what is left of it all becomes DomainError STORAGE.
 */
export class Vault {
  private readonly reads: SharedReads<StoredBytes | undefined>;

  constructor(
    private readonly store: ObjectStore,
    private readonly clock: Clock,
    private readonly retrySeconds: number,
    private readonly signal?: AbortSignal,
    /** Of all views together; nobody may wait any more once it is `over`. */
    private readonly waits = { underWay: new Set<Operation>(), over: false },
    private readonly makeRoom: () => Promise<boolean> = () => Promise.resolve(false),
    /** Of all vaults of this store: it has taken something. */
    private readonly works = new Signal(),
  ) {
    this.reads = new SharedReads(clock);
  }

  /** The same store for one reader, who waits and reads no longer than the signal lets. */
  until(signal: AbortSignal | undefined): Vault {
    return signal
      ? new Vault(this.store, this.clock, this.retrySeconds, signal, this.waits, undefined, this.works)
      : this;
  }

  /** The same store for what may as well be done later; that it waits is no trouble of others. */
  impatient(retrySeconds: number): Vault {
    return new Vault(this.store, this.clock, retrySeconds, undefined, undefined, undefined, this.works);
  }

  /** Before another attempt at what the store refused: as long as is said, or until it takes something of anybody again. */
  async rest(milliseconds: number, signal?: AbortSignal): Promise<void> {
    await this.clock.sleep(milliseconds * LEAST, signal);
    if (!signal?.aborted) await this.works.wait(this.clock, milliseconds * (1 - LEAST), signal);
  }

  /** The same store for one who knows what may go when it is full: `make` removes some of it, until it says that nothing is left. */
  makingRoom(make: () => Promise<boolean>): Vault {
    return new Vault(this.store, this.clock, this.retrySeconds, this.signal, this.waits, make, this.works);
  }

  /** Why somebody waits for the store now; undefined while it answers. */
  get trouble(): DomainError | undefined {
    const now = this.clock.monotonic();
    for (const { key, since, long, failure } of this.waits.underWay) {
      if (failure !== undefined) return asDomainError(storageError(key, failure));
      if (!long && now - since > SLOW) return asDomainError(storageError(key, noAnswer(key, now - since)));
    }
    return undefined;
  }

  /** From now on nobody waits longer than this, also who waits already: what the store does not take by then fails. */
  leave(milliseconds: number): void {
    void this.clock.sleep(milliseconds).then(() => {
      this.waits.over = true;
      for (const { waiting } of this.waits.underWay) waiting.abort();
    });
  }

  async put(key: string, body: Uint8Array, options?: PutOptions): Promise<string> {
    const conditional = options?.ifMatch !== undefined || options?.ifNoneMatch !== undefined;
    const { etag } = await this.patiently(key, () => this.store.put(key, body, options), { conditional });
    this.works.notify();
    return etag;
  }

  /**
   * Writes an object that nobody else may have changed since: `etag` is what we wrote last, or undefined if nothing yet. A
   * write that arrived although its answer got lost counts as success, and a conflict that nobody caused is tried again.
   */
  async putOwned(key: string, body: Uint8Array, etag: string | undefined, options?: PutOptions): Promise<string> {
    const condition: PutOptions = etag === undefined ? { ifNoneMatch: '*' } : { ifMatch: etag };
    return this.patiently(key, async () => {
      try {
        const written = await this.store.put(key, body, { ...options, ...condition });
        this.works.notify();
        return written.etag;
      } catch (error) {
        if (!isConflict(error)) throw error;
        const stored = await this.get(key);
        if (stored && sameBytes(stored.bytes, body)) return stored.etag;
        if (stored?.etag === etag) throw error;
        if (!stored) throw new DamagedError(key, 'has disappeared from the store');
        throw new OwnershipLost(key);
      }
    });
  }

  /**
   * Writes an object that a predecessor may have left behind. `confirm` must reject unless we still own the session;
   * it runs between reading the old etag and replacing it, so that a late predecessor can never win.
   */
  async replace(key: string, body: Uint8Array, confirm: () => Promise<void>, options?: PutOptions): Promise<void> {
    try {
      await this.put(key, body, { ...options, ifNoneMatch: '*' });
    } catch (error) {
      if (!isConflict(error)) throw error;
      const existing = await this.patiently(key, () => this.store.head(key));
      await confirm();
      await this.putOwned(key, body, existing?.etag, options);
    }
  }

  async putStream(key: string, body: () => AsyncIterable<Uint8Array>, options?: PutOptions): Promise<void> {
    await this.patiently(key, () => this.store.putStream(key, body(), options), { long: true });
  }

  /** `undefined` when there is no such object. */
  async read(key: string): Promise<StoredBytes | undefined> {
    // A reader with a signal may end the reading, which is then nobody else's.
    return this.patiently(key, () => (this.signal ? this.get(key) : this.reads.read(key, () => this.get(key))));
  }

  /** A body too large for memory; what has begun to arrive is not asked for again. */
  async *stream(key: string): AsyncGenerator<Uint8Array> {
    const { body } = await this.patiently(key, () => this.store.get(key));
    try {
      yield* body;
    } catch (error) {
      throw storageError(key, error);
    }
  }

  async head(key: string): ReturnType<ObjectStore['head']> {
    return this.patiently(key, () => this.store.head(key));
  }

  /** A listing that breaks off goes on behind the last key that it gave. */
  async *list(prefix: string, { after }: ListOptions = {}): AsyncGenerator<{ key: string; size: number }> {
    let entries: AsyncIterator<{ key: string; size: number }> | undefined;
    let last = after;
    try {
      for (;;) {
        const next = await this.patiently(prefix, async () => {
          const from = (entries ??= this.store.list(prefix, { after: last })[Symbol.asyncIterator]());
          return from.next().catch((error: unknown) => {
            entries = undefined;
            throw error;
          });
        });
        if (next.done) return;
        last = next.value.key;
        yield next.value;
      }
    } finally {
      entries?.return?.().catch(() => undefined);
    }
  }

  async delete(key: string): Promise<void> {
    await this.patiently(key, () => this.store.delete(key));
  }

  private async get(key: string): Promise<StoredBytes | undefined> {
    try {
      const stored = await this.store.get(key);
      return { bytes: await readWhole(key, stored, this.signal), etag: stored.etag, contentType: stored.contentType };
    } catch (error) {
      if (error instanceof StoreError && error.code === 'NOT_FOUND') return undefined;
      throw error;
    }
  }

  private async patiently<T>(key: string, attempt: () => Promise<T>, kind: OperationKind = {}): Promise<T> {
    const operation: Operation = { key, since: this.clock.monotonic(), ...kind, waiting: new AbortController() };
    const giveUp = () => operation.waiting.abort();
    this.signal?.throwIfAborted();
    this.signal?.addEventListener('abort', giveUp);
    this.waits.underWay.add(operation);
    try {
      return await this.persist(operation, () => this.withRoom(attempt));
    } finally {
      this.waits.underWay.delete(operation);
      this.signal?.removeEventListener('abort', giveUp);
    }
  }

  private async withRoom<T>(attempt: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await attempt();
      } catch (error) {
        if (!(error instanceof StoreError) || error.code !== 'NO_SPACE' || !(await this.makeRoom())) throw error;
      }
    }
  }

  private async persist<T>(operation: Operation, attempt: () => Promise<T>): Promise<T> {
    const { key, long } = operation;
    let giveUpAt = operation.since + this.retrySeconds * 1_000;
    for (let wait = FIRST_WAIT; ; wait = Math.min(wait * 2, LONGEST_WAIT)) {
      try {
        return await this.answer(operation, attempt(), long ? Infinity : giveUpAt - this.clock.monotonic());
      } catch (error) {
        this.signal?.throwIfAborted();
        if (isConflict(error) && operation.conditional) throw error;
        // The time that an upload took before it failed was no waiting.
        if (long && operation.failure === undefined) giveUpAt = this.clock.monotonic() + this.retrySeconds * 1_000;
        operation.failure = error;
        const late = this.waits.over || this.clock.monotonic() + wait > giveUpAt;
        if (!isTransient(error) || late) throw storageError(key, error);
        operation.waiting = new AbortController();
        await this.rest(wait, operation.waiting.signal);
        this.signal?.throwIfAborted();
      }
    }
  }

  /** What the store answers; UNREACHABLE when nothing comes within so many milliseconds. The attempt itself goes on. */
  private async answer<T>(operation: Operation, attempt: Promise<T>, milliseconds: number): Promise<T> {
    const { signal } = (operation.waiting = new AbortController());
    const tooLate = this.silence(this.waits.over ? 0 : milliseconds, signal).then(() => {
      // What was answered needs no error with a stack.
      if (signal.reason === OVER) return attempt;
      throw noAnswer(operation.key, this.clock.monotonic() - operation.since);
    });
    tooLate.catch(() => undefined);
    try {
      return await Promise.race([attempt, tooLate]);
    } finally {
      operation.waiting.abort(OVER);
      attempt.catch(() => undefined);
    }
  }

  private async silence(milliseconds: number, over: AbortSignal): Promise<void> {
    if (milliseconds !== Infinity) return this.clock.sleep(Math.max(0, milliseconds), over);
    await new Promise((resolve) => over.addEventListener('abort', resolve, { once: true }));
  }
}

function noAnswer(key: string, milliseconds: number): StoreError {
  return new StoreError('UNREACHABLE', `${key}: no answer for ${Math.round(milliseconds / 1_000)} s`);
}

function asDomainError(error: Error): DomainError {
  return error instanceof DomainError ? error : new DomainError('STORAGE', error.message, { cause: error });
}

function isConflict(error: unknown): boolean {
  return error instanceof StoreError && error.code === 'CONFLICT';
}

const TRANSIENT: ReadonlySet<StoreError['code']> = new Set(['UNREACHABLE', 'NO_SPACE', 'CONFLICT']);

function isTransient(error: unknown): boolean {
  return error instanceof StoreError && TRANSIENT.has(error.code);
}

function storageError(key: string, error: unknown): Error {
  if (!(error instanceof StoreError)) return error instanceof Error ? error : new Error(String(error));
  // What the store itself says, with paths and addresses of this server, is for its log.
  return new DomainError('STORAGE', `${ADVICE[error.code]} (${key})`, { cause: error });
}

const ADVICE: Record<StoreError['code'], string> = {
  NOT_FOUND: 'An object that should exist is missing from the store.',
  CONFLICT: 'Another process wrote the object at the same time.',
  NO_SPACE: 'The store is full: free some space, then try again or resume the session.',
  UNREACHABLE: 'The store cannot be reached: check its address and network, then try again or resume the session.',
  DENIED:
    'The store refuses access: check the permissions of its directory, or the credentials and policy of its bucket, then try again or resume the session.',
  INVALID_KEY: 'The store refuses the key.',
  UNUSABLE:
    "The store cannot be used as it is: it lacks conditional writes, or the bucket is in another region. The service's log and `longlive doctor` say which.",
};

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}
