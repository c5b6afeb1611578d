/**
 * The line of those that wait for room, one for all servers of the store: an empty object per session, whose name is its place.
 * Sessions in it belong to nobody; a server that has room begins the first one that it can (see Admission). Every server
 * keeps a copy, which it reads anew when another says that the line has changed, and now and then.
 */

import { DomainError } from '../errors.js';
import type { SessionPolicy } from '../policy.js';
import type { Clock, Cluster } from '../ports.js';
import type { Session, Wait } from '../session.js';
import { waitingKey, waitingOfKey, WAITING } from '../stored/keys.js';
import type { Vault } from '../stored/vault.js';

/** What servers tell each other that the line has changed under; sessions have other ids. */
const TOPIC = 'line';

/** When to ask again for a place in a line that is full, in seconds. */
const RETRY_SECONDS = 30;

export interface Waiting {
  id: string;
  since: number;
  /** When this server first knew of it, by the monotonic clock. */
  knownAt: number;
  /** As a server that could begin it has read it. */
  session?: Session;
  /** This server cannot begin it, whatever room it has. */
  notHere?: boolean;
  /** Its tenant has as many running as it may. */
  held?: boolean;
}

export interface LineParts {
  vault: Vault;
  cluster: Pick<Cluster, 'announce' | 'onAnnounce'>;
  clock: Clock;
  policy: Pick<SessionPolicy, 'maxQueued'>;
  /** See Line.fits. */
  fits: (session: Session) => boolean;
}

const NOTHING = new Uint8Array();

export class Line {
  private waiting: Waiting[] = [];
  private readonly listeners = new Set<() => void>();
  private changes = 0;
  private outdated = true;

  constructor(private readonly parts: LineParts) {
    parts.cluster.onAnnounce(TOPIC, () => {
      this.outdated = true;
      this.tell();
    });
  }

  get length(): number {
    return this.waiting.length;
  }

  /** The first in front. */
  all(): readonly Waiting[] {
    return this.waiting;
  }

  /** Whether this server has what the session needs, but for room. */
  fits(session: Session): boolean {
    return this.parts.fits(session);
  }

  /** 1 for the first; undefined for a session that is not in it, as far as is known here. */
  placeOf(id: string): number | undefined {
    const index = this.waiting.findIndex((other) => other.id === id);
    return index < 0 ? undefined : index + 1;
  }

  /** Another server has put it there, as its answer says. */
  hear(id: string, since: number): void {
    if (this.placeOf(id) === undefined) this.waiting = inOrder([...this.waiting, this.known(id, since)]);
  }

  /** Called whenever somebody comes or goes, or may have, until the function is called that it gives. */
  onChange(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }

  /** A place at the end, for so many seconds. AT_CAPACITY where the line is full. */
  placeFor(seconds: number): Wait {
    const { clock, policy } = this.parts;
    if (this.waiting.length >= policy.maxQueued) throw this.full();
    // Clocks of several servers differ: who comes later stands behind.
    const since = Math.max(clock.now(), (this.waiting.at(-1)?.since ?? 0) + 1);
    return { since, until: since + seconds * 1_000 };
  }

  private full(): DomainError {
    const { maxQueued } = this.parts.policy;
    const what = maxQueued === 0 ? 'No session may wait for room here' : `${maxQueued} sessions wait for room already`;
    return new DomainError('AT_CAPACITY', `${what}; try again in ${RETRY_SECONDS} seconds.`, {
      retryAfterSeconds: RETRY_SECONDS,
    });
  }

  /** Makes it known to all servers that the session waits. May be repeated. */
  async join(id: string, since: number): Promise<void> {
    await this.parts.vault.put(waitingKey(id, since), NOTHING);
    this.hear(id, since);
    this.announce();
  }

  async leave(id: string, since: number): Promise<void> {
    this.waiting = this.waiting.filter((other) => other.id !== id || other.since !== since);
    await this.parts.vault.delete(waitingKey(id, since));
    this.announce();
  }

  /** Reads the line, if it may have changed or `anyway`. */
  async look(anyway: boolean): Promise<void> {
    if (!anyway && !this.outdated) return;
    this.outdated = false;
    try {
      const found: Waiting[] = [];
      for await (const { key } of this.parts.vault.list(WAITING)) {
        const place = waitingOfKey(key);
        if (place) found.push(this.known(place.id, place.since));
      }
      const before = this.waiting.map(({ id }) => id).join();
      this.waiting = inOrder(found);
      if (before !== this.waiting.map(({ id }) => id).join()) this.tell();
    } catch (error) {
      this.outdated = true;
      throw error;
    }
  }

  /** Who comes now does not get past those that wait for what this server has. AT_CAPACITY */
  mustNotOvertake(session: Session): void {
    const ahead = this.waiting.filter((other) => other.id !== session.id && !other.notHere && !other.held);
    if (!ahead.some((other) => other.session === undefined || this.parts.fits(other.session))) return;
    const message = `${ahead.length} sessions wait for room already; wait behind them with maxWaitSeconds, or try again in ${RETRY_SECONDS} seconds.`;
    throw new DomainError('AT_CAPACITY', message, { retryAfterSeconds: RETRY_SECONDS });
  }

  private known(id: string, since: number): Waiting {
    const before = this.waiting.find((other) => other.id === id && other.since === since);
    return before ?? { id, since, knownAt: this.parts.clock.monotonic() };
  }

  private announce(): void {
    this.tell();
    this.parts.cluster.announce(TOPIC, ++this.changes);
  }

  private tell(): void {
    for (const listener of [...this.listeners]) listener();
  }
}

function inOrder(waiting: Waiting[]): Waiting[] {
  return waiting.sort((a, b) => a.since - b.since || (a.id < b.id ? -1 : 1));
}
