import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LocalCluster } from '../../src/cluster/index.js';
import { createMediaFactory } from '../../src/media/index.js';
import { loadConfig, serve, type RunningServer, type ServerSettings } from '../../src/server/index.js';
import { type ModelInfo, SessionService, type SessionPolicy } from '../../src/sessions/index.js';
import { openStore } from '../../src/storage/index.js';
import { PaintingEngine } from './painting-engine.js';

const QUIET = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };

/** A real server with real encoding and a real store in a directory that goes with it; only the pictures are painted. */
export async function startPaintingServer(
  settings: Partial<ServerSettings> = {},
  policy: Partial<SessionPolicy> = {},
  models?: ModelInfo[],
  media = createMediaFactory({ workers: 1 }),
): Promise<RunningServer> {
  const directory = await mkdtemp(join(tmpdir(), 'longlive-'));
  const store = openStore(`file://${directory}`);
  const engine = new PaintingEngine(models);
  const sessions = new SessionService({ engine, media, store, cluster: new LocalCluster(), policy });
  const close = async () => {
    await media.close();
    await rm(directory, { recursive: true, force: true });
  };
  return serve(loadConfig({}, { host: '127.0.0.1', port: 0, ...settings }), { sessions, store, close }, QUIET);
}
