/** How much callers may use: a tenant, an API key, an address. Asked for each thing that costs something. */

import { DomainError } from '../errors.js';
import type { Meter } from './meter.js';
import type { Principal } from './principal.js';

/** What is counted, in which window, and what that is called. */
export const METERED = {
  creations: { seconds: 60, words: (most: number) => `make ${most} sessions a minute` },
  prompts: { seconds: 1, words: (most: number) => `send ${most} prompts a second` },
  cost: { seconds: 60, words: (most: number) => `ask for ${most} fields a minute` },
} as const;

export type Metered = keyof typeof METERED;

/** How much of each; what is absent or 0 has no bound. */
export type Allowance = Partial<Record<Metered, number | undefined>>;

export interface QuotaRules {
  tenant: Allowance;
  address: Allowance;
  /** Streams that one caller may have open at this server; 0 for no bound. */
  streams: number;
}

export const NO_RULES: QuotaRules = { tenant: {}, address: {}, streams: 0 };

/** How soon a seat may be free again, in seconds. */
const SEAT_RETRY = 5;

/** Of a server. */
export class Quotas {
  /** Open streams, by caller. */
  private readonly streams = new Map<string, number>();

  constructor(
    private readonly meter: Meter,
    private readonly rules: QuotaRules = NO_RULES,
  ) {}

  of(principal: Principal, address: string): Quota {
    return new Quota(this.meter, this.rules, principal, address, this.streams);
  }
}

interface Bound {
  kind: string;
  whose: string;
  /** At the beginning of a sentence. */
  words: string;
  allowance: Allowance;
}

/** Of one caller, for one operation or socket. */
export class Quota {
  constructor(
    private readonly meter: Meter,
    private readonly rules: QuotaRules,
    private readonly principal: Principal,
    private readonly address: string,
    private readonly streams: Map<string, number>,
  ) {}

  /** RATE_LIMIT when it, or who it belongs to, has had all of that. */
  async spend(what: Metered, amount = 1): Promise<void> {
    const { seconds, words } = METERED[what];
    for (const { kind, whose, words: who, allowance } of this.bounds()) {
      const most = allowance[what] ?? 0;
      if (most === 0) continue;
      const wait = await this.meter.take({ name: `${kind}:${what}`, most, seconds }, whose, amount);
      if (wait !== undefined) throw rateLimited(`${who} may ${words(most)}, and has`, wait);
    }
  }

  /** For a stream; who leaves calls what it gives. RATE_LIMIT. */
  enter(): () => void {
    const { tenant, subject } = this.principal;
    const key = JSON.stringify([tenant, subject]);
    const open = this.streams.get(key) ?? 0;
    if (this.rules.streams > 0 && open >= this.rules.streams)
      throw rateLimited(`You may have ${this.rules.streams} streams open at a time, and have`, SEAT_RETRY);
    this.streams.set(key, open + 1);
    let inside = true;
    return () => {
      if (!inside) return;
      inside = false;
      const left = (this.streams.get(key) ?? 1) - 1;
      if (left > 0) this.streams.set(key, left);
      else this.streams.delete(key);
    };
  }

  /** The narrowest first, so that what is refused there takes nothing from the others. */
  private bounds(): Bound[] {
    const { tenant, key } = this.principal;
    return [
      { kind: 'address', whose: this.address, words: 'Your address', allowance: this.rules.address },
      ...(key ? [{ kind: 'key', whose: key.id, words: 'Your API key', allowance: key.allowance }] : []),
      { kind: 'tenant', whose: tenant, words: 'Your tenant', allowance: this.rules.tenant },
    ];
  }
}

function rateLimited(what: string, seconds: number): DomainError {
  const retryAfterSeconds = Math.max(1, Math.ceil(seconds));
  return new DomainError('RATE_LIMIT', `${what}; try again in ${retryAfterSeconds} seconds.`, { retryAfterSeconds });
}
