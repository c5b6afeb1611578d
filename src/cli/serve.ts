import { Command } from 'commander';
import { pino } from 'pino';
import { loadConfig } from '../server/config.js';
import type { RunningServer } from '../server/index.js';
import { openBackend } from './backend.js';
import { addSettings } from './settings.js';

/** `longlive serve`: the whole service in one process, until SIGINT or SIGTERM. */
export function serveCommand(): Command {
  const command = new Command('serve').description('serve the API, GraphiQL and the viewer');
  return addSettings(command).action(runServer);
}

async function runServer(flags: Record<string, unknown>): Promise<void> {
  const config = loadConfig(process.env, flags);
  const log = pino({ level: config.logLevel, serializers: { error: pino.stdSerializers.err } });
  // The model and the server's modules come at the same time.
  const [backend, { serve }] = await Promise.all([openBackend(config, log), import('../server/index.js')]);
  let running: RunningServer;
  try {
    running = await serve(config, backend, log);
  } catch (error) {
    await backend.sessions.shutdown();
    await backend.close();
    throw error;
  }
  const model = backend.sessions.models()[0];
  process.stdout.write(
    `LongLive is ready at ${running.url} (model ${model?.name ?? 'none'} on ${model?.device ?? '-'})\n`,
  );
  await untilAskedToStop();
  log.info({}, 'stopping: live sessions are paused with a checkpoint');
  await running.close();
}

/** The first signal asks, the second one insists. */
function untilAskedToStop(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, () => {
        process.once(signal, () => process.exit(130));
        resolve();
      });
    }
  });
}
