/** An object store in an S3 bucket, on AWS or at any compatible endpoint. */
import { randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  paginateListObjectsV2,
  PutObjectCommand,
  S3Client,
  type S3ClientConfig,
} from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import {
  StoreError,
  type ObjectStore,
  type PutOptions,
  type StoredObject,
  type StoreErrorCode,
} from '../sessions/ports.js';
import { contentTypeOf, requireKey, requirePrefix } from './keys.js';

export interface S3Options {
  bucket: string;
  /** Put before every key; empty or ending in `/`. */
  prefix?: string;
  /** Default: AWS_REGION, else us-east-1. */
  region?: string;
  /** An S3-compatible server; default: AWS. */
  endpoint?: string;
  /** Where clients reach the same server, if not at `endpoint`: pre-signed URLs point here. */
  publicEndpoint?: string;
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

const PART_BYTES = 8 << 20;
const PARTS_IN_FLIGHT = 2;
const REQUEST_TIMEOUT_MS = 15_000;
const CHECK_TIMEOUT_MS = 5000;
/** Names one write, so that its own retry is told apart from a rival. */
const WRITE_ID = 'write-id';

const HINTS: Readonly<Record<StoreErrorCode, string>> = {
  NOT_FOUND: 'there is no such object',
  CONFLICT: 'somebody else has written the object',
  NO_SPACE: 'the store is full or over its quota',
  UNREACHABLE: 'the bucket cannot be reached: check its name, the endpoint and the network',
  DENIED: 'access denied: check the credentials and the bucket policy',
  INVALID_KEY: 'the store does not accept the key',
};

/** The fields that the SDK's errors have in common. */
interface S3Failure {
  name?: string;
  message?: string;
  $metadata?: { httpStatusCode?: number; attempts?: number };
}

/** Turns an error of the SDK into a StoreError. */
export function s3Error(error: unknown, key: string): Error {
  if (error instanceof StoreError) return error;
  const { name = '', message = String(error), $metadata } = error as S3Failure;
  if (name === 'InvalidRange') return new RangeError(`${key}: the range is not within the object`, { cause: error });
  const code = codeOf(name, $metadata?.httpStatusCode);
  return new StoreError(code, `${key}: ${HINTS[code]} (${[name, message].filter(Boolean).join(': ')})`, {
    cause: error,
  });
}

function codeOf(name: string, status: number | undefined): StoreErrorCode {
  if (name === 'NoSuchBucket') return 'UNREACHABLE';
  if (name === 'QuotaExceeded' || name === 'XMinioStorageFull' || status === 507) return 'NO_SPACE';
  if (name === 'KeyTooLongError') return 'INVALID_KEY';
  if (status === 404) return 'NOT_FOUND';
  if (status === 409 || status === 412) return 'CONFLICT';
  if (status === 401 || status === 403 || name === 'CredentialsProviderError') return 'DENIED';
  return 'UNREACHABLE';
}

export class S3Store implements ObjectStore {
  readonly #client: S3Client;
  readonly #signer: S3Client;
  readonly #bucket: string;
  readonly #prefix: string;
  readonly #patienceMs: number;

  constructor(options: S3Options) {
    this.#client = new S3Client(clientConfig(options, options.endpoint));
    this.#signer = options.publicEndpoint ? new S3Client(clientConfig(options, options.publicEndpoint)) : this.#client;
    this.#bucket = options.bucket;
    this.#prefix = options.prefix ?? '';
    this.#patienceMs = options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS;
  }

  async put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<{ etag: string }> {
    return this.#write(key, options, async (params) =>
      this.#client.send(new PutObjectCommand({ ...params, Body: body, ContentLength: body.length })),
    );
  }

  /** Uploads in parts, of which two are in memory; none is left behind when `body` or the upload fails. */
  async putStream(key: string, body: AsyncIterable<Uint8Array>, options: PutOptions = {}): Promise<{ etag: string }> {
    const source = new Source(body);
    try {
      return await this.#write(key, options, async (params) =>
        new Upload({
          client: this.#client,
          params: { ...params, Body: Readable.from(source, { objectMode: false }) },
          partSize: PART_BYTES,
          queueSize: PARTS_IN_FLIGHT,
          leavePartsOnError: false,
        }).done(),
      );
    } catch (error) {
      throw source.failure ? source.failure.error : error;
    }
  }

  async get(key: string, range?: { start: number; end: number }): Promise<StoredObject> {
    const answer = await this.#attempt(key, (params) =>
      this.#client.send(
        new GetObjectCommand({ ...params, ...(range && { Range: `bytes=${range.start}-${range.end}` }) }),
      ),
    );
    const total = answer.ContentRange?.split('/')[1];
    return {
      size: total === undefined ? (answer.ContentLength ?? 0) : Number(total),
      etag: answer.ETag ?? '',
      contentType: answer.ContentType ?? contentTypeOf(key),
      body: readAll(key, answer.Body as Readable, this.#patienceMs),
    };
  }

  async head(key: string): Promise<{ size: number; etag: string; contentType: string } | undefined> {
    const found = await this.#head(key);
    return (
      found && {
        size: found.ContentLength ?? 0,
        etag: found.ETag ?? '',
        contentType: found.ContentType ?? contentTypeOf(key),
      }
    );
  }

  async *list(prefix: string): AsyncGenerator<{ key: string; size: number }> {
    requirePrefix(prefix);
    const pages = paginateListObjectsV2(
      { client: this.#client },
      { Bucket: this.#bucket, Prefix: this.#prefix + prefix },
    );
    try {
      for await (const page of pages) {
        for (const { Key, Size } of page.Contents ?? []) {
          if (Key !== undefined && !Key.endsWith('/')) yield { key: Key.slice(this.#prefix.length), size: Size ?? 0 };
        }
      }
    } catch (error) {
      throw s3Error(error, prefix);
    }
  }

  async delete(key: string): Promise<void> {
    await this.#attempt(key, (params) => this.#client.send(new DeleteObjectCommand(params)));
  }

  async presign(key: string, options: { expiresInSeconds: number; downloadName?: string }): Promise<string> {
    const { expiresInSeconds, downloadName } = options;
    return this.#attempt(key, (params) =>
      getSignedUrl(
        this.#signer,
        new GetObjectCommand({
          ...params,
          ...(downloadName !== undefined && { ResponseContentDisposition: contentDisposition(downloadName) }),
        }),
        { expiresIn: expiresInSeconds },
      ),
    );
  }

  async check(): Promise<void> {
    try {
      const abortSignal = AbortSignal.timeout(CHECK_TIMEOUT_MS);
      await this.#client.send(new HeadBucketCommand({ Bucket: this.#bucket }), { abortSignal });
    } catch (error) {
      const failure = s3Error(error, `s3://${this.#bucket}`);
      if (!(failure instanceof StoreError) || failure.code !== 'NOT_FOUND') throw failure;
      throw new StoreError('UNREACHABLE', `s3://${this.#bucket}: there is no such bucket`, { cause: error });
    }
  }

  async #write(
    key: string,
    options: PutOptions,
    send: (params: ObjectParams & Record<string, unknown>) => Promise<{ ETag?: string }>,
  ): Promise<{ etag: string }> {
    const writeId = randomUUID();
    try {
      const { ETag } = await this.#attempt(key, (params) =>
        send({
          ...params,
          ContentType: options.contentType ?? contentTypeOf(key),
          Metadata: { [WRITE_ID]: writeId },
          ...(options.cacheControl !== undefined && { CacheControl: options.cacheControl }),
          ...(options.ifNoneMatch && { IfNoneMatch: options.ifNoneMatch }),
          ...(options.ifMatch !== undefined && { IfMatch: options.ifMatch }),
        }),
      );
      return { etag: ETag ?? '' };
    } catch (error) {
      return this.#resolveConflict(key, options, writeId, error);
    }
  }

  /**
   * A write whose answer was lost is sent again and may then meet its own first attempt: that is success. An object to be
   * replaced that is gone is a conflict, like one that was changed.
   */
  async #resolveConflict(key: string, options: PutOptions, writeId: string, error: unknown): Promise<{ etag: string }> {
    if (!(error instanceof StoreError) || !['CONFLICT', 'NOT_FOUND'].includes(error.code)) throw error;
    const retried = ((error.cause as S3Failure | undefined)?.$metadata?.attempts ?? 1) > 1;
    const stored = retried ? await this.#head(key) : undefined;
    if (stored?.Metadata?.[WRITE_ID] === writeId) return { etag: stored.ETag ?? '' };
    if (error.code === 'NOT_FOUND' && options.ifMatch !== undefined) {
      throw new StoreError('CONFLICT', `${key}: somebody else has removed the object`, { cause: error });
    }
    throw error;
  }

  async #head(key: string): Promise<HeadAnswer | undefined> {
    try {
      return await this.#attempt(key, (params) => this.#client.send(new HeadObjectCommand(params)));
    } catch (error) {
      if (error instanceof StoreError && error.code === 'NOT_FOUND') return undefined;
      throw error;
    }
  }

  async #attempt<T>(key: string, work: (params: ObjectParams) => Promise<T>): Promise<T> {
    requireKey(key);
    try {
      return await work({ Bucket: this.#bucket, Key: this.#prefix + key });
    } catch (error) {
      throw s3Error(error, key);
    }
  }
}

interface ObjectParams {
  Bucket: string;
  Key: string;
}

interface HeadAnswer {
  ContentLength?: number;
  ContentType?: string;
  ETag?: string;
  Metadata?: Record<string, string>;
}

function clientConfig(options: S3Options, endpoint: string | undefined): S3ClientConfig {
  return {
    region: options.region ?? process.env['AWS_REGION'] ?? 'us-east-1',
    maxAttempts: options.maxAttempts ?? 3,
    requestHandler: {
      connectionTimeout: options.connectTimeoutMs ?? 2000,
      requestTimeout: options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS,
      throwOnRequestTimeout: true,
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

/** A body that remembers its own failure, so that it is not mistaken for one of the store. */
class Source implements AsyncIterable<Uint8Array> {
  failure: { error: unknown } | undefined;

  constructor(private readonly body: AsyncIterable<Uint8Array>) {}

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    try {
      yield* this.body;
    } catch (error) {
      this.failure = { error };
      throw error;
    }
  }
}

/** Ends a body that stops arriving; a reader that takes its time is no reason to. */
async function* readAll(key: string, body: Readable, patienceMs: number): AsyncGenerator<Uint8Array> {
  const parts = body[Symbol.asyncIterator]() as AsyncIterableIterator<Uint8Array>;
  try {
    for (;;) {
      const patience = setTimeout(() => body.destroy(new Error(`nothing arrived for ${patienceMs} ms`)), patienceMs);
      const part = await parts.next().finally(() => clearTimeout(patience));
      if (part.done) return;
      yield part.value;
    }
  } catch (error) {
    throw s3Error(error, key);
  } finally {
    body.destroy();
  }
}

/** RFC 6266, with a plain fallback for names beyond ASCII. */
function contentDisposition(name: string): string {
  const plain = name.replace(/[^\w. -]/g, '_');
  return `attachment; filename="${plain}"; filename*=UTF-8''${encodeURIComponent(name).replace(/['()*]/g, escapeByte)}`;
}

const escapeByte = (character: string): string => `%${character.charCodeAt(0).toString(16).toUpperCase()}`;
