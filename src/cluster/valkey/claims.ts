/**
 * Which server has a session: a key with a lease each, renewed by comparing. Its value begins with the epoch that the
 * session's record in the store counts, and a later epoch always wins. So this is a copy of what the store says, and may
 * be lost: the next renewal writes it again.
 */

import type { Redis } from 'ioredis';
import type { Claim, CommandHandler } from '../../sessions/ports.js';

/** Writes and renews routes; answers which are somebody else's by now. KEYS: routes. ARGV: lease, then a value for each. */
const ASSERT = `
local lost = {}
for i, key in ipairs(KEYS) do
  local mine = ARGV[i + 1]
  local held = redis.call('GET', key)
  local theirs = held and held ~= mine and tonumber(string.match(held, '^%d+'))
  if theirs and theirs >= tonumber(string.match(mine, '^%d+')) then
    lost[#lost + 1] = i
  else
    redis.call('SET', key, mine, 'PX', ARGV[1])
  end
end
return lost`;

const RELEASE = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end`;

/** Routes renewed by one command. */
const AT_ONCE = 500;

interface Held {
  sessionId: string;
  epoch: number;
  onCommand: CommandHandler;
  lost: AbortController;
}

export class Claims {
  private readonly held = new Map<string, Held>();

  constructor(
    private readonly redis: Redis,
    private readonly prefix: string,
    private readonly serverId: string,
    private readonly leaseMs: number,
  ) {}

  handler(sessionId: string): CommandHandler | undefined {
    return this.held.get(sessionId)?.onCommand;
  }

  /** Without an answer of the other side it stands as well: the store has decided already. */
  async claim(sessionId: string, epoch: number, onCommand: CommandHandler): Promise<Claim | undefined> {
    const before = this.held.get(sessionId);
    if (before && before.epoch >= epoch) return undefined;
    const held: Held = { sessionId, epoch, onCommand, lost: new AbortController() };
    this.held.set(sessionId, held);
    before?.lost.abort();
    await this.assert([held]).catch(() => undefined);
    if (held.lost.signal.aborted) return undefined;
    return { lost: held.lost.signal, release: () => this.release(held) };
  }

  /** Rejects when some could not be renewed. */
  async renew(): Promise<void> {
    const all = [...this.held.values()];
    for (let from = 0; from < all.length; from += AT_ONCE) await this.assert(all.slice(from, from + AT_ONCE));
  }

  /** The server that has the session, as far as is known. */
  async ownerOf(sessionId: string): Promise<string | undefined> {
    if (this.held.has(sessionId)) return this.serverId;
    const value = await this.redis.get(this.key(sessionId));
    return value?.slice(value.indexOf(' ') + 1);
  }

  async releaseAll(): Promise<void> {
    await Promise.all([...this.held.values()].map((held) => this.release(held)));
  }

  private async assert(claims: Held[]): Promise<void> {
    const keys = claims.map(({ sessionId }) => this.key(sessionId));
    const values = claims.map((claim) => this.value(claim));
    const lost = (await this.redis.eval(ASSERT, keys.length, ...keys, this.leaseMs, ...values)) as number[];
    for (const index of lost) {
      const claim = claims[index - 1] as Held;
      if (this.held.get(claim.sessionId) === claim) this.held.delete(claim.sessionId);
      claim.lost.abort();
    }
  }

  private async release(held: Held): Promise<void> {
    if (this.held.get(held.sessionId) !== held) return;
    this.held.delete(held.sessionId);
    // What is not released now ends with its lease.
    await this.redis.eval(RELEASE, 1, this.key(held.sessionId), this.value(held)).catch(() => undefined);
  }

  private key(sessionId: string): string {
    return `${this.prefix}owner:${sessionId}`;
  }

  private value({ epoch }: Held): string {
    return `${epoch} ${this.serverId}`;
  }
}
