import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LocalCluster, LocalWire } from '../../src/cluster/index.js';
import { createMediaFactory } from '../../src/media/index.js';
import { loadConfig, serve, type RunningServer, type ServerSettings } from '../../src/server/index.js';
import {
  type ModelInfo,
  SessionService,
  type SessionPolicy,
  type SessionServiceOptions,
  SILENT,
} from '../../src/sessions/index.js';
import { openStore } from '../../src/storage/index.js';
import { PaintingEngine } from './painting-engine.js';

/** A real server with real encoding and a real store in a directory that goes with it; only the pictures are painted. */
export async function startPaintingServer(
  settings: Partial<ServerSettings> = {},
  policy: Partial<SessionPolicy> = {},
  models?: ModelInfo[],
  media = createMediaFactory({ threads: 1 }),
  role: 'all' | 'api' = 'all',
  stepMilliseconds?: number,
): Promise<RunningServer> {
  const directory = await mkdtemp(join(tmpdir(), 'longlive-'));
  const store = openStore(`file://${directory}`);
  const engine = new PaintingEngine(models, stepMilliseconds);
  const wire = new LocalWire();
  const open = (more: Pick<SessionServiceOptions, 'engine'>) =>
    new SessionService({ ...more, media, store, cluster: new LocalCluster(wire), policy });
  const worker = open({ engine });
  const sessions = role === 'api' ? open({}) : worker;
  if (role === 'api') for (const server of [worker, sessions]) await server.start();
  const close = async () => {
    if (role === 'api') await worker.shutdown();
    await media.close();
    await rm(directory, { recursive: true, force: true });
  };
  return serve(loadConfig({}, { host: '127.0.0.1', port: 0, ...settings }), { sessions, store, close }, SILENT);
}
