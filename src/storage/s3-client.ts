/** How a client of S3 is set up: what is configured here, else in the SDK's own order (environment, profile, instance). */
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3';
import { loadConfig, NODE_REGION_CONFIG_OPTIONS } from '@smithy/core/config';
import { proxyAgent } from '../files/proxy.js';
import { boundAnswers } from './s3-answers.js';

export interface S3Options {
  bucket: string;
  /** Put before every key; empty or ending in `/`. */
  prefix?: string | undefined;
  /** Default: the SDK's order (AWS_REGION, the profile, the instance), else us-east-1. */
  region?: string | undefined;
  /** An S3-compatible server. Default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, those of the profile, else AWS. */
  endpoint?: string | undefined;
  /** Where clients reach the same server, if not at `endpoint`: pre-signed URLs point here. */
  publicEndpoint?: string | undefined;
  /** `endpoint/bucket/key` instead of `bucket.endpoint/key`. Default: true with an endpoint of one's own. */
  forcePathStyle?: boolean;
  /** Default: the SDK's chain (environment, shared files, instance role). */
  credentials?: { accessKeyId: string; secretAccessKey: string; sessionToken?: string };
  /** Until a connection stands. Default 2000. */
  connectTimeoutMs?: number;
  /** Until an answer begins, and then until more of it arrives. Default 15000. */
  requestTimeoutMs?: number;
  /** Default 3. */
  maxAttempts?: number;
}

export const REQUEST_TIMEOUT_MS = 15_000;

export interface S3Clients {
  client: S3Client;
  /** Signs URLs for those who reach the server elsewhere. */
  signer: S3Client;
}

export async function openClients(options: S3Options): Promise<S3Clients> {
  const endpoint = options.endpoint ?? (await configuredEndpoint());
  const region = options.region ?? (await configuredRegion(endpoint !== undefined));
  const client = new S3Client(clientConfig(options, region, endpoint));
  boundAnswers(client);
  const { publicEndpoint } = options;
  return { client, signer: publicEndpoint ? new S3Client(clientConfig(options, region, publicEndpoint)) : client };
}

/** A server of one's own is not asked after on an instance of AWS. */
async function configuredRegion(ownServer: boolean): Promise<string> {
  const fallback = 'us-east-1';
  const options = ownServer ? { ...NODE_REGION_CONFIG_OPTIONS, default: fallback } : NODE_REGION_CONFIG_OPTIONS;
  return loadConfig(options)().catch(() => fallback);
}

type Profile = Record<string, string | undefined>;

/** The SDK looks for it too, but does not know then that the server is none of AWS. */
async function configuredEndpoint(): Promise<string | undefined> {
  if (process.env['AWS_IGNORE_CONFIGURED_ENDPOINT_URLS']?.toLowerCase() === 'true') return undefined;
  const found = await loadConfig<string>({
    environmentVariableSelector: (environment) => environment['AWS_ENDPOINT_URL_S3'] || environment['AWS_ENDPOINT_URL'],
    configFileSelector: (profile: Profile, file?: Record<string, Profile | undefined>) =>
      file?.[`services.${profile['services'] ?? ''}`]?.['s3.endpoint_url'] ?? profile['endpoint_url'],
    default: '',
  })();
  return found === '' ? undefined : found;
}

function clientConfig(options: S3Options, region: string, endpoint: string | undefined): S3ClientConfig {
  const proxy = proxyAgent(endpoint ?? `https://s3.${region}.amazonaws.com`);
  return {
    region,
    maxAttempts: options.maxAttempts ?? 3,
    requestHandler: {
      connectionTimeout: options.connectTimeoutMs ?? 2000,
      requestTimeout: options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS,
      throwOnRequestTimeout: true,
      ...(proxy && { httpsAgent: proxy }),
    },
    ...(options.credentials && { credentials: options.credentials }),
    ...(endpoint !== undefined && {
      endpoint,
      forcePathStyle: options.forcePathStyle ?? true,
      // Compatible servers differ in which checksums they know; the signature covers the body where it matters.
      requestChecksumCalculation: 'WHEN_REQUIRED' as const,
      responseChecksumValidation: 'WHEN_REQUIRED' as const,
    }),
  };
}
