import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Claim, Cluster, CommandHandler, Member, Peer } from '../../sessions/ports.js';
import { describeProcess, hasEnded } from '../process.js';
import { Announcements } from './announcements.js';
import { Claims } from './claims.js';
import { connect, type Timing, TIMING } from './connection.js';
import { Mail } from './mail.js';
import { Peers } from './peers.js';

const PREFIX = 'longlive:';

export interface ValkeyOptions {
  /** `redis://…` or, over TLS, `rediss://…`; one database for one store. */
  url: string;
  timing?: Partial<Timing>;
  /** Told when the other side stops answering, and when it answers again. */
  onTrouble?: (trouble: string | undefined, error?: unknown) => void;
}

/** Reaches servers on other machines by way of a Valkey or Redis server, which may fail, forget or hang at any time. */
export class ValkeyCluster implements Cluster {
  readonly serverId = randomUUID();
  readonly process = describeProcess();
  trouble: string | undefined = 'Redis has not answered yet.';

  private readonly timing: Timing;
  private readonly connections: { redis: Redis; reader: Redis; ears: Redis };
  private readonly claims: Claims;
  private readonly peersKnown: Peers;
  private readonly mail: Mail;
  private readonly announcements: Announcements;
  private readonly over = new AbortController();
  private readonly loops: Promise<void>[];
  private member: Member | undefined;
  private renewedAt = -Infinity;
  private answeredAt = performance.now();

  constructor(private readonly options: ValkeyOptions) {
    const timing = { ...TIMING, ...options.timing };
    const redis = connect(options.url, timing);
    const reader = connect(options.url, timing, { commandTimeout: 2 * timing.commandMs });
    const ears = connect(options.url, timing, { autoResubscribe: false });
    this.timing = timing;
    this.connections = { redis, reader, ears };
    const { serverId } = this;
    this.claims = new Claims(redis, PREFIX, serverId, timing.leaseMs);
    const ended = (id: string) => this.member?.peerEnded(id);
    this.peersKnown = new Peers(redis, `${PREFIX}servers`, serverId, timing, ended);
    this.mail = new Mail(redis, reader, PREFIX, serverId, timing, (id, text) => this.receive(id, text));
    this.announcements = new Announcements(redis, ears, PREFIX, `${PREFIX}left`, (id) => this.peersKnown.end(id));
    this.loops = [this.mail.keepOn(), this.keepOn()];
  }

  hasEnded({ id, process }: { id: string; process: string }): boolean {
    return this.peersKnown.lives(id) === false || hasEnded(process);
  }

  join(member: Member): void {
    this.member = member;
    this.renewedAt = -Infinity;
  }

  peers(): Peer[] {
    const { member, serverId } = this;
    const others = this.trouble === undefined ? this.peersKnown.living() : [];
    return member ? [{ serverId, notice: member.notice() }, ...others] : others;
  }

  claim(sessionId: string, epoch: number, onCommand: CommandHandler): Promise<Claim | undefined> {
    return this.claims.claim(sessionId, epoch, onCommand);
  }

  async send(sessionId: string, message: string, serverId?: string): Promise<string | undefined> {
    const to = serverId ?? (await this.claims.ownerOf(sessionId).catch(() => undefined));
    if (to === undefined) return undefined;
    if (to === this.serverId) return this.receive(sessionId, message);
    return this.mail.ask(to, sessionId, message, (id) => this.peersKnown.lives(id));
  }

  announce(sessionId: string, sequence: number): void {
    this.announcements.announce(sessionId, sequence);
  }

  onAnnounce(sessionId: string, listener: (sequence: number) => void): () => void {
    return this.announcements.add(sessionId, listener);
  }

  async close(): Promise<void> {
    if (this.over.signal.aborted) return;
    this.over.abort();
    this.mail.close();
    await this.claims.releaseAll();
    await this.peersKnown.leave().catch(() => undefined);
    await this.announcements.leave(this.serverId).catch(() => undefined);
    for (const connection of Object.values(this.connections)) connection.disconnect();
    await Promise.all(this.loops);
  }

  private async receive(sessionId: string, message: string): Promise<string> {
    const handler = this.claims.handler(sessionId);
    if (handler) return handler(message);
    if (this.member) return this.member.receive(sessionId, message);
    throw new Error('nobody is here yet');
  }

  /** Gives signs of life, renews what is held and looks at the others, until `close`. */
  private async keepOn(): Promise<void> {
    while (!this.over.signal.aborted) {
      try {
        await this.turn();
        this.answeredAt = performance.now();
        this.say(undefined);
      } catch (error) {
        const since = performance.now() - this.answeredAt;
        if (since >= this.timing.renewMs) this.say('Redis does not answer.', error);
      }
      await delay(this.timing.lookMs, undefined, { signal: this.over.signal }).catch(() => undefined);
    }
  }

  private async turn(): Promise<void> {
    const now = performance.now();
    if (this.member && now - this.renewedAt >= this.timing.renewMs - this.timing.lookMs / 2) {
      await this.peersKnown.tell(this.member.notice());
      await this.claims.renew();
      this.renewedAt = now;
    }
    await Promise.all([this.peersKnown.look(), this.announcements.check()]);
  }

  private say(trouble: string | undefined, error?: unknown): void {
    if (trouble === this.trouble) return;
    this.trouble = trouble;
    this.options.onTrouble?.(trouble, error);
  }
}
