import { availableParallelism } from 'node:os';
import proxyAddress from 'proxy-addr';
import { z } from 'zod';

/** What the reference says of a setting beside its description; `shown` stands for a default that is not a constant. */
export type SettingFacts = { unit?: string; shown?: string };

const unit = (name: string): SettingFacts => ({ unit: name });
const seconds = (fallback: number) => z.coerce.number().min(0).max(86_400).default(fallback).meta(unit('seconds'));
/** A limit of time that cannot be switched off: 0 would be none. */
const limitSeconds = (fallback: number) =>
  z.coerce.number().min(0.1).max(86_400).default(fallback).meta(unit('seconds'));
const count = (fallback: number) => z.coerce.number().int().min(1).default(fallback);
const bytes = (fallback: number) => count(fallback).meta(unit('bytes'));
const gigabytes = (fallback: number) => z.coerce.number().min(0).max(1e6).default(fallback).meta(unit('GB'));
const yesOrNo = (fallback: boolean) => z.stringbool().or(z.boolean()).default(fallback);
const list = z.string().transform((text) =>
  text
    .split(',')
    .map((part) => part.trim())
    .filter(Boolean),
);
const text = z.string().trim().min(1).optional();

const network = {
  host: z
    .string()
    .default('127.0.0.1')
    .describe('Address to listen on; another than a loopback one needs a token, or --open'),
  port: z.coerce.number().int().min(0).max(65_535).default(4000).describe('Port to listen on; 0 picks one'),
  open: yesOrNo(false).describe('Serve without a token also on addresses that others reach'),
  publicUrl: z.url().optional().describe('Address that clients use, put before media URLs; relative URLs when absent'),
  hosts: list
    .default([])
    .describe(
      'Host names that are answered where no token is asked for, comma-separated, besides loopback and that of the public URL; * for all',
    ),
  corsOrigins: list.default([]).describe('Origins of other sites that may call, comma-separated; * for all'),
  trustedProxies: list
    .default([])
    .refine(areAddresses, 'must be addresses, networks such as 10.0.0.0/8, or loopback, linklocal, uniquelocal')
    .describe('Proxies whose X-Forwarded-For is believed, comma-separated addresses and networks'),
};

const secrets = {
  token: text.describe('Bearer token that /graphql and /metrics ask for; none is asked for when absent'),
  signingKey: z
    .string()
    .min(16)
    .optional()
    .describe(
      'Secret that signs media URLs; share it between replicas. Random per start when absent, which S3 and Redis do not allow',
    ),
  secrets: text.describe(
    'Directory for a token and a signing key that are made at the first start; used for what is not set',
  ),
  mediaUrlSeconds: seconds(4 * 3600).describe('How long a media URL works at least'),
};

const storage = {
  store: z.string().default('./data').describe('Where sessions are kept: a directory, file://… or s3://bucket/prefix'),
  s3Endpoint: z.url().optional().describe('Endpoint of an S3-compatible store; AWS when absent'),
  s3PublicEndpoint: z.url().optional().describe('Where clients reach that store, when not at its endpoint'),
  s3Region: text.describe('Region of the bucket'),
  redis: z
    .undefined({ error: 'several servers on one Redis are not supported yet; leave it out and run one server' })
    .optional()
    .describe('Not supported yet: refused'),
  storeRetrySeconds: limitSeconds(60).describe(
    'How long a session waits for a store that fails before it is paused; requests wait less, see requestSeconds',
  ),
};

const models = {
  models: list
    .default(['./models'])
    .describe(
      'Model packages, comma-separated: directories of them or single ones, s3://bucket/prefix/, https://host/path/',
    ),
  model: text.describe('Default model package; pocket, or the first one found, when absent'),
  loras: text.describe('Directory with LoRA adapters that sessions may choose; none when absent'),
  modelCache: text.describe('Directory for fetched packages and merged adapters; in the user cache when absent'),
  modelCacheGigabytes: gigabytes(100).describe('Disk space for these; the least recently used ones go'),
  modelMemoryGigabytes: gigabytes(0).describe('Device memory for loaded models; 0 for 60 % of what there is'),
  device: z.enum(['auto', 'cpu', 'cuda']).default('auto').describe('Where models run'),
  precision: z
    .enum(['auto', 'fp32', 'bf16', 'int8', 'fp8'])
    .default('auto')
    .describe('Arithmetic of the model; fp8 on GPUs that have it'),
  attention: z
    .enum(['full', 'int8'])
    .default('full')
    .describe('Arithmetic of self-attention: that of the model, or on a GPU 8-bit products'),
  decoder: z.enum(['auto', 'full', 'tiny']).default('auto').describe('Video decoder of the model'),
  rope: z
    .enum(['package', 'absolute', 'relative'])
    .default('package')
    .describe('Positions of frames: as the package says; with relative ones a video never has to end'),
  threads: z.coerce.number().int().min(0).max(1024).default(0).describe('CPU threads for the model; 0 for all'),
  encoderThreads: count(Math.max(1, Math.floor(availableParallelism() / 4)))
    .meta({ shown: 'a quarter of the cores' } satisfies SettingFacts)
    .describe('Workers that encode video'),
  encoder: z
    .enum(['minih264', 'openh264'])
    .default('minih264')
    .describe(
      'What encodes new sessions: minih264 needs nothing, openh264 a library (Debian: libopenh264-7) and is faster',
    ),
  maxMegabits: z.coerce
    .number()
    .min(0.05)
    .max(240)
    .default(8)
    .meta(unit('Mbit/s'))
    .describe("Ceiling of a chunk's bits over its length; one that needs more is encoded again, coarser"),
};

const sessions = {
  leadSeconds: seconds(2).describe('How far REALTIME generation may run ahead of playback'),
  idleSeconds: seconds(60).describe(
    'A session nobody watches is paused after this, unless it is FASTEST and has an end; 0 for never',
  ),
  pausedInMemory: z.coerce
    .number()
    .int()
    .min(0)
    .default(2)
    .describe('Paused sessions that keep their place and device memory for idleSeconds, so that they go on at once'),
  leaseSeconds: z.coerce
    .number()
    .min(3)
    .max(600)
    .default(10)
    .meta(unit('seconds'))
    .describe('A server that gave no sign of life for so long has lost its sessions to others on the same store'),
  pollSeconds: z.coerce
    .number()
    .min(0.1)
    .max(60)
    .default(1)
    .meta(unit('seconds'))
    .describe("How often a stream of another server's session looks for more in the store"),
  abandonedSeconds: z.coerce
    .number()
    .min(0)
    .default(7 * 86_400)
    .meta(unit('seconds'))
    .describe('A session that was paused for so long, and that nobody watches, is stopped and finished; 0 for never'),
  heartbeatSeconds: z.coerce
    .number()
    .min(0.1)
    .max(60)
    .default(10)
    .meta(unit('seconds'))
    .describe('How often an idle stream says that it lives'),
  maxSeconds: z.coerce.number().min(0).default(0).meta(unit('seconds')).describe('Longest session; 0 for endless'),
  maxSessions: count(16).describe('Sessions in memory at once'),
  keptCheckpoints: count(20).describe(
    'Checkpoints that stay of a session: the newest ones and others evenly before them',
  ),
  keepDays: z.coerce
    .number()
    .min(0)
    .default(0)
    .meta(unit('days'))
    .describe('Finished sessions are deleted after this; 0 keeps them'),
  keepGigabytes: gigabytes(0).describe('The oldest finished sessions are deleted while all need more; 0 for no bound'),
  exportsAtOnce: count(1).describe('Exports that are made at once; others wait'),
  maxPendingPrompts: count(64).describe('Prompts of one session that may wait for its next block'),
  maxSubscribers: count(64).describe('Streams per session'),
  mediaCacheMegabytes: count(64).meta(unit('MB')).describe('Memory for recent chunks'),
};

const operations = {
  maxBodyBytes: bytes(256 * 1024).describe('Largest request body and WebSocket message'),
  maxDocumentBytes: bytes(64 * 1024).describe('Longest text of an operation; variables count as part of the body only'),
  maxTokens: count(1000).describe('Tokens of an operation'),
  maxDepth: count(12).describe('Depth of an operation'),
  maxAliases: count(15).describe('Aliases in an operation'),
  maxCost: count(5000).describe('Fields of an answer at most: those under a list count per item; see docs/protocol.md'),
  requestSeconds: seconds(30).describe(
    'Longest request, streams aside; after 80 % of it one that waits for the store is answered STORAGE',
  ),
};

const connections = {
  maxConnections: count(4096).describe(
    'Connections at once, less where the process may open fewer files; beyond it the one that idles longest is closed',
  ),
  maxPipelined: count(16).describe('Requests of one HTTP connection at once'),
  maxHeaderBytes: bytes(16 * 1024).describe('Largest request line and headers'),
  headerSeconds: limitSeconds(10).describe('Time for the headers of a request, from the first moment of a connection'),
  bodySeconds: limitSeconds(15).describe('Time for a request to arrive, body included'),
  keepAliveSeconds: limitSeconds(15).describe(
    'How long an idle HTTP connection is kept; behind a balancer, longer than its own idle time',
  ),
  stallSeconds: z.coerce
    .number()
    .min(1)
    .default(60)
    .meta(unit('seconds'))
    .describe('A connection whose client takes nothing of what it is sent for so long is closed'),
  loginSeconds: limitSeconds(10).describe('Time for a WebSocket to send connection_init'),
  maxLoginBytes: bytes(16 * 1024).describe('Largest WebSocket message before the login'),
  maxSocketsBeforeLogin: count(32).describe('WebSockets of one address that have not logged in'),
  maxOperations: count(32).describe('Operations of one WebSocket at once'),
  maxUnsentBytes: bytes(2 ** 20).describe(
    'What a WebSocket may leave unread beyond one event per running operation before it is closed',
  ),
  readySeconds: seconds(5).describe('How long an answer of the store to /readyz holds'),
  shutdownSeconds: limitSeconds(25).describe(
    'Time to write checkpoints and end streams when asked to stop; the process leaves then, whatever hangs',
  ),
};

const pages = {
  studio: text.describe('Directory of the built viewer; found by itself when absent'),
  graphiql: z
    .stringbool()
    .or(z.boolean())
    .optional()
    .meta({ shown: 'without a token yes, else to who has it' } satisfies SettingFacts)
    .describe('Serve GraphiQL to browsers on /graphql; yes serves the page, not the data, to everybody'),
  logLevel: z
    .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
    .default('info')
    .describe('Least log level'),
};

/** The settings by heading, as the reference page has them. */
export const settingGroups = {
  Network: network,
  Secrets: secrets,
  Storage: storage,
  Models: models,
  Sessions: sessions,
  Operations: operations,
  Connections: connections,
  'Pages and log': pages,
};

/** Every setting, its meaning and its default. `LONGLIVE_MAX_SESSIONS` and `--max-sessions` set `maxSessions`. */
export const configSchema = z.strictObject({
  ...network,
  ...secrets,
  ...storage,
  ...models,
  ...sessions,
  ...operations,
  ...connections,
  ...pages,
});

export type ServerConfig = z.output<typeof configSchema>;
export type ServerSettings = z.input<typeof configSchema>;

/** A setting that cannot be used; the message names it and says what it must be. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

export function environmentName(setting: string): string {
  return `LONGLIVE_${setting.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}

/** Settings from flags, else from the environment (`PORT` and `HOST` also without prefix), else defaults. */
export function loadConfig(
  environment: NodeJS.ProcessEnv = process.env,
  flags: Partial<Record<string, unknown>> = {},
): ServerConfig {
  const given: Record<string, unknown> = {};
  for (const setting of Object.keys(configSchema.shape)) {
    const value = flags[setting] ?? fromEnvironment(environment, setting);
    if (value !== undefined && value !== '') given[setting] = value;
  }
  const parsed = configSchema.safeParse(given);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(
    ({ path, message }) => `${String(path[0])} (${environmentName(String(path[0]))}): ${message}`,
  );
  throw new ConfigError(`Settings that cannot be used:\n  ${problems.join('\n  ')}`);
}

function fromEnvironment(environment: NodeJS.ProcessEnv, setting: string): string | undefined {
  const plain = setting === 'port' || setting === 'host' ? environment[setting.toUpperCase()] : undefined;
  const own = environmentName(setting);
  return (isServiceLink(own, environment[own]) ? undefined : environment[own]) ?? plain;
}

/** What Kubernetes sets for a service that is called longlive (`LONGLIVE_PORT=tcp://10.0.0.1:4000`). */
function isServiceLink(name: string, value: string | undefined): boolean {
  return name === environmentName('port') && /^(?:tcp|udp|sctp):\/\//.test(value ?? '');
}

/** Variables that look like settings and are not taken for them, a sentence each. */
export function ignoredVariables(environment: NodeJS.ProcessEnv = process.env): string[] {
  return Object.entries(environment)
    .filter(([name, value]) => isServiceLink(name, value))
    .map(
      ([name, value]) =>
        `${name}=${value} is ignored: it is Kubernetes' address of a service, not a port. PORT or --port sets the port.`,
    );
}

function areAddresses(addresses: string[]): boolean {
  try {
    proxyAddress.compile(addresses);
    return true;
  } catch {
    return false;
  }
}
