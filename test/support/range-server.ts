import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';

/** What a server may do wrong with one request. */
export interface Fault {
  status?: number;
  headers?: Record<string, string>;
  /** Bytes of the body that are sent before the connection breaks off, or, with `stall`, before nothing comes any more. */
  after?: number;
  stall?: boolean;
  /** Sends the whole file whatever was asked for. */
  whole?: boolean;
  change?: (body: Buffer) => Buffer;
}

export interface RangeRequest {
  file: string;
  range: string | undefined;
  ifRange: string | undefined;
}

/** A plain web server over files in memory, with ranges, ETags, and faults on demand. */
export class RangeServer {
  readonly files = new Map<string, Buffer>();
  readonly requests: RangeRequest[] = [];
  etag: string | undefined = '"one"';
  /** Before every answer. */
  delayMs = 0;
  /** Asked of every request, with how many there have been for its file. */
  fault: (request: RangeRequest, count: number) => Fault | undefined = () => undefined;
  /** Requests being answered now, and the most there have been. */
  active = 0;
  mostActive = 0;
  private server: Server | undefined;

  /** Over TLS when there is something to show. */
  async start(tls?: { key: string; cert: string }): Promise<string> {
    const answer = (request: IncomingMessage, response: ServerResponse) => this.answer(request, response);
    this.server = tls ? createHttpsServer(tls, answer) : createServer(answer);
    await new Promise<void>((resolve) => this.server?.listen(0, '127.0.0.1', resolve));
    return `${tls ? 'https' : 'http'}://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.server?.closeAllConnections();
    await new Promise((resolve) => this.server?.close(resolve));
  }

  private answer({ url = '', headers }: IncomingMessage, response: ServerResponse): void {
    const file = decodeURIComponent(url).replace(/^\/(packages\/[^/]+\/)?/, '');
    const request = { file, range: headers.range, ifRange: headers['if-range'] as string | undefined };
    this.requests.push(request);
    this.mostActive = Math.max(this.mostActive, ++this.active);
    response.on('close', () => this.active--);
    const fault = this.fault(request, this.requests.filter((other) => other.file === file).length) ?? {};
    const content = this.files.get(file);
    if (fault.status !== undefined) response.writeHead(fault.status, fault.headers).end();
    else if (!content) response.writeHead(404).end();
    else setTimeout(() => this.send(response, content, request, fault), this.delayMs);
  }

  private send(response: ServerResponse, content: Buffer, request: RangeRequest, fault: Fault): void {
    const [, start, end] = /^bytes=(\d+)-(\d+)$/.exec(request.range ?? '') ?? [];
    const fresh = request.ifRange === undefined || request.ifRange === this.etag;
    const partial = start !== undefined && fresh && fault.whole !== true;
    const [from, to] = partial ? [Number(start), Math.min(Number(end) + 1, content.length)] : [0, content.length];
    const body = fault.change?.(content.subarray(from, to)) ?? content.subarray(from, to);
    response.writeHead(partial ? 206 : 200, {
      'content-length': to - from,
      ...(this.etag !== undefined && { etag: this.etag }),
      ...(partial && { 'content-range': `bytes ${from}-${to - 1}/${content.length}` }),
      ...fault.headers,
    });
    if (fault.after === undefined) return void response.end(body);
    response.write(body.subarray(0, fault.after), () => {
      if (!fault.stall) setTimeout(() => response.destroy(), 20);
    });
  }
}
