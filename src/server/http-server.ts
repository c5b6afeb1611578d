import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { gunzip } from 'node:zlib';
import { promisify } from 'node:util';
import type { ObjectStore, Sessions } from '../sessions/index.js';
import type { ServerConfig } from './config.js';
import { graphiqlPage } from './graphiql.js';
import type { Log, Yoga } from './graphql.js';
import type { MediaRoutes } from './media-routes.js';
import type { Metrics } from './metrics.js';
import { authorized, originAllowed, requestIdOf, sendError, sendJson, withRequestId } from './request.js';
import type { StaticFiles } from './static.js';

export interface HttpParts {
  config: ServerConfig;
  sessions: Sessions;
  store: ObjectStore;
  yoga: Yoga;
  media: MediaRoutes;
  files: StaticFiles;
  metrics: Metrics;
  log: Log;
}

/** Routes of the service. Everything has a request id, security headers, CORS, a metric and a log line. */
export function createHttpServer(parts: HttpParts): Server {
  const routes = new Routes(parts);
  const server = createServer(
    { requestTimeout: 60_000, headersTimeout: 15_000, keepAliveTimeout: 65_000 },
    (request, response) => {
      const id = requestIdOf(request);
      response.setHeader('x-request-id', id);
      withRequestId(id, () => void routes.serve(request, response, id));
    },
  );
  return server;
}

class Routes {
  constructor(private readonly parts: HttpParts) {}

  async serve(request: IncomingMessage, response: ServerResponse, requestId: string): Promise<void> {
    const { log } = this.parts;
    const url = new URL(request.url ?? '/', 'http://localhost');
    this.record(request, response, url.pathname, requestId);
    try {
      if (this.crossOrigin(request, response)) return;
      await this.route(request, response, url);
    } catch (error) {
      log.error({ err: error, requestId, path: url.pathname }, 'A request failed');
      sendError(response, 500, 'INTERNAL', `Something went wrong inside the service (request ${requestId}).`);
    }
  }

  private async route(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
    response.setHeader('x-content-type-options', 'nosniff');
    if (url.pathname === '/graphql') return this.graphql(request, response);
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD');
      return sendError(response, 405, 'METHOD_NOT_ALLOWED', 'Only /graphql takes anything but GET and HEAD.');
    }
    if (url.pathname === '/healthz') return sendJson(response, 200, { status: 'ok' });
    if (url.pathname === '/readyz') return this.ready(response);
    if (url.pathname === '/metrics') return this.metrics(request, response);
    if (await this.parts.media.handle(request, response, url)) return;
    if (this.parts.files.handle(url.pathname, response)) return;
    sendError(response, 404, 'NOT_FOUND', 'There is nothing here. The API is at /graphql, the viewer at /.');
  }

  private async graphql(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { config, yoga } = this.parts;
    const accept = request.headers.accept ?? '';
    if (request.method === 'GET' && accept.includes('text/html') && config.graphiql)
      return sendGraphiQL(request, response);
    if (!authorized(config.token, request.headers.authorization)) {
      response.setHeader('www-authenticate', 'Bearer');
      return sendError(response, 401, 'UNAUTHORIZED', 'Send the header "Authorization: Bearer <token>".');
    }
    // Only types that a foreign page cannot send without asking first (CORS), so that no form can act for a visitor.
    if (request.method === 'POST' && !/^application\/(graphql\+)?json\b/i.test(request.headers['content-type'] ?? '')) {
      return sendError(response, 415, 'UNSUPPORTED_MEDIA_TYPE', 'Send the operation as application/json.');
    }
    if (accept.includes('text/event-stream')) closeWhenStalled(request, config.stallSeconds);
    await yoga(request, response);
  }

  private async ready(response: ServerResponse): Promise<void> {
    const { accepting, detail } = this.parts.sessions.status();
    const store = await this.parts.store.check().then(
      () => undefined,
      (error: unknown) => (error instanceof Error ? error.message : String(error)),
    );
    const problems = [
      ...(accepting ? [] : [detail ?? 'Not accepting sessions.']),
      ...(store === undefined ? [] : [`Store: ${store}`]),
    ];
    sendJson(response, problems.length === 0 ? 200 : 503, {
      status: problems.length === 0 ? 'ready' : 'not ready',
      problems,
    });
  }

  private async metrics(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { config, metrics } = this.parts;
    if (!authorized(config.token, request.headers.authorization)) {
      return sendError(response, 401, 'UNAUTHORIZED', 'Send the header "Authorization: Bearer <token>".');
    }
    response.writeHead(200, { 'content-type': metrics.registry.contentType }).end(await metrics.registry.metrics());
  }

  /** Sets the CORS headers; true when it answered a preflight. */
  private crossOrigin(request: IncomingMessage, response: ServerResponse): boolean {
    const { origin } = request.headers;
    response.setHeader('vary', 'Origin');
    if (origin !== undefined && originAllowed(request, this.parts.config.corsOrigins)) {
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

function routeName(path: string): string {
  if (path.startsWith('/sessions/')) return '/sessions';
  return ['/', '/graphql', '/healthz', '/readyz', '/metrics'].includes(path) ? path : 'other';
}

/** A stream whose client takes nothing is ended: heartbeats keep a healthy one's socket active. */
function closeWhenStalled(request: IncomingMessage, seconds: number): void {
  const { socket } = request;
  socket.setTimeout(seconds * 1000, () => socket.destroy());
}

async function sendGraphiQL(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const page = await graphiqlPage();
  const zipped = /\bgzip\b/.test(String(request.headers['accept-encoding']));
  const bytes = zipped ? page : await promisify(gunzip)(page);
  response.writeHead(200, {
    'content-type': 'text/html; charset=utf-8',
    'content-length': bytes.length,
    'cache-control': 'no-cache',
    ...(zipped ? { 'content-encoding': 'gzip' } : {}),
  });
  response.end(bytes);
}
