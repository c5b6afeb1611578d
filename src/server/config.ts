import { availableParallelism } from 'node:os';
import proxyAddress from 'proxy-addr';
import { z } from 'zod';
import { listedHost, listedOrigin, webAddress } from './addresses.js';
import { issuerSettings } from './credentials/issuer-settings.js';
import { limitSettings } from './limit-settings.js';
import { promptSettings } from './prompt-settings.js';

/** What the reference says of a setting beside its description; `shown` stands for a default that is not a constant. */
export type SettingFacts = { unit?: string; shown?: string };

const unit = (name: string): SettingFacts => ({ unit: name });
const seconds = (fallback: number) => z.coerce.number().min(0).max(86_400).default(fallback).meta(unit('seconds'));
/** A limit of time that cannot be switched off: 0 would be none. */
const limitSeconds = (fallback: number) =>
  z.coerce.number().min(0.1).max(86_400).default(fallback).meta(unit('seconds'));
/** A hundred years: what is meant is never. */
const LONGEST_SECONDS = 36_500 * 86_400;
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

/** What the header `Authorization` can carry. */
export const TOKEN = /^[\x21-\x7e]+$/;
const LEAST_SECRET = 16;
/** Blanks do not count: they are no secret. */
export const isSecret = (text: string): boolean => text.replace(/\s/g, '').length >= LEAST_SECRET;

type Parse = (text: string) => string | undefined;

/** A value as `parse` makes it, or the refusal with what to write instead. */
const parsed = (parse: Parse, what: string, instead: (text: string) => string) =>
  z.transform((given: string, { issues }) => {
    const value = parse(given);
    if (value !== undefined) return value;
    issues.push({ code: 'custom', input: given, message: `must be ${what}; write ${instead(given)}` });
    return z.NEVER;
  });
/** The given text with the scheme that it lacks, where that is all that it lacks. */
const withScheme = (parse: Parse) => (given: string) => {
  const guesses =
    given === 'null' || given.includes('//') ? [] : ['http', 'https'].map((scheme) => parse(`${scheme}://${given}`));
  return guesses.filter(Boolean).join(' or ') || 'https://video.example';
};
const webUrl = () =>
  z
    .string()
    .trim()
    .pipe(parsed(webAddress, 'http://… or https://…, without user, query and fragment', withScheme(webAddress)))
    .optional();
const listOf = (parse: Parse, what: string, instead: (text: string) => string) =>
  list
    .pipe(
      z.array(
        parsed(
          (given) => (given === '*' ? given : parse(given)),
          what,
          (given) => `${instead(given)} instead of "${given}"`,
        ),
      ),
    )
    .default([]);

const network = {
  host: z
    .string()
    .default('127.0.0.1')
    .describe(
      'Address to listen on; any but a loopback address needs a credential (token, API key, identity provider) or --open',
    ),
  port: z.coerce.number().int().min(0).max(65_535).default(4000).describe('Port to listen on; 0 picks one'),
  open: yesOrNo(false).describe('Serve without a token, even on addresses that other machines can reach'),
  publicUrl: webUrl().describe('Base address of the service for clients, used in media URLs; relative URLs if not set'),
  hosts: listOf(listedHost, 'host names or addresses alone', () => 'video.example or [2001:db8::7]').describe(
    "Host names to accept when there is no token, comma-separated, besides loopback and the public URL's; * for all",
  ),
  corsOrigins: listOf(listedOrigin, 'origins without a path, and not null', withScheme(listedOrigin)).describe(
    'Origins of other sites that may call the API, comma-separated; * for all',
  ),
  trustedProxies: list
    .default([])
    .refine(areAddresses, 'must be addresses, networks such as 10.0.0.0/8, or loopback, linklocal, uniquelocal')
    .describe('Proxies whose X-Forwarded-For is trusted: addresses and networks, comma-separated'),
};

const secrets = {
  token: text
    .refine((token) => token === undefined || TOKEN.test(token), {
      error: 'must be printable ASCII without blanks, which is what a header can carry; longlive secrets makes one',
    })
    .describe('Bearer token required by /graphql and /metrics; none is required if not set'),
  signingKey: z
    .string()
    .refine(isSecret, { error: 'must have at least 16 characters, blanks not counted; longlive secrets makes one' })
    .optional()
    .describe(
      'Secret that signs media URLs, shared by all servers; random per start if not set, which is refused with S3 or Redis',
    ),
  secrets: text.describe(
    'Directory for a token and a signing key, created at the first start; used unless set directly',
  ),
  mediaUrlSeconds: seconds(4 * 3600).describe('Minimum lifetime of a media URL'),
};

const storage = {
  store: z.string().default('./data').describe('Where sessions are kept: a directory, file://… or s3://bucket/prefix'),
  deployment: z
    .string()
    .regex(/^[\w-]{16}$/, 'must be the 16 characters that the first start logged as deployment')
    .optional()
    .describe(
      'Deployment id that the first start with the store logged; a store that is empty or has another id is refused, for example when a volume is not mounted',
    ),
  s3Endpoint: webUrl().describe('Endpoint of an S3-compatible store; AWS if not set'),
  s3PublicEndpoint: webUrl().describe('Address at which clients reach that store, if not its endpoint'),
  s3Region: text.describe('Region of the bucket'),
  redis: z
    .url({
      protocol: /^rediss?$/,
      error: 'must be an address such as redis://host:6379 or rediss://user:password@host',
    })
    .optional()
    .describe(
      'Valkey or Redis that connects the servers of one store; if not set, this server runs alone. See docs/operations.md',
    ),
  role: z
    .enum(['all', 'api', 'worker'])
    .default('all')
    .describe('What this server does: api serves clients, worker generates, all does both; api and worker need redis'),
  storeRetrySeconds: limitSeconds(60).describe(
    'How long a session waits for a failing store before it is paused; requests wait less, see requestSeconds',
  ),
};

const models = {
  models: list
    .default(['./models'])
    .describe(
      'Model packages, comma-separated: directories of them or single ones, s3://bucket/prefix/, https://host/path/',
    ),
  model: text.describe('Default model package; pocket, or else the first one found, if not set'),
  loras: text.describe('Directory of LoRA adapters that sessions may choose; none if not set'),
  modelCache: text.describe(
    "Directory for downloaded packages and merged adapters; in the user's cache directory if not set",
  ),
  modelCacheGigabytes: gigabytes(100).describe(
    'Disk space for the model cache; least recently used entries are removed',
  ),
  modelMemoryGigabytes: gigabytes(0).describe("Device memory for loaded models; 0 for 60 % of the device's memory"),
  device: z.enum(['auto', 'cpu', 'cuda']).default('auto').describe('Where models run'),
  deviceIndex: z.coerce.number().int().min(0).max(1023).default(0).describe('Index of the GPU to use, from 0'),
  precision: z
    .enum(['auto', 'fp32', 'bf16', 'int8', 'fp8'])
    .default('auto')
    .describe('Arithmetic of the model; fp8 on GPUs that have it'),
  attention: z
    .enum(['full', 'int8'])
    .default('full')
    .describe("Arithmetic of self-attention: the model's, or 8-bit products on a GPU"),
  decoder: z.enum(['auto', 'full', 'tiny']).default('auto').describe('Video decoder of the model'),
  rope: z
    .enum(['package', 'absolute', 'relative'])
    .default('package')
    .describe('Frame positions: as in the package, or relative, which allows endless videos'),
  threads: z.coerce.number().int().min(0).max(1024).default(0).describe('CPU threads for the model; 0 for all'),
  rehearsalSeconds: seconds(5).describe(
    'How long the start and doctor measure the speed of the default model; 0 to skip it',
  ),
  encoderThreads: count(Math.max(1, Math.floor(availableParallelism() / 4)))
    .meta({ shown: 'a quarter of the cores' } satisfies SettingFacts)
    .describe('Number of threads that encode video'),
  encoder: z
    .enum(['minih264', 'openh264'])
    .default('minih264')
    .describe(
      'Video encoder of new sessions: minih264 is built in; openh264 is faster and needs a library (Debian: libopenh264-7)',
    ),
  maxMegabits: z.coerce
    .number()
    .min(0.05)
    .max(240)
    .default(8)
    .meta(unit('Mbit/s'))
    .describe('Maximum bit rate of a chunk; a chunk above it is encoded again with coarser quantization'),
};

const sessions = {
  leadSeconds: seconds(2).describe('How far REALTIME generation runs ahead of playback'),
  idleSeconds: seconds(60).describe(
    'A session without viewers is paused after this time, unless it is FASTEST and has an end; 0 for never',
  ),
  pausedInMemory: z.coerce
    .number()
    .int()
    .min(0)
    .default(2)
    .describe('Number of paused sessions that keep their device memory for idleSeconds, so that they resume at once'),
  leaseSeconds: z.coerce
    .number()
    .min(3)
    .max(600)
    .default(10)
    .meta(unit('seconds'))
    .describe('A server silent for this long loses its sessions to other servers on the same store'),
  pollSeconds: z.coerce
    .number()
    .min(0.1)
    .max(60)
    .default(1)
    .meta(unit('seconds'))
    .describe("How often the store is polled for a stream of another server's session"),
  abandonedSeconds: z.coerce
    .number()
    .min(0)
    .max(LONGEST_SECONDS)
    .default(7 * 86_400)
    .meta(unit('seconds'))
    .describe('A session paused for this long without viewers is stopped and completed; 0 for never'),
  heartbeatSeconds: z.coerce
    .number()
    .min(0.1)
    .max(60)
    .default(10)
    .meta(unit('seconds'))
    .describe('Interval of heartbeats on an idle stream'),
  maxSeconds: z.coerce
    .number()
    .min(0)
    .max(LONGEST_SECONDS)
    .default(0)
    .meta(unit('seconds'))
    .describe('Maximum length of a session; 0 for endless'),
  maxSessions: count(16).describe('Maximum number of sessions in memory'),
  keptCheckpoints: count(20).describe('Checkpoints kept per session: the newest, and others spread evenly before them'),
  keepDays: z.coerce
    .number()
    .min(0)
    .max(36_500)
    .default(0)
    .meta(unit('days'))
    .describe('Finished sessions are deleted after this time; 0 keeps them'),
  keepGigabytes: gigabytes(0).describe(
    'The oldest finished sessions are deleted while the total is larger; 0 for no limit',
  ),
  exportsAtOnce: count(1).describe('Maximum number of exports at the same time; others wait'),
  maxQueued: z.coerce
    .number()
    .int()
    .min(0)
    .max(100_000)
    .default(100)
    .describe('Maximum number of sessions waiting in line, on all servers together; 0 turns the line off'),
  maxPendingPrompts: count(64).describe('Maximum number of waiting prompts per session'),
  maxSubscribers: count(64).describe('Maximum number of streams per session'),
  mediaCacheMegabytes: count(64).meta(unit('MB')).describe('Memory for recent chunks'),
};

const operations = {
  maxBodyBytes: bytes(256 * 1024).describe('Maximum size of a request body or WebSocket message'),
  maxDocumentBytes: bytes(64 * 1024).describe(
    "Maximum length of an operation's text; variables count only towards the body",
  ),
  maxTokens: count(1000).describe('Maximum number of tokens in an operation'),
  maxDepth: count(12).describe('Maximum depth of an operation'),
  maxAliases: count(15).describe('Maximum number of aliases in an operation'),
  maxCost: count(5000).describe(
    'Maximum number of fields in an answer; fields under a list count once per item, see docs/protocol.md',
  ),
  maxAnswerBytes: bytes(2 * 2 ** 20).describe(
    'Maximum size of an answer, or of an event of a stream without its media; larger ones are refused',
  ),
  requestSeconds: seconds(30).describe(
    'Time limit of a request, streams excluded; one still waiting for the store after 80 % of it is answered STORAGE',
  ),
};

const connections = {
  maxConnections: count(4096).describe(
    'Maximum number of connections (fewer if the open-files limit is lower); beyond it the longest idle one is closed',
  ),
  maxPipelined: count(16).describe(
    'Maximum number of waiting requests per HTTP connection; they are served one after the other',
  ),
  maxHeaderBytes: bytes(16 * 1024).describe('Maximum size of the request line and headers'),
  headerSeconds: limitSeconds(10).describe(
    'Time limit for the headers of a request, counted from the start of the connection',
  ),
  bodySeconds: limitSeconds(15).describe('Time limit for a request or a WebSocket message to arrive, body included'),
  maxPieces: count(512).describe(
    'Maximum number of pieces (chunks, fragments) in which a request body or WebSocket message may come',
  ),
  keepAliveSeconds: limitSeconds(15).describe(
    'How long an idle HTTP connection is kept open; must exceed the idle timeout of a load balancer in front',
  ),
  stallSeconds: z.coerce
    .number()
    .min(1)
    .max(86_400)
    .default(60)
    .meta(unit('seconds'))
    .describe('A connection whose client reads nothing for this long is closed'),
  loginSeconds: limitSeconds(10).describe('Time limit for a WebSocket to send connection_init'),
  maxLoginBytes: bytes(16 * 1024).describe('Maximum size of a WebSocket message before authentication'),
  maxSocketsBeforeLogin: count(32).describe('Maximum number of unauthenticated WebSockets per address'),
  maxOperations: count(32).describe('Maximum number of concurrent operations per WebSocket'),
  maxUnsentBytes: bytes(2 ** 20).describe(
    'Unread data, beyond one event per running operation, after which a WebSocket is closed',
  ),
  maxUnreadMegabytes: count(256)
    .meta(unit('MB'))
    .describe(
      'Unread answers and unfinished requests of all connections together; beyond it, connections of the address that holds most are closed, the longest stalled first',
    ),
  readySeconds: seconds(5).describe('How long /readyz reuses the result of a store check'),
  shutdownSeconds: limitSeconds(25).describe(
    'Time limit for writing checkpoints and ending streams at shutdown; after it the process exits',
  ),
};

const pages = {
  studio: text.describe('Directory of the built studio; found automatically if not set'),
  graphiql: z
    .stringbool()
    .or(z.boolean())
    .optional()
    .meta({ shown: 'yes without a token, else only with it' } satisfies SettingFacts)
    .describe('Serve GraphiQL to browsers on /graphql; "yes" serves the page (not the data) without a token'),
  cloudwatchNamespace: text.describe(
    'CloudWatch namespace for scaling on AWS: an api server logs the number of workers needed every 10 s, at log level info. Not logged if not set',
  ),
  logLevel: z
    .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
    .default('info')
    .describe('Minimum level of logged messages'),
};

/** The settings by heading, as the reference page has them. */
export const settingGroups = {
  Network: network,
  Secrets: secrets,
  'Identity provider': issuerSettings,
  Storage: storage,
  Models: models,
  Sessions: sessions,
  Callers: limitSettings,
  Prompts: promptSettings,
  Operations: operations,
  Connections: connections,
  'Pages and log': pages,
};

/** Every setting, its meaning and its default. `LONGLIVE_MAX_SESSIONS` and `--max-sessions` set `maxSessions`. */
export const configSchema = z.strictObject({
  ...network,
  ...secrets,
  ...issuerSettings,
  ...storage,
  ...models,
  ...sessions,
  ...limitSettings,
  ...promptSettings,
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
  for (const [setting, schema] of Object.entries<z.core.$ZodType>(configSchema.shape)) {
    const value = flags[setting] ?? fromEnvironment(environment, setting);
    if (value === undefined || value === '') continue;
    const isDigits = typeof value === 'number' || (typeof value === 'string' && DECIMAL.test(value));
    if (isNumber(schema) && !isDigits) {
      throw new ConfigError(
        `${setting} (${environmentName(setting)}): must be a number in decimal digits; got ${JSON.stringify(value)}`,
      );
    }
    given[setting] = value;
  }
  const parsed = configSchema.safeParse(given);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => {
    const setting = String(issue.path[0]);
    return `${setting} (${environmentName(setting)}): ${problemOf(issue, given[setting])}`;
  });
  throw new ConfigError(`Settings that cannot be used:\n  ${problems.join('\n  ')}`);
}

/** Nothing else that JavaScript takes for a number: neither blanks (0), nor 0x10 (16), nor a flag without a value (1). */
const DECIMAL = /^\s*-?\d+(?:\.\d+)?\s*$/;

function isNumber({ _zod: { def } }: z.core.$ZodType): boolean {
  const { innerType } = def as { innerType?: z.core.$ZodType };
  return innerType ? isNumber(innerType) : def.type === 'number';
}

/** In plain words; with the value only where it is a number, a choice or a switch, and so no secret. */
function problemOf(issue: z.core.$ZodIssue, value: unknown): string {
  const needed = neededBy(issue);
  return needed === undefined ? issue.message : `must be ${needed}; got ${JSON.stringify(value)}`;
}

function neededBy(issue: z.core.$ZodIssue): string | undefined {
  if (issue.code === 'invalid_type') {
    if (issue.expected === 'int') return 'a whole number';
    return issue.expected === 'number' ? 'a number' : undefined;
  }
  if (issue.code === 'too_big' && issue.origin !== 'string') return `at most ${issue.maximum}`;
  if (issue.code === 'too_small' && issue.origin !== 'string') return `at least ${issue.minimum}`;
  if (issue.code === 'invalid_value') return `one of ${issue.values.join(', ')}`;
  return issue.code === 'invalid_union' ? 'true or false' : undefined;
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
        `${name}=${value} is ignored: it is a service address set by Kubernetes, not a port. Use PORT or --port.`,
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
