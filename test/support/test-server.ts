import { LocalCluster } from '../../src/cluster/index.js';
import {
  type Clock,
  type EncodedChunk,
  type Frames,
  type ModelInfo,
  type SessionPolicy,
  SessionService,
  systemClock,
  SILENT,
} from '../../src/sessions/index.js';
import { loadConfig, serve, type RunningServer, type ServerSettings } from '../../src/server/index.js';
import { FakeEngine, type FakeTimes } from './fake-engine.js';
import { FakeMedia } from './fake-media.js';
import { MemoryStore } from './memory-store.js';

export interface TestServer extends RunningServer {
  service: SessionService;
  store: MemoryStore;
  engine: FakeEngine;
  /** Runs an operation over HTTP and gives `data`, or throws what the server said. */
  query<Data>(document: string, variables?: object, headers?: Record<string, string>): Promise<Data>;
  /** The value of one metric line, 0 when absent. */
  metric(line: string): Promise<number>;
}

export interface TestServerOptions {
  settings?: Partial<ServerSettings>;
  policy?: Partial<SessionPolicy>;
  times?: FakeTimes;
  models?: ModelInfo[];
  /** Chunks are at least so large. */
  chunkBytes?: number;
  store?: MemoryStore;
  /** Told of what the server logs as an error. */
  onError?: (details: object, message: string) => void;
}

/** A real server on a free port, over the real domain, with a fake engine, fake media and a store in memory. */
export async function startTestServer(options: TestServerOptions = {}): Promise<TestServer> {
  const clock: Clock = systemClock;
  const store = options.store ?? new MemoryStore();
  const engine = new FakeEngine(clock, options.times ?? { step: 1, recache: 2 }, options.models);
  const media = new PaddedMedia(options.chunkBytes ?? 0);
  const policy = { idleSeconds: 0, heartbeatSeconds: 0.2, ...options.policy };
  const service = new SessionService({ engine, media, store, cluster: new LocalCluster(), clock, policy });
  const config = loadConfig(
    {},
    { host: '127.0.0.1', port: 0, heartbeatSeconds: policy.heartbeatSeconds, ...options.settings },
  );
  const server = await serve(
    config,
    { sessions: service, store },
    { ...SILENT, ...(options.onError && { error: options.onError }) },
  );
  return {
    ...server,
    service,
    store,
    engine,
    query: (document, variables, headers) => query(server.url, document, variables, headers),
    metric: (line) => metric(server.url, line),
  };
}

export async function query<Data>(
  url: string,
  document: string,
  variables: object = {},
  headers: Record<string, string> = {},
): Promise<Data> {
  const response = await fetch(`${url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ query: document, variables }),
  });
  const body = (await response.json()) as { data?: Data; errors?: { message: string }[] };
  if (body.data === undefined || body.errors) throw new Error(`${response.status} ${JSON.stringify(body)}`);
  return body.data;
}

async function metric(url: string, line: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const found = text.split('\n').find((candidate) => candidate.startsWith(`${line} `));
  return Number(found?.slice(line.length + 1) ?? 0);
}

class PaddedMedia extends FakeMedia {
  constructor(private readonly least: number) {
    super();
  }

  override async open() {
    const encoder = await super.open();
    return { ...encoder, encode: async (frames: Frames) => this.pad(await encoder.encode(frames)) };
  }

  private pad(chunk: EncodedChunk): EncodedChunk {
    const bytes = Buffer.alloc(Math.max(this.least, chunk.bytes.length), ' ');
    bytes.set(chunk.bytes);
    return { ...chunk, bytes, samples: [{ size: bytes.length, key: true }] };
  }
}

export interface CreatedSession {
  id: string;
  cursor: string;
}

export async function createSession(server: TestServer, input: object = {}): Promise<CreatedSession> {
  const { createSession: session } = await server.query<{ createSession: CreatedSession & { message?: string } }>(
    `mutation ($input: CreateSessionInput!) {
      createSession(input: $input) { ... on Session { id cursor } ... on Error { message } }
    }`,
    { input: { prompt: 'a red fox', pace: 'FASTEST', ...input } },
  );
  if (session.message) throw new Error(session.message);
  return session;
}

/** The URIs in a playlist of the fake media: of the init segment, then of every chunk. */
export function playlistUris(text: string): string[] {
  const lines = text.split('\n').map((line) => line.replace('#MAP ', ''));
  return lines.filter((line) => !line.startsWith('#'));
}

export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  milliseconds = 10_000,
): Promise<void> {
  const deadline = Date.now() + milliseconds;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`Waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
