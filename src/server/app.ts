import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import type { Server } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { ApiContext } from '../api/index.js';
import {
  GuardedSessions,
  type Logger,
  type Meter,
  type ObjectStore,
  PromptGate,
  Quotas,
  type ServiceStatus,
  type SessionEvent,
  type Sessions,
} from '../sessions/index.js';
import { LocalMeter } from '../cluster/index.js';
import type { ServerConfig } from './config.js';
import { openCredentials } from './credentials/credentials.js';
import { Edge } from './edge.js';
import { CountingGate } from './gate.js';
import { type Asked, createGraphQL, noteFailure } from './graphql.js';
import { createHttpServer } from './http-server.js';
import { quotaRules } from './limit-settings.js';
import { SignedLinks } from './links.js';
import { MediaCache } from './media-cache.js';
import { MediaRoutes } from './media-routes.js';
import { Metrics } from './metrics.js';
import { promptRules } from './prompt-policy.js';
import { Readiness } from './readiness.js';
import { RefusalLog } from './refusals.js';
import { StaticFiles } from './static.js';
import { Turns } from './turns.js';
import { serveWebSocket } from './websocket.js';

/** The service behind the server. */
export interface Backend {
  sessions: Sessions;
  store: ObjectStore;
  /** Of this server alone when absent. */
  meter?: Meter;
  /** Frees what `sessions.shutdown()` does not own. */
  close?(): Promise<void>;
}

export interface RunningServer extends AsyncDisposable {
  /** Where a browser on this machine reaches it. */
  readonly url: string;
  readonly sessions: Sessions;
  /** `/readyz` says so from now on, with this reason. */
  notReady(reason: string): void;
  /** Pauses live sessions with a checkpoint, ends streams and connections, frees everything. Safe to repeat. */
  close(): Promise<void>;
}

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

/** Time for subscribers to be handed the last events before their connections end. */
const FAREWELL_MILLISECONDS = 250;

/** Of the time to shut down, at most, what is kept for ending streams and freeing what is held. */
const LEAVE_MILLISECONDS = 3000;

/** Serves a backend over HTTP, SSE and WebSocket. Resolves when it listens. */
export async function serve(config: ServerConfig, backend: Backend, log: Logger): Promise<RunningServer> {
  const { sessions, store, meter = new LocalMeter() } = backend;
  const metrics = new Metrics();
  const gate = new CountingGate(config.maxSubscribers);
  const signingKey = config.signingKey ?? randomBytes(32).toString('base64url');
  const credentials = await openCredentials({ ...config, signingKey }, { store, meter, log });
  const quotas = new Quotas(meter, quotaRules(config));
  const prompts = promptRules(config, log);
  const links = new SignedLinks(signingKey, config.mediaUrlSeconds, Date.now, config.publicUrl);
  const cache = new MediaCache(
    store,
    config.mediaCacheMegabytes * 2 ** 20,
    (source, bytes) => metrics.mediaBytes.inc({ source }, bytes),
    (key, bytes) => sessions.checkMedia(key, bytes),
  );
  // What a server without a device knows of the others is theirs to report.
  const observed = config.role === 'api' ? { status: () => onlyDemand(sessions) } : sessions;
  metrics.observe(observed, () => gate.total);
  const context = ({ login, address, socketLogin }: Asked): ApiContext => {
    const quota = quotas.of(login.principal, address);
    return {
      principal: login.principal,
      spend: (cost) => quota.spend('cost', cost),
      clientTokens: credentials.issuer(login, socketLogin),
      sessions: new GuardedSessions(
        sessions,
        login.principal,
        quota,
        prompts && new PromptGate(prompts, login.principal),
      ),
      links,
      gate,
      media: cache,
      failed: (error) => noteFailure(log, error),
      observe: (event) => observe(metrics, event),
      facts: { version, heartbeatSeconds: config.heartbeatSeconds, maxSubscribersPerSession: config.maxSubscribers },
    };
  };
  const { requestSeconds, maxBodyBytes, maxAnswerBytes } = config;
  const yoga = createGraphQL({ context, limits: config, requestSeconds, maxBodyBytes, maxAnswerBytes, metrics, log });
  const media = new MediaRoutes({ sessions, store, cache, links, log });
  const files = await StaticFiles.load(config.studio ?? builtStudio());
  const edge = new Edge(config, () => credentials.asks);
  const refusals = new RefusalLog(log);
  const readiness = new Readiness({ sessions, store, credentials, seconds: config.readySeconds, log });
  const common = { config, edge, credentials, refusals, turns: new Turns(), yoga, metrics, log };
  const http = createHttpServer({ ...common, sessions, readiness, media, files });
  const { server, connections } = http;
  const webSocket = serveWebSocket(server, { ...common, connections });
  await listen(server, config);
  let closed: Promise<void> | undefined;
  const closeOnce = () =>
    (closed ??= close(config, backend, server, webSocket, log).finally(() => credentials.close()));
  return {
    url: address(server, config),
    sessions,
    notReady: (reason) => readiness.drop(reason),
    close: closeOnce,
    [Symbol.asyncDispose]: closeOnce,
  };
}

function onlyDemand(sessions: Sessions): ServiceStatus {
  const { accepting, demand, queued } = sessions.status();
  return { accepting, devices: [], sessions: {}, queued, refusedRecordings: 0, ...(demand && { demand }) };
}

function observe(metrics: Metrics, event: SessionEvent): void {
  metrics.streamed.inc({ type: event.type });
  if (event.type === 'FrameChunk') metrics.delivery.observe(Math.max(0, Date.now() - event.at) / 1000);
}

function listen(server: Server, { host, port }: ServerConfig): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

function address(server: Server, { host }: ServerConfig): string {
  const { port } = server.address() as AddressInfo;
  const reachable = host === '0.0.0.0' || host === '::' ? 'localhost' : host;
  return `http://${reachable.includes(':') ? `[${reachable}]` : reachable}:${port}`;
}

/** Within `shutdownSeconds`, whatever hangs: sessions have all of them but what ending the streams takes. */
async function close(
  config: ServerConfig,
  backend: Backend,
  server: Server,
  webSocket: { dispose(): Promise<void> },
  log: Logger,
): Promise<void> {
  const end = performance.now() + config.shutdownSeconds * 1000;
  const stopped = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const forEnding = Math.min(LEAVE_MILLISECONDS, (config.shutdownSeconds * 1000) / 5);
  if (!(await doneBy(end - forEnding, backend.sessions.shutdown()))) {
    log.error(
      { seconds: config.shutdownSeconds },
      'Sessions took too long to pause; they will continue from their last checkpoint',
    );
  }
  await delay(Math.min(FAREWELL_MILLISECONDS, forEnding / 2));
  const leaving = webSocket.dispose().then(async () => {
    server.closeAllConnections();
    await stopped;
    await backend.close?.();
  });
  if (!(await doneBy(end, leaving))) log.error({}, 'Not everything could be closed in time; exiting');
}

/** Whether the work is done by then; one that fails rejects, also later on. */
async function doneBy(time: number, work: Promise<void>): Promise<boolean> {
  const over = new AbortController();
  const late = delay(Math.max(0, time - performance.now()), false, { ref: false, signal: over.signal });
  try {
    return await Promise.race([work.then(() => true), late]);
  } finally {
    over.abort();
    late.catch(() => undefined);
  }
}

/** The studio beside the compiled server, or in `dist` when run from source. */
function builtStudio(): string | undefined {
  const candidates = ['../studio/', '../../dist/studio/'].map((path) => fileURLToPath(new URL(path, import.meta.url)));
  return candidates.find((path) => existsSync(`${path}index.html`));
}
