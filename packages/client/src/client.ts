import { admitted, type RoomWait } from './admitted.js';
import { ClosedError, retryIn } from './errors.js';
import {
  CreateSession,
  type CreateSessionInput,
  GetModels,
  type GetModelsQuery,
  GetService,
  type GetServiceQuery,
  GetSession,
  ListSessions,
} from './generated/operations.js';
import { randomKey } from './keys.js';
import { unwrap } from './results.js';
import { type SessionParts, Session } from './session.js';
import { asyncDispose, wait } from './time.js';
import { type Fetch, HttpWire } from './wire/http.js';
import { Token, type TokenSource } from './wire/token.js';
import { WebSocketWire } from './wire/websocket.js';
import type { Wire } from './wire/wire.js';
import { Wires } from './wire/wires.js';

export interface ClientOptions {
  /** Of the service, http or https. In a page of the service itself it may be left out. */
  url?: string | URL;
  /** Or a function that gives one; it is asked again whenever the service refuses what it gave. */
  token?: TokenSource;
  /** Ends everything. */
  signal?: AbortSignal;
  fetch?: Fetch;
  /** For Node 20: the `WebSocket` of the package ws. Without one, and with false, subscriptions go over SSE. */
  webSocket?: unknown;
  /** Instead of a service: the mock of `@longlive/client/testing`. */
  wire?: Wire;
}

type Writable<Type> = { -readonly [Key in keyof Type]?: NonNullable<Type[Key]> };

export interface CreateOptions extends Omit<Writable<CreateSessionInput>, 'seed'> {
  /** As a string where it is greater than numbers are exact, 2^53. */
  seed?: string | number;
  /**
   * How long to wait for room, in seconds: `create` answers when there is some. Then, and at once unless it is given, `AtCapacityError`. With
   * `maxWaitSeconds` instead, `create` answers at once, with a session that may be `queued`.
   */
  patienceSeconds?: number;
  /** Called whenever the place in the line, or what is known of the wait, has changed. */
  onWait?: (wait: RoomWait) => void;
  signal?: AbortSignal;
}

export interface RenderOptions extends CreateOptions {
  onProgress?: (progress: { readonly seconds: number; readonly of: number | undefined }) => void;
}

export type ServiceFacts = GetServiceQuery['service'];
export type ModelFacts = GetModelsQuery['models'][number];

export interface ListOptions {
  first?: number;
  after?: string;
  /** Words of the title and of the newest prompts. */
  search?: string;
  /** Only favourites, or only the others. */
  favourite?: boolean;
  signal?: AbortSignal;
}

export interface SessionPage {
  readonly sessions: readonly Session[];
  /** Pass it as `after` to get those that follow; undefined when none do. */
  readonly next: string | undefined;
}

const DEFAULT_HEARTBEAT_SECONDS = 10;
const LEAST_WAIT_MS = 250;
const LONGEST_WAIT_SECONDS = 86_400;

export class LiveClient {
  private readonly closing = new AbortController();
  private readonly parts: SessionParts;
  private heartbeatSeconds: Promise<void> | undefined;
  private silence = 3 * DEFAULT_HEARTBEAT_SECONDS * 1000;

  constructor(options: ClientOptions = {}) {
    const closed = AbortSignal.any([this.closing.signal, ...(options.signal ? [options.signal] : [])]);
    const base = baseOf(options.url);
    const wire = options.wire ?? wiresOf(base, options, closed);
    closed.addEventListener('abort', () => wire.close());
    this.parts = { wire, base, closed, silenceMilliseconds: () => this.silenceMilliseconds() };
  }

  /** Starts a session; answers before anything is generated. */
  async create({ patienceSeconds = 0, onWait, signal, seed, ...input }: CreateOptions): Promise<Session> {
    const waits = patienceSeconds > 0 && { maxWaitSeconds: Math.min(LONGEST_WAIT_SECONDS, patienceSeconds) };
    const variables = { input: { idempotencyKey: randomKey(), ...waits, ...input, seed: seed?.toString() } };
    const giveUpAt = performance.now() + patienceSeconds * 1000;
    for (;;) {
      try {
        const { createSession } = await this.parts.wire.request(CreateSession, variables, signal);
        const session = this.open(unwrap(createSession));
        return waits ? await admitted(session, onWait, signal) : session;
      } catch (error) {
        const milliseconds = Math.max(LEAST_WAIT_MS, retryIn(error));
        if (!(performance.now() + milliseconds <= giveUpAt)) throw error;
        onWait?.({ seconds: milliseconds / 1000, place: null });
        await wait(milliseconds, AbortSignal.any([this.parts.closed, ...(signal ? [signal] : [])]));
      }
    }
  }

  /** A session that exists. */
  async session(id: string, { signal }: { signal?: AbortSignal } = {}): Promise<Session> {
    return this.open(unwrap((await this.parts.wire.request(GetSession, { id }, signal)).session));
  }

  /** Those that are stored, the newest first: a page of them. One of a search may be short although more follow. */
  async sessions({ signal, ...wanted }: ListOptions = {}): Promise<SessionPage> {
    const { nodes, pageInfo } = unwrap((await this.parts.wire.request(ListSessions, wanted, signal)).sessions);
    const next = pageInfo.hasNextPage ? (pageInfo.endCursor ?? undefined) : undefined;
    return { sessions: nodes.map((facts) => this.open(facts)), next };
  }

  /** Those that sessions can be made with; the default one first. */
  async models({ signal }: { signal?: AbortSignal } = {}): Promise<readonly ModelFacts[]> {
    return (await this.parts.wire.request(GetModels, {}, signal)).models;
  }

  /** Makes a film as fast as the device allows, and answers when it is complete. */
  async render({ onProgress, ...options }: RenderOptions): Promise<Session> {
    const session = await this.create({ pace: 'FASTEST', ...options });
    const { signal, maxSeconds: of } = options;
    for await (const event of session.events({ media: 'NONE', signal })) {
      if (event.type === 'chunk') onProgress?.({ seconds: event.startSeconds + event.durationSeconds, of });
    }
    await session.refresh({ signal });
    return session;
  }

  async service({ signal }: { signal?: AbortSignal } = {}): Promise<ServiceFacts> {
    return (await this.parts.wire.request(GetService, {}, signal)).service;
  }

  /** Ends everything that this client reads and waits for. Sessions go on. */
  close(): void {
    this.closing.abort(new ClosedError());
  }

  async [asyncDispose](): Promise<void> {
    this.close();
  }

  private open(facts: ConstructorParameters<typeof Session>[1]): Session {
    return new Session(this.parts, facts);
  }

  /** Three heartbeats. How far apart those are is asked once; until it is known, they are thought to be as usual. */
  private silenceMilliseconds(): number {
    this.heartbeatSeconds ??= this.service().then(
      ({ heartbeatSeconds }) => void (this.silence = 3000 * heartbeatSeconds),
      () => void (this.heartbeatSeconds = undefined),
    );
    return this.silence;
  }
}

export const createClient = (options: ClientOptions = {}): LiveClient => new LiveClient(options);

function baseOf(url: string | URL | undefined): string {
  const here = (globalThis as { location?: { href: string } }).location?.href;
  if (url === undefined && here === undefined) throw new TypeError('Give createClient the `url` of the service.');
  const base = URL.canParse(url ?? '/', here) ? new URL(url ?? '/', here) : undefined;
  if (!base || !/^https?:$/.test(base.protocol))
    throw new TypeError(`The \`url\` ${String(url)} is none of a service. Begin it with http:// or https://.`);
  return base.href.endsWith('/') ? base.href : `${base.href}/`;
}

function wiresOf(base: string, options: ClientOptions, closed: AbortSignal): Wire {
  const token = new Token(options.token);
  const api = new URL('graphql', base).href;
  const http = new HttpWire(api, token, options.fetch ?? ((url, init) => fetch(url, init)), closed);
  const webSocket = options.webSocket ?? (globalThis as { WebSocket?: unknown }).WebSocket;
  return new Wires(http, webSocket ? new WebSocketWire(api, token, webSocket) : undefined);
}
