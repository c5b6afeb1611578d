/** Puts the service together: the one place that knows which implementation stands behind which interface. */

import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { LocalCluster } from '../cluster/index.js';
import type { NativeEngine } from '../engine/index.js';
import { type EngineOptions, openEngine } from '../engine/index.js';
import { createMediaFactory } from '../media/index.js';
import { type Backend, ConfigError, environmentName, type ServerConfig } from '../server/index.js';
import { type Logger, type ObjectStore, type SessionPolicy, SessionService } from '../sessions/index.js';
import { openStore } from '../storage/index.js';

export interface Parts {
  engine: NativeEngine;
  store: ObjectStore;
  encoderThreads: number;
  policy: Partial<SessionPolicy>;
  logger: Logger;
}

export interface ComposedBackend extends Backend {
  sessions: SessionService;
  close(): Promise<void>;
}

/** A backend over what the configuration names; unfinished sessions of earlier runs are taken over. */
export async function openBackend(config: ServerConfig, logger: Logger): Promise<ComposedBackend> {
  const store = openConfiguredStore(config);
  const engine = await openEngine(engineOptions(config));
  for (const { message } of engine.problems) logger.warn({}, message);
  const backend = compose({ engine, store, logger, encoderThreads: config.encoderThreads, policy: policyOf(config) });
  try {
    await backend.sessions.start();
    return backend;
  } catch (error) {
    await backend.close();
    throw error;
  }
}

export function compose({ engine, store, encoderThreads, policy, logger }: Parts): ComposedBackend {
  const media = createMediaFactory({ workers: encoderThreads });
  const sessions = new SessionService({ engine, media, store, cluster: new LocalCluster(), policy, logger });
  return {
    sessions,
    store,
    close: async () => {
      await media.close();
      await engine.close();
    },
  };
}

export function engineOptions(config: ServerConfig): EngineOptions {
  const { models, model, device, precision, decoder, threads } = config;
  return { models: resolve(models), model, device, precision, decoder, threads };
}

export function openConfiguredStore({ store, ...config }: ServerConfig): ObjectStore {
  const options = { endpoint: config.s3Endpoint, publicEndpoint: config.s3PublicEndpoint, region: config.s3Region };
  try {
    return openStore(storeUrl(store), options);
  } catch (error) {
    throw new ConfigError(
      `store (${environmentName('store')}): ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

/** A plain path is a directory on this machine. */
export function storeUrl(store: string): string {
  return /^[a-z][a-z0-9+.-]+:/i.test(store) ? store : pathToFileURL(resolve(store)).href;
}

function policyOf(config: ServerConfig): Partial<SessionPolicy> {
  const { leadSeconds, idleSeconds, heartbeatSeconds, maxSeconds, maxSessions } = config;
  return { leadSeconds, idleSeconds, heartbeatSeconds, maxSeconds, maxSessions };
}
