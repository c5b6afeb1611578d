import { connect, createServer, type Server, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';

/**
 * What lies between a client and the service: it refuses WebSockets, drops their frames, delays, cuts connections in the middle of
 * a frame, and lets nothing through for a while.
 */
export class WildProxy {
  refuseWebSockets = false;
  /** Connections end after so many bytes of the service. */
  cutAfter = Infinity;
  /** Of the service's WebSocket frames, one in so many is lost. */
  dropOneIn = Infinity;
  dropped = 0;
  /** What the service sends takes up to so long. */
  delayMilliseconds = 0;
  /** WebSockets and others that came through. */
  webSockets = 0;
  cuts = 0;
  private readonly sockets = new Set<Socket>();
  private readonly server: Server;
  private isDark = false;

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

  /** As if there was no network: connections are neither made nor broken, and nothing comes through until it is over. */
  set dark(dark: boolean) {
    this.isDark = dark;
    for (const socket of this.sockets)
      if (dark) socket.pause();
      else socket.resume();
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
      frames = upgrades ? new Frames() : undefined;
      service.write(head);
      client.on('data', (bytes: Buffer) => service.write(bytes));
    });
    if (this.isDark) client.pause();
    let frames: Frames | undefined;
    let left = this.cutAfter;
    let due = 0;
    service.on('data', (bytes: Buffer) => {
      const kept =
        frames && this.dropOneIn < Infinity
          ? Buffer.concat(frames.split(bytes).filter((frame) => isControl(frame) || this.keeps()))
          : bytes;
      due = Math.max(due, Date.now() + Math.random() * this.delayMilliseconds);
      setTimeout(() => {
        client.write(kept.subarray(0, left));
        left -= kept.length;
        if (left > 0 || client.destroyed) return;
        this.cuts++;
        client.destroy();
      }, due - Date.now());
    });
  }

  private keeps(): boolean {
    const keeps = Math.random() >= 1 / this.dropOneIn;
    if (!keeps) this.dropped++;
    return keeps;
  }
}

/** The bytes of a server's side of a WebSocket: the answer to the upgrade, then frame by frame. */
class Frames {
  private rest: Buffer = Buffer.alloc(0);
  private upgraded = false;

  split(bytes: Buffer): Buffer[] {
    this.rest = Buffer.concat([this.rest, bytes]);
    const parts: Buffer[] = [];
    for (let length = this.next(); length !== undefined && length <= this.rest.length; length = this.next()) {
      parts.push(this.rest.subarray(0, length));
      this.rest = this.rest.subarray(length);
    }
    return parts;
  }

  private next(): number | undefined {
    const { rest } = this;
    if (!this.upgraded) {
      const end = rest.indexOf('\r\n\r\n');
      this.upgraded = end >= 0;
      return end >= 0 ? end + 4 : undefined;
    }
    if (rest.length < 10) return rest.length < 2 || (rest[1] as number) > 125 ? undefined : 2 + (rest[1] as number);
    const short = rest[1] as number;
    if (short < 126) return 2 + short;
    return short === 126 ? 4 + rest.readUInt16BE(2) : 10 + Number(rest.readBigUInt64BE(2));
  }
}

/** The answer to the upgrade, and pings. */
const isControl = (frame: Buffer): boolean =>
  frame.toString('latin1', 0, 4) === 'HTTP' || ((frame[0] as number) & 8) !== 0;
