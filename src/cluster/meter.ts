/** Counts what callers use: in this process, and in Valkey where there are several. */

import type { Redis } from 'ioredis';
import { LRUCache } from 'lru-cache';
import { type RateLimiterAbstract, RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible';
import type { Meter, Rule } from '../sessions/ports.js';
import { connect, TIMING } from './valkey/connection.js';

/** Rules differ by key, so that there may be many. */
const RULES = 1_000;
/** A shared counter that fails is not asked again for so long, in milliseconds. */
const TRUST_AFTER = 5_000;
/** Nobody's request waits longer than this for a counter, in milliseconds. */
const PATIENCE = 500;
const PREFIX = 'longlive:meter:';

type Limiters = LRUCache<string, RateLimiterAbstract>;

export class LocalMeter implements Meter {
  private readonly limiters: Limiters = new LRUCache({ max: RULES });

  async take(rule: Rule, whose: string, amount: number): Promise<number | undefined> {
    const { name, most, seconds } = rule;
    const limiter = limiterFor(this.limiters, rule, () => new RateLimiterMemory(optionsOf(name, most, seconds)));
    return waitFor(() => limiter.consume(whose, amount));
  }

  close(): void {
    this.limiters.clear();
  }
}

export interface ValkeyMeterOptions {
  url: string;
  /** Told when counts are not shared any more, and when they are again. */
  onTrouble?: (error: unknown) => void;
  now?: () => number;
}

export class ValkeyMeter implements Meter {
  private readonly limiters: Limiters = new LRUCache({ max: RULES });
  private readonly local = new LocalMeter();
  private readonly connection: Redis;
  private failedAt = -Infinity;
  private troubled = false;

  constructor(private readonly options: ValkeyMeterOptions) {
    this.connection = connect(options.url, { ...TIMING, commandMs: PATIENCE });
  }

  async take(rule: Rule, whose: string, amount: number): Promise<number | undefined> {
    const { now = () => performance.now() } = this.options;
    if (now() - this.failedAt < TRUST_AFTER) return this.local.take(rule, whose, amount);
    try {
      const wait = await waitFor(() => this.shared(rule).consume(whose, amount));
      this.tell(undefined);
      return wait;
    } catch (error) {
      this.failedAt = now();
      this.tell(error);
      return this.local.take(rule, whose, amount);
    }
  }

  close(): void {
    this.connection.disconnect();
  }

  private shared(rule: Rule): RateLimiterAbstract {
    const { name, most, seconds } = rule;
    return limiterFor(
      this.limiters,
      rule,
      () => new RateLimiterRedis({ ...optionsOf(name, most, seconds), storeClient: this.connection }),
    );
  }

  private tell(error: unknown): void {
    const troubled = error !== undefined;
    if (troubled !== this.troubled) this.options.onTrouble?.(error);
    this.troubled = troubled;
  }
}

function optionsOf(name: string, points: number, duration: number) {
  return { keyPrefix: `${PREFIX}${name}`, points, duration };
}

function limiterFor(limiters: Limiters, { name, most, seconds }: Rule, make: () => RateLimiterAbstract) {
  const key = `${name} ${most} ${seconds}`;
  const known = limiters.get(key) ?? make();
  limiters.set(key, known);
  return known;
}

/** What the library rejects with is an answer, unless it is an error. */
async function waitFor(consume: () => Promise<RateLimiterRes>): Promise<number | undefined> {
  try {
    await consume();
    return undefined;
  } catch (error) {
    if (error instanceof RateLimiterRes) return error.msBeforeNext / 1_000;
    throw error;
  }
}
