import { randomUUID } from 'node:crypto';
import type { Claim, Cluster, Command } from '../sessions/ports.js';

type Handler = (command: Command) => Promise<unknown>;

/** A cluster of one: this process owns whatever it claims, and whoever owned it before is gone. */
export class LocalCluster implements Cluster {
  readonly workerId = randomUUID();
  private readonly handlers = new Map<string, Handler>();
  private readonly listeners = new Map<string, Set<(sequence: number) => void>>();

  async claim(sessionId: string, onCommand: Handler): Promise<Claim | undefined> {
    if (this.handlers.has(sessionId)) return undefined;
    this.handlers.set(sessionId, onCommand);
    return {
      lost: new AbortController().signal,
      release: async () => {
        if (this.handlers.get(sessionId) === onCommand) this.handlers.delete(sessionId);
      },
    };
  }

  async send(sessionId: string, command: Command): ReturnType<Cluster['send']> {
    const handler = this.handlers.get(sessionId);
    return handler ? { delivered: true, reply: await handler(command) } : { delivered: false };
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
