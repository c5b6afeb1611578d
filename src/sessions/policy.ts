import type { Clock, Cluster, Engine, Jobs, MediaFactory, ObjectStore } from './ports.js';

/** The numbers the service runs by. */
export interface SessionPolicy {
  /** REALTIME generation stays at most this far ahead of playback. */
  leadSeconds: number;
  /** A session that nobody watched for so long is paused, unless it is FASTEST and has an end; 0 never pauses. */
  idleSeconds: number;
  /** Paused sessions that keep their place and memory for `idleSeconds`, so that they go on at once; others free both. */
  pausedInMemory: number;
  /** An idle subscription gets a Heartbeat this often. */
  heartbeatSeconds: number;
  /** A checkpoint every so many blocks, and whenever a session pauses. */
  checkpointBlocks: number;
  /** Checkpoints that stay of a session, at least 1: the newest, and others that lie evenly between its beginning and them. */
  keptCheckpoints: number;
  /** Exports that are made at once; the others wait. */
  exportsAtOnce: number;
  /** Finished sessions are deleted after so many days; 0 keeps them. */
  keepDays: number;
  /** The oldest finished sessions are deleted while all need more than this; 0 for no bound. */
  keepGigabytes: number;
  /** Upper bound for `maxSeconds`, and what a session without one gets; 0 lets sessions be endless. */
  maxSeconds: number;
  /** Sessions in device memory on this server, whatever their pace. */
  maxSessions: number;
  /** Sessions that one tenant may have running at all servers together; 0 for no bound. */
  tenantSessions: number;
  /** The same of the pace FASTEST. */
  tenantFastest: number;
  /** Sessions that may wait for room, of all servers together; 0 lets none wait. */
  maxQueued: number;
  /** Maximum number of waiting prompts per session. */
  maxPendingPrompts: number;
  /** Share of a device that REALTIME sessions may plan on. */
  maxLoad: number;
  /** A session that was paused for so long, and that nobody watches, is stopped; 0 never stops one. */
  abandonedSeconds: number;
  /** How long a request waits for a store that does not answer; less than the server waits for the request. */
  answerSeconds: number;
  /** How long a failing store is retried before the session is paused with STORAGE. */
  storeRetrySeconds: number;
  /** The same while the server shuts down, all in all. */
  storeFarewellSeconds: number;
  /** A server that gave no sign of life for so long has lost its sessions. */
  leaseSeconds: number;
  /** How often a stream of a session that another server owns looks for more in the store. */
  pollSeconds: number;
  /** Bounds of the recent events kept in memory per session. */
  ringEvents: number;
  ringBytes: number;
}

export const DEFAULT_POLICY: SessionPolicy = {
  leadSeconds: 2,
  idleSeconds: 60,
  pausedInMemory: 2,
  heartbeatSeconds: 10,
  checkpointBlocks: 8,
  keptCheckpoints: 20,
  exportsAtOnce: 1,
  keepDays: 0,
  keepGigabytes: 0,
  maxSeconds: 0,
  maxSessions: 16,
  tenantSessions: 0,
  tenantFastest: 0,
  maxQueued: 100,
  maxPendingPrompts: 64,
  maxLoad: 0.9,
  abandonedSeconds: 7 * 86_400,
  answerSeconds: 24,
  storeRetrySeconds: 60,
  storeFarewellSeconds: 5,
  leaseSeconds: 10,
  pollSeconds: 1,
  ringEvents: 64,
  ringBytes: 16 * 1024 * 1024,
};

/** What the service reports about itself, which is not a session's log; pino fits. */
export interface Logger {
  debug(details: object, message: string): void;
  info(details: object, message: string): void;
  warn(details: object, message: string): void;
  error(details: object, message: string): void;
}

export const SILENT: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

export interface SessionServiceOptions {
  /** Absent at a server that generates nothing: others on its cluster do. */
  engine?: Engine | undefined;
  media: MediaFactory;
  store: ObjectStore;
  cluster: Cluster;
  /** Of the store, as its first server logged it; another one is refused. */
  deployment?: string | undefined;
  /** In this process when absent. */
  jobs?: Jobs | undefined;
  clock?: Clock;
  logger?: Logger;
  policy?: Partial<SessionPolicy>;
}
