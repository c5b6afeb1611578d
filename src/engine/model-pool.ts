import { DomainError } from '../sessions/errors.js';

/** What the pool has to know of a model. */
export interface Pooled {
  readonly name: string;
  /** On the device; an estimate until it has been loaded. */
  readonly bytes: number;
  readonly loaded: boolean;
  /** Frees the device; only ever called when nobody uses the model. */
  evict(): void;
}

const RETRY_SECONDS = 30;

/**
 * Which models are on the device: as many as the budget takes, the least recently used idle ones going first. One model
 * alone may exceed it: whether that fits is for the device to say.
 */
export class ModelPool {
  /** With the number of users, least recently used first. */
  private readonly resident = new Map<Pooled, number>();

  /** Those that nobody may ask for any more. */
  private readonly retired = new WeakSet<Pooled>();

  constructor(private readonly budgetBytes: number) {}

  /** Throws AT_CAPACITY when the model is not on the device and everything in its way is in use. */
  check(model: Pooled): void {
    if (this.resident.has(model)) return;
    const used = [...this.resident].filter(([, users]) => users > 0).map(([other]) => other);
    const bytes = sum(used);
    if (used.length === 0 || bytes + model.bytes <= this.budgetBytes) return;
    throw new DomainError(
      'AT_CAPACITY',
      `Not enough memory for model "${model.name}" (${gigabytes(model.bytes)}): ${gigabytes(bytes)} of ${gigabytes(this.budgetBytes)} are held by models in use (${used.map(({ name }) => name).join(', ')}); try again in ${RETRY_SECONDS} seconds, or choose one of these.`,
      { field: 'model', retryAfterSeconds: RETRY_SECONDS },
    );
  }

  /** Makes room and counts the model as in use until the function is called that this gives. */
  enter(model: Pooled): () => void {
    this.check(model);
    const users = this.resident.get(model) ?? 0;
    this.touch(model, users + 1);
    this.trim();
    let entered = true;
    return () => {
      if (entered) this.leave(model);
      entered = false;
    };
  }

  /** Evicts what is idle while the budget is exceeded: to be called when a size has become known. */
  trim(): void {
    for (const [model, users] of this.resident) {
      if (sum(this.resident.keys()) <= this.budgetBytes) return;
      if (users === 0) this.drop(model);
    }
  }

  /** Evicts a model for good, as soon as nobody uses it any more. */
  retire(model: Pooled): void {
    this.retired.add(model);
    if (this.resident.get(model) === 0) this.drop(model);
  }

  /** Evicts all that is idle; whether there was anything. */
  evictIdle(): boolean {
    const idle = [...this.resident].filter(([, users]) => users === 0).map(([model]) => model);
    for (const model of idle) this.drop(model);
    return idle.length > 0;
  }

  private leave(model: Pooled): void {
    this.touch(model, (this.resident.get(model) ?? 1) - 1);
    if (this.resident.get(model) === 0 && !model.loaded) this.resident.delete(model);
    if (this.resident.get(model) === 0 && this.retired.has(model)) this.drop(model);
    this.trim();
  }

  private touch(model: Pooled, users: number): void {
    this.resident.delete(model);
    this.resident.set(model, users);
  }

  private drop(model: Pooled): void {
    this.resident.delete(model);
    model.evict();
  }
}

function sum(models: Iterable<Pooled>): number {
  let bytes = 0;
  for (const model of models) bytes += model.bytes;
  return bytes;
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}
