import { printed } from '../files/printable.js';
import { Agent as HttpAgent, type IncomingMessage, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { leavable } from '../files/body.js';
import { proxyAgent } from '../files/proxy.js';
import { type ByteRange, type ReadOptions, type RemoteBody, RemoteError, type RemoteFolder } from './remote-folder.js';

export interface HttpOptions {
  /** Until a connection stands, an answer begins, and then until more of it arrives. Default 15000. */
  stallMs?: number;
}

const STALL_MS = 15_000;
const MOST_REDIRECTS = 5;
const LONGEST_RETRY_AFTER_S = 60;
const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;
/** Answers worth another try. */
const TRANSIENT: ReadonlySet<number> = new Set([408, 425, 429, 500, 502, 503, 504]);

/**
 * A folder behind https://. What arrives is checked against the manifest, but the manifest itself is believed for having
 * come over TLS: plain http:// is for this machine only, and no redirect leads away from https.
 */
export class HttpFolder implements RemoteFolder {
  readonly address: string;
  private readonly stallMs: number;
  private readonly agents = {
    'http:': new HttpAgent({ keepAlive: true }),
    'https:': new HttpsAgent({ keepAlive: true }),
  };

  /** Throws a TypeError when packages cannot be fetched from such an address, or not through the proxy that is named. */
  constructor(address: string, { stallMs = STALL_MS }: HttpOptions = {}) {
    const url = new URL(address);
    if (!isSafe(url))
      throw new TypeError(`${url.origin}: packages are fetched only over https:// (or http:// from this machine).`);
    if (url.search || url.hash || url.username || url.password) {
      throw new TypeError(
        `${url.origin}${url.pathname} must be the address of a folder, without user, query or fragment.`,
      );
    }
    if (!url.pathname.endsWith('/')) url.pathname += '/';
    this.address = url.href;
    proxyAgent(this.address);
    this.stallMs = stallMs;
  }

  async read(file: string, options: ReadOptions = {}): Promise<RemoteBody> {
    const response = await this.follow(new URL(encodeURIComponent(file), this.address), options);
    try {
      return bodyOf(file, response, options);
    } catch (error) {
      response.destroy();
      throw error;
    }
  }

  private async follow(url: URL, options: ReadOptions): Promise<IncomingMessage> {
    for (let redirects = 0; ; redirects++) {
      const response = await this.request(url, options);
      const { statusCode = 0, headers } = response;
      if (![301, 302, 303, 307, 308].includes(statusCode) || headers.location === undefined) return response;
      response.destroy();
      if (redirects === MOST_REDIRECTS)
        throw new RemoteError(printed`${this.address} redirects too many times.`, false);
      url = redirectOf(url, headers.location);
    }
  }

  private request(url: URL, { range, validator, signal }: ReadOptions): Promise<IncomingMessage> {
    const headers = {
      'accept-encoding': 'identity',
      ...(range && { range: `bytes=${range.start}-${range.end}` }),
      // A weak validator may not be asked with; the answer's is compared in any case.
      ...(range && validator && !validator.startsWith('W/') && { 'if-range': validator }),
    };
    const protocol = url.protocol as 'http:' | 'https:';
    const agent = proxyAgent(url.href) ?? this.agents[protocol];
    return new Promise((resolve, reject) => {
      const send = protocol === 'https:' ? httpsRequest : httpRequest;
      const request = send(url, { headers, agent, signal, timeout: this.stallMs }, (response) => {
        response.on('error', () => undefined);
        resolve(response);
      });
      request.on('timeout', () => request.destroy(new Error(`no data for ${this.stallMs} ms`)));
      request.on('error', (error) => reject(unreachable(url, error)));
      request.end();
    });
  }
}

function isSafe({ protocol, hostname }: URL): boolean {
  return protocol === 'https:' || (protocol === 'http:' && LOOPBACK.test(hostname));
}

function redirectOf(from: URL, location: string): URL {
  const to = URL.canParse(location, from.href) ? new URL(location, from.href) : undefined;
  const allowed = to && isSafe(to) && (from.protocol !== 'https:' || to.protocol === 'https:');
  if (!allowed || to.username || to.password) {
    throw new RemoteError(printed`${from.origin} redirects to a disallowed address; only https is accepted.`, false);
  }
  return to;
}

function bodyOf(file: string, response: IncomingMessage, { range, validator: before }: ReadOptions): RemoteBody {
  const { statusCode = 0, headers } = response;
  const validator = headers.etag ?? headers['last-modified'];
  if (statusCode !== 200 && statusCode !== 206) throw refused(file, statusCode, headers['retry-after']);
  if (before !== undefined && validator !== before) throw changed(file);
  if (headers['content-encoding'] !== undefined && headers['content-encoding'] !== 'identity') {
    throw new RemoteError(printed`${file}: the response is compressed; disable compression for this path.`, false);
  }
  const size =
    statusCode === 206 ? partialSize(file, headers['content-range'], range) : wholeSize(file, response, range);
  return { size, validator, bytes: leavable(received(file, response), () => response.destroy()) };
}

export function changed(file: string): RemoteError {
  return new RemoteError(printed`${file} changed while it was being downloaded; try again.`, false);
}

/** A server may answer a range that is the whole file with the whole file. */
function wholeSize(file: string, { headers }: IncomingMessage, range: ByteRange | undefined): number {
  const size = Number(headers['content-length'] ?? Number.NaN);
  if (range && !(range.start === 0 && range.end === size - 1)) {
    throw new RemoteError(printed`${file}: the server does not support byte ranges, or sent a different file.`, false);
  }
  if (!Number.isSafeInteger(size))
    throw new RemoteError(printed`${file}: the server does not send its size (Content-Length).`, false);
  return size;
}

function partialSize(file: string, header: string | undefined, range: ByteRange | undefined): number {
  const [, start, end, size] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(header ?? '') ?? [];
  if (range && Number(start) === range.start && Number(end) === range.end) return Number(size);
  throw new RemoteError(
    printed`${file}: the server sent a different range than requested (${header ?? 'unnamed'}).`,
    false,
  );
}

function refused(file: string, status: number, retryAfter: string | undefined): RemoteError {
  const seconds = Math.min(Number(retryAfter ?? Number.NaN), LONGEST_RETRY_AFTER_S);
  return new RemoteError(printed`${file}: the server answered ${status}.`, TRANSIENT.has(status), {
    ...(seconds > 0 && { retryAfterMs: seconds * 1_000 }),
  });
}

async function* received(file: string, response: IncomingMessage): AsyncGenerator<Uint8Array> {
  try {
    for await (const bytes of response) yield bytes as Uint8Array;
  } catch (error) {
    throw new RemoteError(printed`${file}: the connection was interrupted (${messageOf(error)}).`, true, {
      cause: error,
    });
  } finally {
    response.destroy();
  }
}

/** What Node says of a certificate whose authority it does not know. */
const UNTRUSTED: ReadonlySet<string> = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);
const UNFIT = /^(ERR_TLS_CERT_|CERT_)/;

function unreachable(url: URL, error: Error): RemoteError {
  const code = 'code' in error ? String(error.code) : '';
  if (UNTRUSTED.has(code)) {
    const message = `${url.host} is not trusted (${messageOf(error)}). If you run its certificate authority, set NODE_EXTRA_CA_CERTS to a file with the authority's certificate.`;
    return new RemoteError(message, false, { cause: error });
  }
  if (UNFIT.test(code)) {
    return new RemoteError(printed`The certificate of ${url.host} cannot be used (${messageOf(error)}).`, false, {
      cause: error,
    });
  }
  return new RemoteError(printed`${url.host} cannot be reached (${messageOf(error)}).`, true, { cause: error });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
