import { connect, createServer, type Server, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';

/** What lies between a client and the service: it refuses WebSockets, and cuts connections in the middle of a frame. */
export class WildProxy {
  refuseWebSockets = false;
  /** Connections end after so many bytes of the service. */
  cutAfter = Infinity;
  /** WebSockets and others that came through. */
  webSockets = 0;
  cuts = 0;
  private readonly sockets = new Set<Socket>();
  private readonly server: Server;

  private constructor(private target: string) {
    this.server = createServer((socket) => this.pass(socket));
  }

  static async start(target: string): Promise<WildProxy> {
    const proxy = new WildProxy(target);
    await new Promise<void>((resolve) => proxy.server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** From now on to another service. */
  leadTo(target: string): void {
    this.target = target;
  }

  cut(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  async stop(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private pass(client: Socket): void {
    const service = connect(Number(new URL(this.target).port), '127.0.0.1');
    for (const socket of [client, service]) {
      this.sockets.add(socket);
      socket
        .on('error', () => undefined)
        .on('close', () => (this.sockets.delete(socket), client.destroy(), service.destroy()));
    }
    client.once('data', (head) => {
      const upgrades = /^upgrade: websocket/im.test(head.toString('latin1'));
      if (upgrades && this.refuseWebSockets)
        return void client.end('HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n');
      if (upgrades) this.webSockets++;
      service.write(head);
      client.pipe(service);
    });
    let left = this.cutAfter;
    service.on('data', (bytes: Buffer) => {
      client.write(bytes.subarray(0, left));
      left -= bytes.length;
      if (left > 0 || client.destroyed) return;
      this.cuts++;
      client.destroy();
    });
  }
}
