import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { Socket } from 'node:net';
import type { Sessions, Logger } from '../sessions/index.js';
import type { ServerConfig } from './config.js';
import { Connections } from './connections.js';
import { looksLikeClientToken } from './credentials/client-tokens.js';
import type { Credentials } from './credentials/credentials.js';
import { type Edge, type Incoming, type Refusal, UNKNOWN_ORIGIN } from './edge.js';
import { sendGraphiQL } from './graphiql.js';
import type { Yoga } from './graphql.js';
import { Idling } from './idling.js';
import type { MediaRoutes } from './media-routes.js';
import type { Metrics } from './metrics.js';
import type { Readiness } from './readiness.js';
import { hangUp, type RefusalLog, refuseSocket, stopListening } from './refusals.js';
import { currentRequestId, requestIdOf, sendError, sendJson, withRequestId } from './request.js';
import type { StaticFiles } from './static.js';
import type { Turns } from './turns.js';
import { boundedRequest, EXCESS } from './upgrade.js';

export interface HttpParts {
  config: ServerConfig;
  edge: Edge;
  credentials: Credentials;
  sessions: Sessions;
  readiness: Readiness;
  yoga: Yoga;
  media: MediaRoutes;
  files: StaticFiles;
  turns: Turns;
  metrics: Metrics;
  refusals: RefusalLog;
  log: Logger;
}

/** How often limits of time are looked at; they hold to within this. */
const CHECK_MILLISECONDS = 1000;

export interface HttpServer {
  server: Server;
  connections: Connections;
}

/** Routes of the service. Everything has a request id, security headers, CORS, a metric and a log line. */
export function createHttpServer(parts: HttpParts): HttpServer {
  const { config, log, refusals } = parts;
  const server = createServer({
    IncomingMessage: boundedRequest(config),
    headersTimeout: config.headerSeconds * 1000,
    requestTimeout: Math.max(config.bodySeconds, config.headerSeconds) * 1000,
    keepAliveTimeout: config.keepAliveSeconds * 1000,
    connectionsCheckingInterval: CHECK_MILLISECONDS,
    maxHeaderSize: config.maxHeaderBytes,
    requireHostHeader: false, // The edge looks at it, and says so in the log.
  });
  server.maxHeadersCount = 0; // Their size is bounded; of too many, Node would drop some without a word.
  const connections = new Connections(server, config, refusals);
  const routes = new Routes(parts, connections);
  const idling = new Idling((config.keepAliveSeconds + config.headerSeconds) * 1000);
  server.on('request', (request, response) => {
    idling.busy(request.socket, response);
    routes.begin(request, response);
  });
  server.on('upgrade', (request) => idling.end(request.socket));
  server.on('checkExpectation', (request: IncomingMessage, response: ServerResponse) =>
    routes.begin(request, response, refusalOf(417, 'EXPECTATION_FAILED', 'Only "Expect: 100-continue" is supported.')),
  );
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    const refusal = malformed(error);
    if (refusal && routes.breakOff(socket, refusal)) return;
    if (!refusal || connections.answering(socket) || socket.bytesRead === 0) return void socket.destroy();
    refusals.note(refusal, { address: socket.remoteAddress });
    refuseSocket(socket, refusal);
  });
  server.on('connect', (request: IncomingMessage, socket: Socket) => {
    const refusal = refusalOf(405, 'METHOD_NOT_ALLOWED', 'CONNECT is not supported: this server is not a proxy.');
    if (connections.answering(socket)) return void socket.destroy();
    refusals.note(refusal, { address: request.socket.remoteAddress });
    refuseSocket(socket, refusal, 'allow: GET, HEAD, POST, OPTIONS\r\n');
  });
  // Such as no descriptor being left for another connection: that one is lost, the others go on.
  server.on('error', (error) => log.error({ error }, 'The server could not take a connection'));
  return { server, connections };
}

const refusalOf = (status: number, code: string, message: string): Refusal => ({ status, code, message });

const EXCESSIVE = refusalOf(
  413,
  'PAYLOAD_TOO_LARGE',
  'The body is too large, or comes in too many pieces; send it in one piece.',
);

const TOO_MANY = refusalOf(
  429,
  'TOO_MANY_REQUESTS',
  'Too many concurrent requests on this connection; wait for responses first.',
);

/** What to answer to bytes that are no request; nothing to who has left. */
function malformed({ code }: NodeJS.ErrnoException): Refusal | undefined {
  if (code === 'ECONNRESET' || code === 'EPIPE') return undefined;
  if (code === 'HPE_HEADER_OVERFLOW') return refusalOf(431, 'HEADERS_TOO_LARGE', 'The headers are too large.');
  if (code === 'HPE_CHUNK_EXTENSIONS_OVERFLOW')
    return refusalOf(413, 'PAYLOAD_TOO_LARGE', 'The extensions of the chunked body are too large.');
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT')
    return refusalOf(408, 'REQUEST_TIMEOUT', 'The request did not arrive in time.');
  return refusalOf(400, 'BAD_REQUEST', 'This is not a well-formed HTTP/1.1 request.');
}

class Routes {
  /** Of each connection the newest request, whose body may still have to come. */
  private readonly newest = new WeakMap<Socket, { request: IncomingMessage; response: ServerResponse }>();

  constructor(
    private readonly parts: HttpParts,
    private readonly connections: Connections,
  ) {}

  /** Answers, whatever it is and whatever happens. */
  begin(request: IncomingMessage, response: ServerResponse, refusal?: Refusal): void {
    const id = requestIdOf(request);
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    request.once(EXCESS, () => this.excess(request, response));
    response.setHeader('x-request-id', id);
    this.newest.set(request.socket, { request, response });
    withRequestId(id, () => {
      this.serve(request, response, id, refusal).catch((error: unknown) => {
        if (response.writableEnded) return; // Broken off, which is what failed here.
        this.parts.log.error({ error, requestId: id }, 'A request failed');
        sendError(response, 500, 'INTERNAL', `Something went wrong inside the service (request ${id}).`);
      });
    });
  }

  /** Refuses the request whose body does not come, or is none; false when that is not what goes on, or an answer is under way. */
  breakOff(socket: Socket, refusal: Refusal): boolean {
    const { request, response } = this.newest.get(socket) ?? {};
    if (!request || !response || request.complete || response.headersSent) return false;
    this.refuse(request, response, refusal, String(response.getHeader('x-request-id')));
    hangUp(socket);
    return true;
  }

  private excess(request: IncomingMessage, response: ServerResponse): void {
    stopListening(request.socket);
    if (!response.headersSent) this.refuse(request, response, EXCESSIVE, String(response.getHeader('x-request-id')));
  }

  private async serve(
    request: IncomingMessage,
    response: ServerResponse,
    requestId: string,
    refusal?: Refusal,
  ): Promise<void> {
    const { incoming, refusal: unread, address } = this.parts.edge.read(request);
    this.record(request, response, incoming?.path ?? '', requestId);
    const turn = this.connections.begin(request, response, address);
    if (!turn) refusal ??= TOO_MANY;
    if (refusal) return this.refuse(request, response, refusal, requestId);
    if (!incoming) return this.refuse(request, response, unread, requestId);
    await turn;
    if (request.socket.destroyed || response.writableEnded) return; // Nobody waits any more, or it was broken off.
    // Whoever reads the request behind this reads what was understood.
    request.url = incoming.target;
    request.headers.host = incoming.host;
    if (this.crossOrigin(request, response, incoming)) return;
    await this.route(request, response, incoming);
  }

  private refuse(request: IncomingMessage, response: ServerResponse, refusal: Refusal, requestId: string): void {
    this.parts.refusals.note(refusal, { requestId, address: request.socket.remoteAddress });
    response.setHeader('connection', 'close');
    sendError(response, refusal.status, refusal.code, refusal.message);
    request.resume();
  }

  private async route(request: IncomingMessage, response: ServerResponse, incoming: Incoming): Promise<void> {
    const { path } = incoming;
    response.setHeader('x-content-type-options', 'nosniff');
    if (path === '/graphql') return this.graphql(request, response, incoming);
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD');
      return sendError(
        response,
        405,
        'METHOD_NOT_ALLOWED',
        'Only GET and HEAD are allowed here; other methods go to /graphql.',
      );
    }
    if (path === '/healthz') return sendJson(response, 200, { status: 'ok' });
    if (path === '/readyz') return this.ready(request, response, incoming.address);
    if (path === '/metrics') return this.metrics(request, response, incoming.address);
    if (await this.parts.media.handle(request, response, incoming)) return;
    if (this.parts.files.handle(path, response)) return;
    if (String(request.headers.accept).includes('text/html')) return this.parts.files.lost(response);
    sendError(response, 404, 'NOT_FOUND', 'Not found. The API is at /graphql, the studio at /.');
  }

  private async graphql(request: IncomingMessage, response: ServerResponse, incoming: Incoming): Promise<void> {
    const { address, foreign } = incoming;
    const { config, credentials, turns, yoga } = this.parts;
    const accept = request.headers.accept ?? '';
    const inQuery = tokenInQuery(request, incoming);
    if (inQuery !== undefined && (foreign || !incoming.originAllowed))
      return this.refuse(request, response, UNKNOWN_ORIGIN, currentRequestId());
    const login = await credentials.login(inQuery ?? request.headers.authorization, address);
    if (request.method === 'GET' && accept.includes('text/html') && (config.graphiql ?? login !== undefined))
      return sendGraphiQL(request, response);
    if (!login) return this.unauthorized(response, address);
    // Nobody but who has a credential can send it, a page of another site least of all.
    if (foreign && login.anonymous) return this.refuse(request, response, UNKNOWN_ORIGIN, currentRequestId());
    // Only types that a foreign page cannot send without asking first (CORS), so that no form can act for a visitor.
    if (request.method === 'POST' && !/^application\/json\b/i.test(request.headers['content-type'] ?? '')) {
      return sendError(response, 415, 'UNSUPPORTED_MEDIA_TYPE', 'Send the operation as application/json.');
    }
    if (request.method === 'POST' && !isPlainText(request.headers)) {
      return sendError(response, 415, 'UNSUPPORTED_MEDIA_TYPE', 'Send the body uncompressed and in UTF-8.');
    }
    await turns.next(address);
    if (response.destroyed) return; // Whoever asked has left: nobody pays for the work.
    if (accept.includes('text/event-stream'))
      response.once(
        'close',
        credentials.watch(
          () => login,
          () => response.destroy(),
        ),
      );
    await yoga(request, response, { login, address });
  }

  /** In the same words whatever is wrong with a credential. */
  private unauthorized(response: ServerResponse, address: string): void {
    const { unknownYet } = this.parts.credentials;
    const wait = this.parts.credentials.waitOf(address);
    if (unknownYet) return sendError(response, 503, unknownYet.code, `${unknownYet.message}; try again.`);
    if (wait !== undefined) {
      response.setHeader('retry-after', String(wait));
      const message = `Too many wrong credentials came from this address; try again in ${wait} seconds.`;
      return sendError(response, 429, 'TOO_MANY_FAILED_LOGINS', message);
    }
    response.setHeader('www-authenticate', 'Bearer');
    sendError(response, 401, 'UNAUTHORIZED', 'Send the header "Authorization: Bearer <token>".');
  }

  /** Strangers hear whether it is ready and in general why not; what the store said is for the operator, and the log. */
  private async ready(request: IncomingMessage, response: ServerResponse, address: string): Promise<void> {
    const { credentials, readiness } = this.parts;
    const login = await credentials.login(request.headers.authorization, address);
    const trusted = login !== undefined && !login.anonymous && login.principal.scopes.has('admin');
    const problems = await readiness.problems(trusted);
    const warnings = readiness.warnings();
    sendJson(response, problems.length === 0 ? 200 : 503, {
      status: problems.length === 0 ? 'ready' : 'not ready',
      problems,
      ...(warnings.length > 0 && { warnings }),
    });
  }

  private async metrics(request: IncomingMessage, response: ServerResponse, address: string): Promise<void> {
    const { credentials, metrics } = this.parts;
    const login = await credentials.login(request.headers.authorization, address);
    if (!login) return this.unauthorized(response, address);
    if (!login.principal.scopes.has('admin'))
      return sendError(response, 403, 'FORBIDDEN', 'This needs a credential with the scope admin.');
    response.writeHead(200, { 'content-type': metrics.registry.contentType }).end(await metrics.registry.metrics());
  }

  /** Sets the CORS headers; true when it answered a preflight. */
  private crossOrigin(
    request: IncomingMessage,
    response: ServerResponse,
    { origin, originAllowed }: Incoming,
  ): boolean {
    response.setHeader('vary', 'Origin');
    if (origin !== undefined && originAllowed) {
      response.setHeader('access-control-allow-origin', origin);
      response.setHeader('access-control-expose-headers', 'x-request-id, content-range, content-length');
    }
    if (request.method !== 'OPTIONS') return false;
    response.setHeader('access-control-allow-methods', 'GET, HEAD, POST');
    response.setHeader('access-control-allow-headers', 'content-type, authorization, range, x-request-id, accept');
    response.setHeader('access-control-max-age', '600');
    response.writeHead(204).end();
    return true;
  }

  private record(request: IncomingMessage, response: ServerResponse, path: string, requestId: string): void {
    const started = performance.now();
    response.once('close', () => {
      const milliseconds = performance.now() - started;
      const status = response.statusCode;
      this.parts.metrics.requests.observe({ route: routeName(path), status: String(status) }, milliseconds / 1000);
      const details = { requestId, method: request.method, path, status, milliseconds: Math.round(milliseconds) };
      this.parts.log.debug(details, 'request');
    });
  }
}

/**
 * `EventSource` sends no headers, so a stream may have its client token, and no other credential, in the query. It is taken out of the
 * request, for whoever reads or writes down what comes after.
 */
function tokenInQuery(request: IncomingMessage, { path, query }: Incoming): string | undefined {
  const streams = request.method === 'GET' && (request.headers.accept ?? '').includes('text/event-stream');
  const tokens = query.getAll('token');
  if (!streams || tokens.length === 0) return undefined;
  query.delete('token');
  request.url = `${path}?${query.toString()}`;
  const [token = ''] = tokens;
  return `Bearer ${tokens.length === 1 && looksLikeClientToken(token) ? token : 'none'}`;
}

function isPlainText({ 'content-encoding': encoding = 'identity', 'content-type': type = '' }: IncomingHttpHeaders) {
  const [, charset = 'utf-8'] = /;\s*charset\s*=\s*"?([^\s";]*)/i.exec(type) ?? [];
  return encoding.toLowerCase() === 'identity' && /^utf-?8$/i.test(charset);
}

function routeName(path: string): string {
  if (path.startsWith('/sessions/')) return '/sessions';
  return ['/', '/graphql', '/healthz', '/readyz', '/metrics'].includes(path) ? path : 'other';
}
