/** Puts the service together: the one place that knows which implementation stands behind which interface. */

import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { BullJobs, LocalCluster, ValkeyCluster, ValkeyMeter } from '../cluster/index.js';
import type { NativeEngine } from '../engine/index.js';
import {
  arithmeticOf,
  chooseDevice,
  defaultCacheDirectory,
  type Device,
  type EngineOptions,
  loadAddon,
  openEngine,
  openOpenH264,
  type Precision,
} from '../engine/index.js';
import { type FetchProgress, isRemote, PackageCache, type PackageSource } from '../packages/index.js';
import { type ClosableMediaFactory, createMediaFactory } from '../media/index.js';
import { ConfigError, environmentName, type ServerConfig } from '../server/config.js';
import type { Backend } from '../server/index.js';
import { patienceOf } from '../server/patience.js';
import {
  type Cluster,
  type EncoderName,
  type Jobs,
  type Logger,
  type Meter,
  type ObjectStore,
  type PictureEncoder,
  type SessionPolicy,
  SessionService,
} from '../sessions/index.js';
import { directoryOf, openStore } from '../storage/index.js';
import { EXIT, Failure } from './failure.js';

export interface Parts {
  /** Absent where nothing is generated. */
  engine?: NativeEngine | undefined;
  store: ObjectStore;
  media: ClosableMediaFactory;
  policy: Partial<SessionPolicy>;
  logger: Logger;
  /** See SessionServiceOptions. */
  deployment?: string | undefined;
  /** None but this server when absent. */
  cluster?: Cluster | undefined;
  /** In this process when absent. */
  jobs?: Jobs | undefined;
  /** Of this server alone when absent. */
  meter?: Meter | undefined;
}

export interface ComposedBackend extends Backend, AsyncDisposable {
  sessions: SessionService;
  close(): Promise<void>;
}

/** A backend over what the configuration names; `takeUp` then looks for unfinished sessions of earlier runs. */
export async function openBackend(config: ServerConfig, logger: Logger): Promise<ComposedBackend> {
  const store = openConfiguredStore(config);
  const warn = (message: string) => logger.warn({}, message);
  const options = { onProgress: reporting(logger), warn };
  const parts = config.role === 'api' ? { media: openMedia(config) } : await openParts(config, options);
  const { deployment } = config;
  return compose({
    ...parts,
    store,
    deployment,
    logger,
    policy: policyOf(config),
    cluster: openCluster(config, logger),
    jobs: config.redis === undefined ? undefined : new BullJobs({ url: config.redis }),
    meter: openMeter(config, logger),
  });
}

function openMeter({ redis, role }: ServerConfig, logger: Logger): Meter | undefined {
  if (redis === undefined || role === 'worker') return undefined;
  const onTrouble = (error: unknown) => {
    if (error === undefined) logger.info({}, 'What callers use is counted by all servers together again');
    else logger.warn({ error }, 'Redis does not count what callers use; each server counts for itself until it does');
  };
  return new ValkeyMeter({ url: redis, onTrouble });
}

function openCluster({ redis }: ServerConfig, logger: Logger): Cluster | undefined {
  if (redis === undefined) return undefined;
  const onTrouble = (trouble: string | undefined, error?: unknown) => {
    if (trouble === undefined) logger.info({}, 'Redis answers');
    else logger.error({ error }, `${trouble} Sessions go on; commands to other servers do not arrive until it does`);
  };
  return new ValkeyCluster({ url: redis, onTrouble });
}

/** The engine with its default model loaded, and beside that an encoder made ready. */
export async function openParts(
  config: ServerConfig,
  options: Pick<EngineOptions, 'onProgress' | 'warn'> = {},
): Promise<{ engine: NativeEngine; media: ClosableMediaFactory }> {
  const media = openMedia(config);
  media.warmUp();
  try {
    return { media, engine: await openEngine({ ...engineOptions(config), ...options }) };
  } catch (error) {
    await media.close();
    throw error;
  }
}

/** With OpenH264 where it is: sessions that began with it go on with it, whichever new ones are encoded with. */
function openMedia({ encoder, encoderThreads, maxMegabits }: ServerConfig): ClosableMediaFactory {
  return createMediaFactory({
    ...{ encoder, natives: nativeEncoders(encoder, encoderThreads) },
    ...{ threads: encoderThreads, maxBitsPerSecond: maxMegabits * 1e6 },
  });
}

/** Throws ConfigError where the one that was asked for is not here. */
function nativeEncoders(wanted: EncoderName, threads: number): PictureEncoder[] {
  try {
    return [openOpenH264(loadAddon(), threads)];
  } catch (error) {
    if (wanted !== 'openh264') return [];
    const message = error instanceof Error ? error.message : String(error);
    throw new ConfigError(`encoder (${environmentName('encoder')}): ${message}; or choose minih264, which is built in`);
  }
}

export function compose({
  engine,
  store,
  media,
  policy,
  logger,
  deployment,
  cluster = new LocalCluster(),
  jobs,
  meter,
}: Parts): ComposedBackend {
  const sessions = new SessionService({ engine, media, store, cluster, jobs, policy, logger, deployment });
  const close = async () => {
    meter?.close();
    await media.close();
    await engine?.close();
  };
  return { sessions, store, ...(meter && { meter }), close, [Symbol.asyncDispose]: close };
}

export function engineOptions(config: ServerConfig): EngineOptions {
  const {
    models,
    model,
    loras,
    device,
    deviceIndex,
    precision,
    attention,
    decoder,
    rope,
    threads,
    modelMemoryGigabytes,
  } = config;
  return {
    ...{ model, device, deviceIndex, precision, attention, decoder, rope, threads },
    models: models.map((place) => (isRemote(place) ? place : resolve(place))),
    ...(loras !== undefined && { loras: resolve(loras) }),
    ...(modelMemoryGigabytes > 0 && { modelMemoryBytes: modelMemoryGigabytes * 1e9 }),
    cache: modelCache(config),
    openStore: storeOpener(config),
  };
}

/** What a package would be calculated with here. */
export function runningPrecision(source: PackageSource, { device, deviceIndex, precision }: ServerConfig): Precision {
  return arithmeticOf(precision, source.storedPrecision, likelyDevice(device, deviceIndex));
}

/** Where there is no native core there is no GPU either. */
function likelyDevice(wanted: ServerConfig['device'], index: number): Device {
  try {
    return chooseDevice(loadAddon().devices(), wanted, index);
  } catch {
    return wanted === 'auto' ? 'cpu' : wanted;
  }
}

export function modelCache({ modelCache, modelCacheGigabytes }: ServerConfig): PackageCache {
  const directory = modelCache === undefined ? defaultCacheDirectory() : resolve(modelCache);
  return new PackageCache({ directory, limitBytes: modelCacheGigabytes * 1e9 });
}

/** Buckets with model packages are reached like the one with sessions. */
export function storeOpener({ s3Endpoint, s3Region }: ServerConfig): (url: string) => ObjectStore {
  return (url) => openStore(url, { endpoint: s3Endpoint, region: s3Region });
}

/** A line for every tenth of a package that was fetched. */
function reporting(logger: Logger): (progress: FetchProgress) => void {
  const told = new Map<string, number>();
  return ({ name, fetchedBytes, totalBytes }) => {
    const tenths = Math.floor((10 * fetchedBytes) / totalBytes);
    if (told.get(name) === tenths) return;
    told.set(name, tenths);
    logger.info({ model: name, fetchedBytes, totalBytes }, 'fetching a model package');
  };
}

export function openConfiguredStore({ store, ...config }: ServerConfig): ObjectStore {
  const options = {
    ...{ endpoint: config.s3Endpoint, publicEndpoint: config.s3PublicEndpoint, region: config.s3Region },
    requestTimeoutMs: patienceOf(config).attemptSeconds * 1000,
  };
  try {
    return openStore(storeUrl(store), options);
  } catch (error) {
    throw new ConfigError(
      `store (${environmentName('store')}): ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

/** For commands that begin none: what is not there is not an empty one. */
export function openExistingStore(config: ServerConfig): ObjectStore {
  const store = openConfiguredStore(config);
  const directory = directoryOf(storeUrl(config.store));
  if (directory === undefined || existsSync(directory)) return store;
  throw new Failure(
    EXIT.storage,
    `There is no store at ${directory}. Check the path in --store (${environmentName('store')}), and that its volume is mounted.`,
  );
}

/** A plain path is a directory on this machine. */
export function storeUrl(store: string): string {
  return /^[a-z][a-z0-9+.-]+:/i.test(store) ? store : pathToFileURL(resolve(store)).href;
}

function policyOf(config: ServerConfig): Partial<SessionPolicy> {
  const { leadSeconds, idleSeconds, heartbeatSeconds, maxSeconds, maxSessions } = config;
  const { pausedInMemory, leaseSeconds, pollSeconds, keptCheckpoints, exportsAtOnce, maxPendingPrompts } = config;
  const { answerSeconds, storeRetrySeconds, storeFarewellSeconds } = patienceOf(config);
  const { abandonedSeconds, maxQueued, tenantSessions, tenantFastest } = config;
  const { keepDays, keepGigabytes } = config;
  return {
    ...{ answerSeconds, storeRetrySeconds, storeFarewellSeconds, abandonedSeconds },
    ...{ leadSeconds, idleSeconds, heartbeatSeconds, maxSeconds, maxSessions, maxQueued },
    ...{ pausedInMemory, leaseSeconds, pollSeconds, keptCheckpoints, exportsAtOnce, maxPendingPrompts },
    ...{ keepDays, keepGigabytes, tenantSessions, tenantFastest },
  };
}
