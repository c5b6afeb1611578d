import { IncomingMessage } from 'node:http';

/** Of a body. */
export interface BodyLimits {
  maxBodyBytes: number;
  maxPieces: number;
}

/**
 * A request that asks for another protocol than a WebSocket (`Upgrade: h2c` of curl and Java) is one of HTTP/1.1 (RFC 9110, 7.8),
 * and its connection goes on. Node would make an upgrade of every one as soon as a server listens for upgrades; its parser asks
 * this property. What came in one packet behind such a request, pipelined, Node drops.
 */
class UpgradableRequest extends IncomingMessage {
  declare private asked: boolean | null;

  get upgrade(): boolean {
    return this.asked === true && (this.method === 'CONNECT' || this.headers.upgrade?.toLowerCase() === 'websocket');
  }

  set upgrade(asked: boolean | null) {
    this.asked = asked;
  }
}

/** Emitted once by a request whose body is larger, or comes in more pieces, than anybody would read; the rest is dropped. */
export const EXCESS = 'excess';

/** The class of a server's requests. Every piece of a body costs far more than its bytes, so they are counted as well. */
export function boundedRequest({ maxBodyBytes, maxPieces }: BodyLimits): typeof IncomingMessage {
  return class extends UpgradableRequest {
    private bytes = 0;
    private pieces = 0;
    private dropping = false;

    /** What Node calls once the request has been answered, to throw away the rest of its body: that is counted, too. */
    _dump(): void {
      this.resume();
    }

    override push(piece: Buffer | null, encoding?: BufferEncoding): boolean {
      if (piece === null) return super.push(piece, encoding);
      this.bytes += piece.length;
      this.pieces++;
      // Who reads the body refuses one that is a little too large, and says so.
      if (this.pieces <= maxPieces && this.bytes <= 2 * maxBodyBytes) return super.push(piece, encoding);
      if (!this.dropping) this.emit(EXCESS);
      this.dropping = true;
      return true;
    }
  };
}
