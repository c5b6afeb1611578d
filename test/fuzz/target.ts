/** The service that is attacked: a process of its own with the toy package, a session to spoil and one to watch. */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { control, create, sessionOf } from '../support/control.js';
import { ServiceProcess } from '../support/service-process.js';
import { until } from '../support/test-server.js';
import type { Prey } from './hostile.js';

const PATIENT_MS = 120_000;
/** On SIGUSR2 the service collects its garbage: what it takes afterwards it keeps. */
const COLLECTS = `import v8 from 'node:v8'; import vm from 'node:vm';
v8.setFlagsFromString('--expose-gc');
const collect = vm.runInNewContext('gc');
process.on('SIGUSR2', () => collect());`;
const ENVIRONMENT = { NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(COLLECTS)}` };
const SETTINGS = { MAX_SESSIONS: 4, MAX_SECONDS: 8, IDLE_SECONDS: 5, PAUSED_IN_MEMORY: 1, LOG_LEVEL: 'warn' };

export interface Target {
  service: ServiceProcess;
  prey: Prey;
  /** Paused for good: its stream carries heartbeats only. */
  watchedId: string;
  /** Paths that no answer may show. */
  secrets: string[];
  close(): Promise<void>;
}

/** With settings beyond its own, by their short names. */
export async function startTarget(settings: Record<string, string | number> = {}): Promise<Target> {
  const store = mkdtempSync(join(tmpdir(), 'longlive-edge-'));
  const service = await ServiceProcess.start({
    store,
    settings: { ...SETTINGS, ...settings },
    environment: ENVIRONMENT,
  });
  const { url } = service;
  const sessionId = await made(url, { prompt: 'a fox', pace: 'FASTEST', maxSeconds: 2 });
  await until(async () => (await sessionOf(url, sessionId)).state === 'COMPLETED', 'its session ends', PATIENT_MS);
  const watchedId = await made(url, { prompt: 'a bear', maxSeconds: 8 });
  await until(
    async () => (await control(url, 'pause', watchedId)).state === 'PAUSED',
    'the other one pauses',
    PATIENT_MS,
  );
  return {
    service,
    watchedId,
    prey: { host: new URL(url).host, sessionId, links: await linksOf(service, sessionId), schema: schemaText() },
    secrets: [store, fileURLToPath(new URL('../../', import.meta.url)), 'longlive-toy-'],
    close: async () => {
      await service.stop();
      rmSync(store, { recursive: true, force: true });
    },
  };
}

async function made(url: string, input: object): Promise<string> {
  const { id, message } = await create(url, input);
  if (id === undefined) throw new Error(message);
  return id;
}

async function linksOf(service: ServiceProcess, id: string): Promise<string[]> {
  const document = `query ($id: ID!) { session(id: $id) { ... on Session { artifacts { url } } } }`;
  const { session } = await service.query<{ session: { artifacts: { url: string }[] } }>(document, { id });
  const artifacts = session.artifacts
    .map(({ url }) => new URL(url, service.url))
    .map((url) => url.pathname + url.search);
  const playlist = artifacts.find((path) => path.includes('.m3u8'));
  if (playlist === undefined) throw new Error(`No playlist among ${artifacts.join(', ')}`);
  const chunk = (file: string) => playlist.replace('index.m3u8', file);
  return [...artifacts, chunk('init.mp4'), chunk('chunks/000000.m4s'), chunk('chunks/000001.m4s')];
}

function schemaText(): string {
  return readFileSync(new URL('../../schema/schema.graphql', import.meta.url), 'utf8');
}
