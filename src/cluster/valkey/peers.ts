/**
 * Which servers live. Each writes a sign, a number that counts up, and what it says of itself into one hash; a server whose
 * sign has not changed for the lease, by the reader's own clock, is dead. What is missing there proves nothing (the hash may
 * have been lost, and is written again), and time in which nothing could be read does not count.
 */

import type { Redis } from 'ioredis';
import type { Peer } from '../../sessions/ports.js';
import type { Timing } from './connection.js';

interface Known {
  value: string;
  changedAt: number;
  ended: boolean;
}

/** Leases after which a dead server is forgotten. */
const REMEMBERED = 10;

export class Peers {
  private readonly known = new Map<string, Known>();
  private sign = 0;
  private lookedAt = -Infinity;

  constructor(
    private readonly redis: Redis,
    private readonly key: string,
    private readonly serverId: string,
    private readonly timing: Timing,
    private readonly onEnded: (serverId: string) => void,
    /** Monotonic milliseconds. */
    private readonly now: () => number = () => performance.now(),
  ) {}

  async tell(notice: string): Promise<void> {
    await this.redis.hset(this.key, this.serverId, `${++this.sign} ${notice}`);
  }

  async leave(): Promise<void> {
    await this.redis.hdel(this.key, this.serverId);
  }

  async look(): Promise<void> {
    const values = await this.redis.hgetall(this.key);
    const now = this.now();
    const { lookMs, leaseMs } = this.timing;
    const blind = now - this.lookedAt > leaseMs / 2 + lookMs;
    this.lookedAt = now;
    for (const [serverId, value] of Object.entries(values)) {
      if (serverId !== this.serverId) this.see(serverId, value, now);
    }
    for (const [serverId, known] of this.known) {
      if (blind) known.changedAt = now;
      const silent = now - known.changedAt;
      if (silent >= leaseMs) this.end(serverId);
      if (silent >= REMEMBERED * leaseMs) await this.forget(serverId);
    }
  }

  living(): Peer[] {
    return [...this.known].flatMap(([serverId, { value, ended }]) =>
      ended ? [] : [{ serverId, notice: value.slice(value.indexOf(' ') + 1) }],
    );
  }

  /** `undefined` for a server that was never seen here. */
  lives(serverId: string): boolean | undefined {
    const known = this.known.get(serverId);
    return known && !known.ended;
  }

  /** It has left, or is dead. */
  end(serverId: string): void {
    const known = this.known.get(serverId);
    if (!known || known.ended) return;
    known.ended = true;
    this.onEnded(serverId);
  }

  private see(serverId: string, value: string, now: number): void {
    const known = this.known.get(serverId);
    if (known?.value === value) return;
    this.known.set(serverId, { value, changedAt: now, ended: false });
  }

  private async forget(serverId: string): Promise<void> {
    this.known.delete(serverId);
    await this.redis.hdel(this.key, serverId);
  }
}
