/**
 * What comes in, read once and totally: target, method, host, origin, address. HTTP requests and upgrades are both read
 * here, and nothing here throws: a request is either understood, with every part checked, or refused with a status.
 */

import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import proxyAddress from 'proxy-addr';
import {
  forwardedAddress,
  type Host,
  isLoopback,
  isOrigin,
  listedHost,
  networkOf,
  parseHost,
  plainAddress,
} from './addresses.js';
import type { ServerConfig } from './config.js';

/** A request that was understood. */
export interface Incoming {
  readonly method: string;
  /** Begins with `/`; percent-encodings are well-formed and hide no NUL. */
  readonly path: string;
  readonly query: URLSearchParams;
  /** Path and query, for those who read `request.url`. */
  readonly target: string;
  /** As it is asked for, with its port; absent where HTTP/1.0 says none. */
  readonly host: string | undefined;
  /** The same as a name or address alone, lower case. */
  readonly hostName: string | undefined;
  /** As the browser sent it. */
  readonly origin: string | undefined;
  /** No page sent it, or one of this service, of its public URL or of a listed site. */
  readonly originAllowed: boolean;
  /** A page of another site made the browser ask without an origin, as `<img>` does; false where all sites may. */
  readonly foreign: boolean;
  /** The client's address, behind trusted proxies; what limits per address count by. */
  readonly address: string;
}

/** Why a request is not served. */
export interface Refusal {
  readonly status: number;
  readonly code: string;
  readonly message: string;
}

export type Arrival =
  | { readonly incoming: Incoming; readonly refusal?: undefined; readonly address: string }
  | { readonly incoming?: undefined; readonly refusal: Refusal; readonly address: string };

export type EdgeOptions = Pick<
  ServerConfig,
  'host' | 'token' | 'publicUrl' | 'hosts' | 'corsOrigins' | 'trustedProxies'
> &
  Partial<Pick<ServerConfig, 'role'>>;

/** Answered whatever the host and the origin: balancers ask by address, and what they hear tells nothing. */
const FREE_PATHS = new Set(['/healthz', '/readyz']);

/** All that a worker answers to. */
const WORKER_PATHS = new Set([...FREE_PATHS, '/metrics']);

/** Headers of which a second one would leave open which of them counts. */
const SINGLE_HEADERS = ['host', 'authorization', 'origin', 'content-type', 'upgrade'];

/** What RFC 3986 has in a path, and with it what clients send unencoded all the same; never `\`, `#` or a blank. */
const PATH = /^\/(?!\/)[\x21\x22\x24-\x3e\x40-\x5b\x5d-\x7e]*$/;
const QUERY = /^[\x21\x22\x24-\x7e]*$/;

const refuse = (status: number, code: string, message: string): Refusal => ({ status, code, message });

export const UNKNOWN_ORIGIN = refuse(
  403,
  'UNKNOWN_ORIGIN',
  'This origin is not allowed. If a proxy is in between, have it keep the header Host; else add the origin to the setting corsOrigins (LONGLIVE_CORS_ORIGINS).',
);

export class Edge {
  private readonly hosts: ReadonlySet<string>;
  private readonly origins: Set<string>;
  private readonly trusts: (address: string, index: number) => boolean;

  /** `asks`: whether a caller without a credential is turned away. */
  constructor(
    private readonly options: EdgeOptions,
    private readonly asks: () => boolean = () => options.token !== undefined,
  ) {
    const { publicUrl, hosts, corsOrigins, trustedProxies, host } = options;
    const known = publicUrl === undefined ? undefined : new URL(publicUrl);
    this.hosts = new Set([...hosts, host, ...(known ? [known.host] : [])].map((name) => listedHost(name) ?? name));
    this.origins = new Set([...corsOrigins, ...(known ? [known.origin] : [])]);
    this.origins.delete('null'); // Whoever hides where it comes from says that; it is also what URLs without a host have.
    this.trusts = proxyAddress.compile(trustedProxies);
  }

  read(request: IncomingMessage): Arrival {
    const address = this.addressOf(request);
    const understood = this.understand(request, address);
    if ('status' in understood) return { refusal: understood, address };
    const refusal = this.notHere(understood) ?? this.stranger(understood, request);
    return refusal ? { refusal, address } : { incoming: understood, address };
  }

  /** Every part of the request by itself. */
  private understand(request: IncomingMessage, address: string): Incoming | Refusal {
    const doubled = doubledHeader(request.rawHeaders);
    if (doubled !== undefined) return refuse(400, 'BAD_REQUEST', `The header "${doubled}" must not be repeated.`);
    const target = parseTarget(request.method ?? '', request.url ?? '');
    if (!target) return refuse(400, 'BAD_TARGET', 'The request target must be a well-formed path, such as /graphql.');
    const { host: header, origin } = request.headers;
    const authority = target.authority ?? header;
    const host = authority === undefined ? undefined : parseHost(authority);
    const lacking = header === undefined && request.httpVersion !== '1.0';
    if (lacking || (authority !== undefined && !host) || (header !== undefined && !parseHost(header)))
      return refuse(400, 'BAD_HOST', 'The header "Host" must be a host name or address, with or without a port.');
    if (origin !== undefined && !isOrigin(origin))
      return refuse(400, 'BAD_ORIGIN', 'The header "Origin" must be scheme://host, with or without a port.');
    return {
      ...{ method: request.method ?? '', path: target.url.pathname, query: target.url.searchParams, origin, address },
      target: target.url.pathname + target.url.search,
      host: host?.text,
      hostName: host?.name,
      originAllowed: origin === undefined || this.mayCall(origin, host),
      foreign: origin === undefined && !this.origins.has('*') && isForeign(request.headers['sec-fetch-site']),
    };
  }

  private notHere({ path }: Incoming): Refusal | undefined {
    if (this.options.role !== 'worker' || WORKER_PATHS.has(path)) return undefined;
    return refuse(404, 'NOT_FOUND', 'This server has no API. Use a server with the role api or all.');
  }

  /** Where no credential is asked for, only who is known by host and origin is served (against DNS rebinding). */
  private stranger({ path, hostName, originAllowed }: Incoming, request: IncomingMessage): Refusal | undefined {
    if (this.asks() || FREE_PATHS.has(path)) return undefined;
    if (!this.isOurs(hostName, request.socket.localAddress)) {
      return refuse(
        421,
        'UNKNOWN_HOST',
        'This host name is not served; add it to the setting hosts (LONGLIVE_HOSTS) or publicUrl.',
      );
    }
    if (!originAllowed && request.method !== 'OPTIONS') return UNKNOWN_ORIGIN;
    return undefined;
  }

  private isOurs(name: string | undefined, localAddress: string | undefined): boolean {
    if (this.hosts.has('*')) return true;
    if (name === undefined) return false;
    return this.hosts.has(name) || isLoopback(name) || (isIP(name) !== 0 && name === plainAddress(localAddress ?? ''));
  }

  /** The page's own origin, the public URL's, or a listed one. */
  private mayCall(origin: string, host: Host | undefined): boolean {
    if (this.origins.has('*') || this.origins.has(origin)) return true;
    if (!host || !URL.canParse(origin)) return false;
    const { protocol, host: from } = new URL(origin);
    const here = `${protocol}//${host.text}`;
    return /^https?:$/.test(protocol) && URL.canParse(here) && new URL(here).host === from;
  }

  /** As far back as proxies are trusted; what one says that is no address is nobody's, and its own counts. */
  private addressOf({ socket, headers }: IncomingMessage): string {
    let address = plainAddress(socket.remoteAddress ?? '');
    const given = [headers['x-forwarded-for'] ?? []].flat().join();
    for (const entry of given.split(',').reverse()) {
      if (entry.trim() === '') continue;
      const before = this.trusts(address, 0) ? forwardedAddress(entry.trim()) : undefined;
      if (before === undefined) break;
      address = before;
    }
    return networkOf(address);
  }
}

interface Target {
  url: URL;
  /** Of a target that is a whole URL, which counts instead of the header. */
  authority?: string;
}

function parseTarget(method: string, text: string): Target | undefined {
  if (text === '*') return method === 'OPTIONS' ? { url: new URL('http://localhost/') } : undefined;
  const [, authority, rest = text] = /^https?:\/\/([^/?#]*)(.*)$/i.exec(text) ?? [];
  const target = rest.startsWith('/') || authority === undefined ? rest : `/${rest}`;
  const at = target.indexOf('?');
  const path = at < 0 ? target : target.slice(0, at);
  if (!PATH.test(path) || !decodes(path) || (at >= 0 && !QUERY.test(target.slice(at)))) return undefined;
  const whole = `http://localhost${target}`;
  if (!URL.canParse(whole)) return undefined;
  return { url: new URL(whole), ...(authority !== undefined && { authority }) };
}

function decodes(path: string): boolean {
  try {
    return !decodeURIComponent(path).includes('\0');
  } catch {
    return false;
  }
}

/** Of what browsers say, `none` is the person at the browser. */
function isForeign(site: string | string[] | undefined): boolean {
  return site !== undefined && site !== 'same-origin' && site !== 'none';
}

function doubledHeader(rawHeaders: readonly string[]): string | undefined {
  const seen = new Set<string>();
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]?.toLowerCase() ?? '';
    if (seen.has(name) && SINGLE_HEADERS.includes(name)) return name;
    seen.add(name);
  }
  return undefined;
}
