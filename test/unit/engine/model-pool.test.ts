import { describe, expect, it } from 'vitest';
import { ModelPool, type Pooled } from '../../../src/engine/model-pool.js';

class FakeModel implements Pooled {
  loaded = true;
  evictions = 0;

  constructor(
    readonly name: string,
    public bytes: number,
  ) {}

  evict(): void {
    this.evictions++;
    this.loaded = false;
  }
}

function models(...sizes: number[]): FakeModel[] {
  return sizes.map((bytes, i) => new FakeModel(`m${i}`, bytes));
}

/** Used and left at once. */
function visit(pool: ModelPool, model: FakeModel): void {
  model.loaded = true;
  pool.enter(model)();
}

describe('the pool of models', () => {
  it('evicts what was used longest ago, and no more than it must', () => {
    const [a, b, c] = models(4, 4, 4) as [FakeModel, FakeModel, FakeModel];
    const pool = new ModelPool(8);
    for (const model of [a, b, a, c]) visit(pool, model);
    expect([a, b, c].map(({ evictions }) => evictions)).toEqual([0, 1, 0]);
    visit(pool, b);
    expect([a, b, c].map(({ evictions }) => evictions)).toEqual([1, 1, 0]);
  });

  it('never evicts what is in use, however long ago it was entered', () => {
    const [a, b, c] = models(4, 4, 4) as [FakeModel, FakeModel, FakeModel];
    const pool = new ModelPool(8);
    const leave = pool.enter(a);
    visit(pool, b);
    visit(pool, c);
    expect([a.evictions, b.evictions]).toEqual([0, 1]);
    leave();
    visit(pool, b);
    expect(c.evictions).toBe(1);
  });

  it('refuses with AT_CAPACITY and names what is in the way, when that is in use', () => {
    const [a, b, c] = models(4, 4, 4) as [FakeModel, FakeModel, FakeModel];
    const pool = new ModelPool(8);
    const leaveA = pool.enter(a);
    pool.enter(b);
    expect(() => pool.enter(c)).toThrow(expect.objectContaining({ code: 'AT_CAPACITY', retryAfterSeconds: 30 }));
    expect(() => pool.check(c)).toThrow(/m0, m1/);
    expect(() => pool.check(a)).not.toThrow();
    leaveA();
    expect(() => pool.check(c)).not.toThrow();
  });

  it('counts users, and leaving twice is leaving once', () => {
    const [a, b] = models(8, 8) as [FakeModel, FakeModel];
    const pool = new ModelPool(8);
    const first = pool.enter(a);
    const second = pool.enter(a);
    first();
    first();
    expect(() => pool.enter(b)).toThrow(/in use/);
    second();
    visit(pool, b);
    expect(a.evictions).toBe(1);
  });

  it('lets one model alone exceed the budget', () => {
    const [a, b] = models(20, 4) as [FakeModel, FakeModel];
    const pool = new ModelPool(8);
    visit(pool, b);
    const leave = pool.enter(a);
    expect(b.evictions).toBe(1);
    expect(a.evictions).toBe(0);
    expect(() => pool.enter(b)).toThrow(/not enough memory/i);
    leave();
    visit(pool, b);
    expect(a.evictions).toBe(1);
  });

  it('makes room when a model turns out larger than its files', () => {
    const [a, b] = models(4, 2) as [FakeModel, FakeModel];
    const pool = new ModelPool(8);
    visit(pool, a);
    const leave = pool.enter(b);
    b.bytes = 6;
    pool.trim();
    expect(a.evictions).toBe(1);
    leave();
  });

  it('forgets a model that could not be loaded', () => {
    const [a, b] = models(8, 8) as [FakeModel, FakeModel];
    const pool = new ModelPool(8);
    a.loaded = false;
    pool.enter(a)();
    visit(pool, b);
    expect(a.evictions).toBe(0);
    expect(pool.evictIdle()).toBe(true);
    expect(pool.evictIdle()).toBe(false);
  });
});
