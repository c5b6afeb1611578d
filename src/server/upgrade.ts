import { IncomingMessage } from 'node:http';

/**
 * A request that asks for another protocol than a WebSocket (`Upgrade: h2c` of curl and Java) is one of HTTP/1.1 (RFC 9110, 7.8),
 * and its connection goes on. Node would make an upgrade of every one as soon as a server listens for upgrades; its parser asks
 * this property. What came in one packet behind such a request, pipelined, Node drops.
 */
export class UpgradableRequest extends IncomingMessage {
  declare private asked: boolean | null;

  get upgrade(): boolean {
    return this.asked === true && (this.method === 'CONNECT' || this.headers.upgrade?.toLowerCase() === 'websocket');
  }

  set upgrade(asked: boolean | null) {
    this.asked = asked;
  }
}
