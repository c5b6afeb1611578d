/** What the service adds: from the frames leaving the engine to the chunk in a client's hands. */
import { fork } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type * as Backend from '../src/cli/backend.js';
import type * as EngineModule from '../src/engine/index.js';
import type * as Media from '../src/media/index.js';
import type * as Server from '../src/server/index.js';
import { type Engine, type Generation, SILENT } from '../src/sessions/index.js';
import type * as Storage from '../src/storage/index.js';
import type { Arrival, SubscriberTask } from './subscribers.js';

/** The compiled service, as it is deployed. */
const compiled = async <Module>(path: string): Promise<Module> =>
  (await import(new URL(`../dist/${path}`, import.meta.url).href)) as Module;
const { compose } = await compiled<typeof Backend>('cli/backend.js');
const { openEngine } = await compiled<typeof EngineModule>('engine/index.js');
const { createMediaFactory } = await compiled<typeof Media>('media/index.js');
const { loadConfig, serve } = await compiled<typeof Server>('server/index.js');
const { openStore } = await compiled<typeof Storage>('storage/index.js');

export interface ServiceRow {
  media: 'INLINE' | 'URL';
  subscribers: number;
  received: number;
  p50: number;
  p99: number;
}

/** Milliseconds since the epoch with a fraction, comparable between processes of one machine. */
const now = (): number => performance.timeOrigin + performance.now();

/** An engine that notes when the frames of each block left it. */
function timed<E extends Engine>(engine: E, ready: Map<number, number>): E {
  const watch = (generation: Generation): Generation =>
    new Proxy(generation, {
      get(target, key) {
        if (key === 'step') {
          return async () => {
            const step = await target.step();
            if (step.kind === 'frames') ready.set(step.block, now());
            return step;
          };
        }
        const value: unknown = Reflect.get(target, key, target);
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
    });
  return new Proxy(engine, {
    get(target, key) {
      if (key === 'open') return async (...args: Parameters<Engine['open']>) => watch(await target.open(...args));
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

const quantile = (sorted: number[], q: number): number =>
  sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)] ?? NaN;

async function createSession(url: string, seconds: number): Promise<string> {
  const response = await fetch(`${url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      query: `mutation ($input: CreateSessionInput!) { createSession(input: $input) {
        ... on Session { id } ... on Error { message } } }`,
      variables: {
        input: { prompt: 'a red fox runs across the meadow', pace: 'REALTIME', maxSeconds: seconds, seed: '1' },
      },
    }),
  });
  const body = (await response.json()) as { data: { createSession: { id?: string; message?: string } } };
  if (!body.data.createSession.id) throw new Error(`No session: ${JSON.stringify(body)}`);
  return body.data.createSession.id;
}

function arrivals(task: SubscriberTask, signal: AbortSignal): Promise<Arrival[]> {
  return new Promise((done, fail) => {
    const child = fork(join(import.meta.dirname, 'subscribers.ts'), { execArgv: ['--import', 'tsx'], signal });
    child.once('error', fail);
    child.on('message', (message) => (message === 'connected' ? undefined : done(message as Arrival[])));
    child.once('exit', (code) => fail(new Error(`The subscribers ended with code ${code}.`)));
    child.send(task);
  });
}

export async function measureService(options: {
  seconds: number;
  threads: number;
  signal: AbortSignal;
}): Promise<ServiceRow[]> {
  const directory = await mkdtemp(join(tmpdir(), 'longlive-bench-'));
  const ready = new Map<number, number>();
  const models = resolve(import.meta.dirname, '../models');
  const engine = await openEngine({
    models,
    device: 'cpu',
    precision: 'bf16',
    decoder: 'auto',
    threads: options.threads,
  });
  const store = openStore(pathToFileURL(directory).href);
  const policy = { idleSeconds: 0 };
  const media = createMediaFactory({ threads: 1 });
  const backend = compose({ engine: timed(engine, ready), store, media, policy, logger: SILENT });
  const server = await serve(loadConfig({}, { host: '127.0.0.1', port: 0, logLevel: 'silent' }), backend, SILENT);
  const rows: ServiceRow[] = [];
  try {
    for (const media of ['INLINE', 'URL'] as const) {
      for (const subscribers of [1, 50]) {
        ready.clear();
        const sessionId = await createSession(server.url, options.seconds);
        const received = await arrivals({ url: server.url, sessionId, media, subscribers }, options.signal);
        // The first chunks were made while the subscribers were still connecting.
        const delays = received
          .filter(({ index }) => index >= 3)
          .map(({ index, at }) => at - (ready.get(index) ?? NaN))
          .sort((a, b) => a - b);
        rows.push({
          media,
          subscribers,
          received: delays.length,
          p50: quantile(delays, 0.5),
          p99: quantile(delays, 0.99),
        });
      }
    }
  } finally {
    await server.close();
    await rm(directory, { recursive: true, force: true });
  }
  return rows;
}
