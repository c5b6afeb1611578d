import { Command } from 'commander';
import type { Logger } from 'pino';
import { ignoredVariables, loadConfig, type ServerConfig } from '../server/config.js';
import { KeyFile } from '../server/credentials/key-file.js';
import { checkExposure, needsCredential } from '../server/exposure.js';
import type { RunningServer } from '../server/index.js';
import { type KeptSecret, withSecrets } from '../server/secrets.js';
import { type ComposedBackend, openBackend, openConfiguredStore } from './backend.js';
import { endWhenUnforeseen } from './crash.js';
import { logDemand } from './embedded-metrics.js';
import { EXIT } from './failure.js';
import { createLog } from './log.js';
import { endNotice, speedNotice } from './report.js';
import { addSettings } from './settings.js';
import { takeUp } from './take-up.js';
import { protectTask } from './task-protection.js';
import { print } from './terminal.js';

/** `longlive serve`: the whole service in one process, until SIGINT or SIGTERM. */
export function serveCommand(): Command {
  const command = new Command('serve').description('serve the API, GraphiQL and the studio');
  return addSettings(command).action(runServer);
}

async function runServer(flags: Record<string, unknown>): Promise<void> {
  const { config, token } = await withSecrets(loadConfig(process.env, flags));
  checkExposure(config, needsCredential(config) && (await hasKeys(config)));
  const log = createLog(config.logLevel);
  const open: { backend?: ComposedBackend; running?: RunningServer } = {};
  endWhenUnforeseen({
    log,
    notReady: (reason) => open.running?.notReady(reason),
    close: async () => {
      if (open.running) return open.running.close();
      await open.backend?.sessions.shutdown();
      await open.backend?.close();
    },
    seconds: config.shutdownSeconds,
    exitCode: EXIT.bug,
  });
  // The model and the server's modules come at the same time.
  const [backend, { serve }] = await Promise.all([openBackend(config, log), import('../server/index.js')]);
  open.backend = backend;
  try {
    open.running = await serve(config, backend, log);
  } catch (error) {
    await backend.sessions.shutdown();
    await backend.close();
    throw error;
  }
  greet(config.publicUrl ?? open.running.url, open.running, token);
  tell(log, backend);
  const stopping = new AbortController();
  const { running } = open;
  const onUnusable = (reason: string) => running.notReady(reason);
  void takeUp({ ...backend, logger: log, signal: stopping.signal, onUnusable });
  void tellSpeed(config.rehearsalSeconds, backend, log);
  tellAws(config, backend, log, stopping.signal);
  await untilAskedToStop();
  stopping.abort();
  log.info({}, 'stopping: saving checkpoints and pausing live sessions');
  await open.running.close();
  // A request to a store that does not answer would keep the process alive.
  process.exit(EXIT.ok);
}

async function hasKeys(config: ServerConfig): Promise<boolean> {
  const { keys } = await new KeyFile(openConfiguredStore(config)).read();
  return keys.length > 0;
}

/** What is not as one might expect. */
function tell(log: Logger, backend: ComposedBackend): void {
  for (const notice of ignoredVariables()) log.warn({}, notice);
  const [model] = backend.sessions.models();
  if (model?.longestSeconds != null) log.warn({ model: model.name }, endNotice(model));
}

/** What scaling on AWS goes by: how many workers are wanted, and which of them are busy. */
function tellAws(
  { role, cloudwatchNamespace }: ServerConfig,
  { sessions }: ComposedBackend,
  log: Logger,
  signal: AbortSignal,
): void {
  const agent = process.env['ECS_AGENT_URI'];
  if (role === 'api' && cloudwatchNamespace !== undefined) logDemand(sessions, cloudwatchNamespace, log, signal);
  if (role !== 'api' && agent !== undefined) void protectTask({ sessions, agent, log, signal });
}

/** Beside serving: whoever comes meanwhile goes first. */
async function tellSpeed(limitSeconds: number, { sessions }: ComposedBackend, log: Logger): Promise<void> {
  try {
    const rehearsal = await sessions.rehearse(limitSeconds);
    if (!rehearsal) return;
    const { enough, text } = speedNotice(rehearsal);
    const { model, speed, blockMilliseconds } = rehearsal;
    const facts = { model: model.name, speed, blockMilliseconds };
    if (enough) log.info(facts, text);
    else log.warn(facts, text);
  } catch (error) {
    log.warn({ error }, 'could not try how fast the default model runs here');
  }
}

/** How to open the page. The token is written out once, at the start that made it: a log is read by more than its owner. */
function greet(page: string, { url, sessions }: RunningServer, token: KeptSecret | undefined): void {
  const [model] = sessions.models();
  const what = model ? `model ${model.name} on ${model.device}` : 'no model here';
  const lines = [`LongLive is ready at ${url} (${what})`];
  if (token?.made)
    lines.push(`Open ${page}/#token=${token.value}`, `A new token was created and saved in ${token.path}.`);
  else if (token) lines.push(`Open ${page}; the page asks for the token, which is in ${token.path}.`);
  print(`${lines.join('\n')}\n`);
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
