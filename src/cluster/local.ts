import { randomUUID } from 'node:crypto';
import type { Claim, Cluster, CommandHandler, Member, Peer } from '../sessions/ports.js';
import { describeProcess, hasEnded } from './process.js';
import { Listeners } from './listeners.js';

interface Route {
  server: LocalCluster;
  epoch: number;
  onCommand: CommandHandler;
  lost: AbortController;
}

/** Joins servers of one process; one that is alone has a wire of its own. */
export class LocalWire {
  readonly servers = new Map<string, LocalCluster>();
  readonly routes = new Map<string, Route>();
  readonly listeners = new Listeners();
}

/** Reaches the servers on its wire, which are in this process. */
export class LocalCluster implements Cluster {
  readonly serverId = randomUUID();
  readonly trouble = undefined;
  private readonly ended = new Set<string>();
  private member: Member | undefined;

  constructor(
    private readonly wire = new LocalWire(),
    readonly process = describeProcess(),
  ) {}

  hasEnded({ id, process }: { id: string; process: string }): boolean {
    return this.ended.has(id) || hasEnded(process);
  }

  join(member: Member): void {
    this.member = member;
    this.wire.servers.set(this.serverId, this);
  }

  peers(): Peer[] {
    return [...this.wire.servers].flatMap(([serverId, { member }]) =>
      member ? [{ serverId, notice: member.notice() }] : [],
    );
  }

  async claim(sessionId: string, epoch: number, onCommand: CommandHandler): Promise<Claim | undefined> {
    const { routes } = this.wire;
    const before = routes.get(sessionId);
    if (before && before.epoch >= epoch) return undefined;
    const route: Route = { server: this, epoch, onCommand, lost: new AbortController() };
    routes.set(sessionId, route);
    before?.lost.abort();
    return {
      lost: route.lost.signal,
      release: async () => {
        if (routes.get(sessionId) === route) routes.delete(sessionId);
      },
    };
  }

  async send(sessionId: string, message: string, serverId?: string): Promise<string | undefined> {
    const route = this.wire.routes.get(sessionId);
    if (route && (serverId ?? route.server.serverId) === route.server.serverId) return route.onCommand(message);
    if (serverId === undefined) return undefined;
    return this.wire.servers.get(serverId)?.member?.receive(sessionId, message);
  }

  announce(sessionId: string, sequence: number): void {
    this.wire.listeners.tell(sessionId, sequence);
  }

  onAnnounce(sessionId: string, listener: (sequence: number) => void): () => void {
    return this.wire.listeners.add(sessionId, listener);
  }

  async close(): Promise<void> {
    const { servers, routes } = this.wire;
    for (const [id, { server }] of routes) if (server === this) routes.delete(id);
    if (!servers.delete(this.serverId)) return;
    for (const { ended, member } of servers.values()) {
      ended.add(this.serverId);
      member?.peerEnded(this.serverId);
    }
  }
}
