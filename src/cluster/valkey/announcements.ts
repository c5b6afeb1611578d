/** That a session's log has grown, told to all servers that somebody asked to hear it at. What gets lost, readers find by looking. */

import type { Redis } from 'ioredis';
import { Listeners } from '../listeners.js';

export class Announcements {
  private readonly listeners: Listeners;

  constructor(
    private readonly redis: Redis,
    /** Of its own, because it listens. */
    private readonly ears: Redis,
    private readonly prefix: string,
    private readonly servers: string,
    private readonly onLeft: (serverId: string) => void,
  ) {
    this.listeners = new Listeners(
      (id) => void ears.subscribe(this.channel(id)).catch(() => undefined),
      (id) => void ears.unsubscribe(this.channel(id)).catch(() => undefined),
    );
    ears.on('ready', () => void this.subscribe());
    ears.on('message', (channel: string, text: string) => this.hear(channel, text));
  }

  announce(sessionId: string, sequence: number): void {
    this.listeners.tell(sessionId, sequence);
    this.redis.publish(this.channel(sessionId), String(sequence)).catch(() => undefined);
  }

  add(sessionId: string, listener: (sequence: number) => void): () => void {
    return this.listeners.add(sessionId, listener);
  }

  /** Tells the other servers at once that this one leaves. */
  async leave(serverId: string): Promise<void> {
    await this.redis.publish(this.servers, serverId);
  }

  /** Nothing may be announced for long: that it could be heard has to be asked for. */
  async check(): Promise<void> {
    await this.ears.ping();
  }

  private async subscribe(): Promise<void> {
    const channels = this.listeners.sessions().map((id) => this.channel(id));
    await this.ears.subscribe(this.servers, ...channels).catch(() => undefined);
  }

  private hear(channel: string, text: string): void {
    if (channel === this.servers) return this.onLeft(text);
    this.listeners.tell(channel.slice(this.channel('').length), Number(text));
  }

  private channel(sessionId: string): string {
    return `${this.prefix}grown:${sessionId}`;
  }
}
