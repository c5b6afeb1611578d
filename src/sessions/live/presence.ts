/**
 * Which servers live on this store. Each keeps a file, `servers/<id>.json`, that it writes anew all the time, and reads
 * those of the others. A server whose file has not changed for `leaseSeconds`, by the reader's own clock, is dead, so no
 * two clocks have to agree. That a dead one's late write does no harm is what conditional writes are for.
 */

import { z } from 'zod';
import { serverKey, SERVERS } from '../stored/keys.js';
import { DamagedError } from '../stored/checksum.js';
import { OwnershipLost, type Vault } from '../stored/vault.js';
import type { Logger, SessionPolicy } from '../policy.js';
import type { Clock, Cluster } from '../ports.js';
import type { Watching } from './watching.js';

const SERVER_FILE = z.object({
  formatVersion: z.literal(1),
  id: z.string().max(100),
  /** What tells another process on the same machine whether this one still runs. */
  process: z.string().max(300),
  /** Counts up. */
  beat: z.number().int(),
  /** When it was written, milliseconds since the epoch, by its writer's clock. */
  at: z.number(),
  /** Sessions watched there, and how many milliseconds before `at`. */
  watched: z.record(z.string(), z.number()),
  /** Those among them whose video is played by the clock; all of them where nothing is said of that. */
  byClock: z.record(z.string(), z.number()).optional(),
});

type ServerFile = z.output<typeof SERVER_FILE>;

interface Known {
  file: ServerFile;
  /** When the reader saw it change last, by its monotonic clock. */
  changedAt: number;
}

/** What is left of a server that is no more: `file` is the last that it wrote, if anything. */
export interface Loss {
  serverId: string;
  file: ServerFile | undefined;
}

export interface PresenceParts {
  /** With little patience: what fails is done again soon. */
  vault: Vault;
  clock: Clock;
  cluster: Cluster;
  logger: Logger;
  policy: SessionPolicy;
  watching: Watching;
  /** A server has died or left. */
  onLoss: (loss: Loss) => void;
  /** Beside every sign of life. */
  onBeat: () => Promise<void>;
  /** This server was taken for dead: others may own its sessions now. */
  onTakenForDead: () => void;
}

/** Beats per lease. */
const BEATS = 3;

/** Least time between two beats, in milliseconds, when sessions begin to be watched. */
const SOON = 250;

export class Presence {
  private readonly others = new Map<string, Known>();
  private readonly over = new AbortController();
  private begun: Promise<void> | undefined;
  private loop: Promise<void> = Promise.resolve();
  private early = new AbortController();
  private etag: string | undefined;
  private beat = 0;

  constructor(private readonly parts: PresenceParts) {}

  /** Makes this server known; what it owns from then on, others leave alone. */
  begin(): Promise<void> {
    this.begun ??= this.write().then(
      () => {
        this.loop = this.keepOn();
      },
      (error: unknown) => {
        this.begun = undefined;
        throw error;
      },
    );
    return this.begun;
  }

  /** Lets the others know soon what is watched here now, and looks at them. */
  hurry(): void {
    this.early.abort();
  }

  /** Whether a server other than this one lives, or may. */
  async lives(serverId: string): Promise<boolean> {
    if (serverId === this.parts.cluster.serverId) return false;
    if (!this.others.has(serverId)) await this.read(serverId);
    const known = this.others.get(serverId);
    return known !== undefined && !this.isDead(known);
  }

  /** What a server that is no more has left. */
  async loss(serverId: string): Promise<Loss> {
    if (!this.others.has(serverId)) await this.read(serverId);
    return { serverId, file: this.others.get(serverId)?.file };
  }

  /** Looks at all servers once. */
  async look(): Promise<void> {
    const { vault, cluster } = this.parts;
    const before = new Map(this.others);
    const found = new Set<string>();
    for await (const { key } of vault.list(SERVERS)) {
      const id = key.slice(SERVERS.length, -'.json'.length);
      if (serverKey(id) !== key || id === cluster.serverId) continue;
      if (await this.read(id)) found.add(id);
    }
    for (const [serverId, { file }] of before) {
      if (!found.has(serverId)) this.others.delete(serverId);
      const known = this.others.get(serverId);
      if (!known || this.isDead(known)) this.parts.onLoss({ serverId, file: known?.file ?? file });
    }
  }

  /** Forgets a dead server when nothing is left of it to take over. */
  async bury(serverId: string): Promise<void> {
    const known = this.others.get(serverId);
    if (known) await this.read(serverId);
    if (!known || this.others.get(serverId) !== known) return;
    await this.parts.vault.delete(serverKey(serverId));
    this.others.delete(serverId);
  }

  async close(): Promise<void> {
    this.over.abort();
    this.early.abort();
    await this.begun?.catch(() => undefined);
    await this.loop;
    const { vault, cluster } = this.parts;
    if (this.beat > 0) await vault.delete(serverKey(cluster.serverId)).catch(() => undefined);
  }

  private isDead({ file, changedAt }: Known): boolean {
    const { clock, policy, cluster } = this.parts;
    return clock.monotonic() - changedAt >= policy.leaseSeconds * 1_000 || cluster.hasEnded(file);
  }

  private async keepOn(): Promise<void> {
    const { clock, policy, logger } = this.parts;
    const period = (policy.leaseSeconds * 1_000) / BEATS;
    while (!this.over.signal.aborted) {
      await this.pause(clock, period);
      if (this.over.signal.aborted) return;
      try {
        await this.write();
        await this.look();
        await this.parts.onBeat();
      } catch (error) {
        logger.warn({ error }, 'cannot read or write server heartbeats in the store');
      }
    }
  }

  private async pause(clock: Clock, period: number): Promise<void> {
    await clock.sleep(SOON, this.over.signal);
    if (!this.early.signal.aborted) await clock.sleep(period - SOON, this.early.signal);
    if (this.early.signal.aborted && !this.over.signal.aborted) this.early = new AbortController();
  }

  private async write(): Promise<void> {
    const { vault, clock, cluster, policy, watching } = this.parts;
    const file: ServerFile = {
      formatVersion: 1,
      id: cluster.serverId,
      process: cluster.process,
      beat: ++this.beat,
      at: clock.now(),
      watched: watching.here(policy.idleSeconds * 1_000),
      byClock: watching.hereByClock(policy.leaseSeconds * 1_000),
    };
    const body = new TextEncoder().encode(JSON.stringify(file));
    try {
      this.etag = await vault.putOwned(serverKey(cluster.serverId), body, this.etag, JSON_OBJECT);
    } catch (error) {
      if (!(error instanceof OwnershipLost) && !(error instanceof DamagedError)) throw error;
      // It was removed by a server that took this one for dead, or an earlier answer got lost.
      const stored = await vault.head(serverKey(cluster.serverId));
      this.etag = await vault.putOwned(serverKey(cluster.serverId), body, stored?.etag, JSON_OBJECT);
      if (!stored) this.parts.onTakenForDead();
    }
  }

  /** False when the server has no file. */
  private async read(serverId: string): Promise<boolean> {
    const { vault, clock, watching } = this.parts;
    const stored = await vault.read(serverKey(serverId));
    if (!stored) {
      this.others.delete(serverId);
      return false;
    }
    const before = this.others.get(serverId);
    const file = parse(stored.bytes) ?? nothingKnown(serverId);
    const changed = before?.file.beat !== file.beat || before.file.at !== file.at;
    if (changed) this.others.set(serverId, { file, changedAt: clock.monotonic() });
    if (changed) for (const [id, ago] of Object.entries(file.watched)) watching.hear(id, ago);
    if (changed) for (const [id, ago] of Object.entries(file.byClock ?? file.watched)) watching.hearByClock(id, ago);
    return true;
  }
}

const JSON_OBJECT = { contentType: 'application/json' };

function parse(bytes: Uint8Array): ServerFile | undefined {
  try {
    return SERVER_FILE.parse(JSON.parse(new TextDecoder().decode(bytes)));
  } catch {
    return undefined;
  }
}

/** A damaged file changes no more, so its server is dead when the lease is over. */
function nothingKnown(id: string): ServerFile {
  return { formatVersion: 1, id, process: '', beat: 0, at: 0, watched: {} };
}
