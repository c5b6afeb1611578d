import { SILENT } from '../../src/sessions/index.js';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openBackend } from '../../src/cli/backend.js';
import { loadConfig, serve, type RunningServer, type ServerSettings } from '../../src/server/index.js';

/** The service as `longlive serve` makes it, with the Pocket model on the CPU and a store that goes with it. */
export async function startPocketServer(settings: Partial<ServerSettings> = {}): Promise<RunningServer> {
  const directory = await mkdtemp(join(tmpdir(), 'longlive-'));
  const config = loadConfig({}, { host: '127.0.0.1', port: 0, store: directory, device: 'cpu', ...settings });
  const backend = await openBackend(config, SILENT);
  const close = async () => {
    await backend.close();
    await rm(directory, { recursive: true, force: true });
  };
  return serve(config, { sessions: backend.sessions, store: backend.store, close }, SILENT);
}
