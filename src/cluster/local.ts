import { randomUUID } from 'node:crypto';
import type { Claim, Cluster, CommandHandler } from '../sessions/ports.js';
import { describeProcess, hasEnded } from './process.js';

/** No wire to other servers: commands reach the sessions of this one only. */
export class LocalCluster implements Cluster {
  readonly serverId = randomUUID();
  readonly process = describeProcess();
  private readonly handlers = new Map<string, CommandHandler>();
  private readonly listeners = new Map<string, Set<(sequence: number) => void>>();

  hasEnded(process: string): boolean {
    return hasEnded(process);
  }

  async claim(sessionId: string, onCommand: CommandHandler): Promise<Claim | undefined> {
    if (this.handlers.has(sessionId)) return undefined;
    this.handlers.set(sessionId, onCommand);
    return {
      lost: new AbortController().signal,
      release: async () => {
        if (this.handlers.get(sessionId) === onCommand) this.handlers.delete(sessionId);
      },
    };
  }

  async send(sessionId: string, message: string): Promise<string | undefined> {
    return this.handlers.get(sessionId)?.(message);
  }

  announce(sessionId: string, sequence: number): void {
    for (const listener of this.listeners.get(sessionId) ?? []) listener(sequence);
  }

  onAnnounce(sessionId: string, listener: (sequence: number) => void): () => void {
    const listeners = this.listeners.get(sessionId) ?? new Set();
    this.listeners.set(sessionId, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.listeners.delete(sessionId);
    };
  }

  async close(): Promise<void> {
    this.handlers.clear();
    this.listeners.clear();
  }
}
