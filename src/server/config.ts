import { randomBytes } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { z } from 'zod';

const seconds = (fallback: number) => z.coerce.number().min(0).max(86_400).default(fallback);
const count = (fallback: number) => z.coerce.number().int().min(1).default(fallback);
const gigabytes = (fallback: number) => z.coerce.number().min(0).max(1e6).default(fallback);
const list = z.string().transform((text) =>
  text
    .split(',')
    .map((part) => part.trim())
    .filter(Boolean),
);
const text = z.string().trim().min(1).optional();

/** Every setting, its meaning and its default. `LONGLIVE_MAX_SESSIONS` and `--max-sessions` set `maxSessions`. */
export const configSchema = z.strictObject({
  host: z.string().default('0.0.0.0').describe('Address to listen on'),
  port: z.coerce.number().int().min(0).max(65_535).default(4000).describe('Port to listen on; 0 picks one'),
  publicUrl: z.url().optional().describe('Address that clients use, put before media URLs; relative URLs when absent'),
  token: text.describe('Bearer token that /graphql and /metrics ask for; open when absent'),
  signingKey: z
    .string()
    .min(16)
    .default(() => randomBytes(32).toString('base64url'))
    .describe('Secret that signs media URLs; share it between replicas. Random per start when absent'),
  mediaUrlSeconds: seconds(4 * 3600).describe('How long a media URL works at least'),
  corsOrigins: list.default([]).describe('Origins of other sites that may call, comma-separated; * for all'),

  store: z.string().default('./data').describe('Where sessions are kept: a directory, file://… or s3://bucket/prefix'),
  s3Endpoint: z.url().optional().describe('Endpoint of an S3-compatible store; AWS when absent'),
  s3PublicEndpoint: z.url().optional().describe('Where clients reach that store, when not at its endpoint'),
  s3Region: text.describe('Region of the bucket'),
  redis: z.url().optional().describe('redis://… shared by all replicas; one replica alone when absent'),

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
  threads: z.coerce.number().int().min(0).max(1024).default(0).describe('CPU threads for the model; 0 for all'),
  encoderThreads: count(Math.max(1, Math.floor(availableParallelism() / 4))).describe('Workers that encode video'),

  leadSeconds: seconds(2).describe('How far REALTIME generation may run ahead of playback'),
  idleSeconds: seconds(60).describe('A session nobody watches is paused after this; 0 for never'),
  heartbeatSeconds: z.coerce
    .number()
    .min(0.1)
    .max(60)
    .default(10)
    .describe('How often an idle stream says that it lives'),
  maxSeconds: z.coerce.number().min(0).default(0).describe('Longest session; 0 for endless'),
  maxSessions: count(16).describe('Sessions in memory at once'),
  keptCheckpoints: count(20).describe(
    'Checkpoints that stay of a session: the newest ones and others evenly before them',
  ),
  maxSubscribers: count(64).describe('Streams per session'),
  mediaCacheMegabytes: count(64).describe('Memory for recent chunks'),

  maxBodyBytes: count(256 * 1024).describe('Largest request body and WebSocket message'),
  maxTokens: count(1000).describe('Tokens of an operation'),
  maxDepth: count(12).describe('Depth of an operation'),
  maxAliases: count(15).describe('Aliases in an operation'),
  maxCost: count(2000).describe('Fields of an operation, those of lists counted per item'),
  requestSeconds: seconds(30).describe('Longest request, streams aside'),
  stallSeconds: z.coerce
    .number()
    .min(1)
    .default(60)
    .describe('A stream whose client takes nothing for so long is closed'),
  shutdownSeconds: seconds(25).describe('Time to write checkpoints and finish requests when asked to stop'),

  studio: text.describe('Directory of the built viewer; found by itself when absent'),
  graphiql: z.stringbool().or(z.boolean()).default(true).describe('Serve GraphiQL to browsers on /graphql'),
  logLevel: z
    .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
    .default('info')
    .describe('Least log level'),
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
  return environment[environmentName(setting)] ?? plain;
}
