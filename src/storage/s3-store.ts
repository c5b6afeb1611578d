/** An object store in an S3 bucket, on AWS or at any compatible endpoint. */
import { randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { leavable } from '../files/body.js';
import {
  type ListOptions,
  StoreError,
  type ObjectStore,
  type PutOptions,
  type StoredObject,
} from '../sessions/ports.js';
import { contentTypeOf, requireKey, requirePrefix } from './keys.js';
import { openClients, REQUEST_TIMEOUT_MS, type S3Clients, type S3Options } from './s3-client.js';
import { conditionalWriteError, isBusy, s3Error } from './s3-errors.js';
import { listed } from './s3-listing.js';

const PART_BYTES = 8 << 20;
const PARTS_IN_FLIGHT = 2;
const CHECK_TIMEOUT_MS = 5000;
/** Names one write, so that its own retry is told apart from a rival. */
const WRITE_ID = 'write-id';
/** Between attempts of a write that the server asks to try again; whoever called has more patience than the sum. */
const BUSY_WAITS_MS = [50, 100, 200, 400, 800];

export class S3Store implements ObjectStore {
  readonly #options: S3Options;
  readonly #bucket: string;
  readonly #prefix: string;
  readonly #patienceMs: number;
  #opened: Promise<S3Clients> | undefined;

  constructor(options: S3Options) {
    this.#options = options;
    this.#bucket = options.bucket;
    this.#prefix = options.prefix ?? '';
    this.#patienceMs = options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS;
  }

  async put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<{ etag: string }> {
    const send = (): Promise<{ etag: string }> =>
      this.#write(key, options, writeId, async ({ client }, params) =>
        client.send(new PutObjectCommand({ ...params, Body: body, ContentLength: body.length })),
      );
    const writeId = randomUUID();
    for (const wait of BUSY_WAITS_MS) {
      try {
        return await send();
      } catch (error) {
        if (!isBusy(error)) throw error;
        await sleep(wait * (0.5 + Math.random()));
      }
    }
    return send();
  }

  /** Uploads in parts, of which two are in memory; none is left behind when `body` or the upload fails. */
  async putStream(key: string, body: AsyncIterable<Uint8Array>, options: PutOptions = {}): Promise<{ etag: string }> {
    const source = new Source(body);
    try {
      return await this.#write(key, options, randomUUID(), async ({ client }, params) =>
        new Upload({
          client,
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
    const answer = await this.#attempt(key, ({ client }, params) =>
      client.send(new GetObjectCommand({ ...params, ...(range && { Range: `bytes=${range.start}-${range.end}` }) })),
    );
    return {
      size: sizeOf(answer),
      etag: tagOf(answer.ETag),
      contentType: answer.ContentType ?? contentTypeOf(key),
      body: bodyOf(key, answer.Body as Readable, answer.ContentLength, this.#patienceMs),
    };
  }

  async head(key: string): Promise<{ size: number; etag: string; contentType: string } | undefined> {
    const found = await this.#head(key);
    return (
      found && {
        size: found.ContentLength ?? 0,
        etag: tagOf(found.ETag),
        contentType: found.ContentType ?? contentTypeOf(key),
      }
    );
  }

  async *list(prefix: string, { after }: ListOptions = {}): AsyncGenerator<{ key: string; size: number }> {
    requirePrefix(prefix);
    try {
      const { client } = await this.#clients();
      yield* listed(client, { Bucket: this.#bucket, root: this.#prefix, prefix, after });
    } catch (error) {
      throw s3Error(error, prefix);
    }
  }

  async delete(key: string): Promise<void> {
    await this.#attempt(key, ({ client }, params) => client.send(new DeleteObjectCommand(params)));
  }

  async presign(key: string, options: { expiresInSeconds: number; downloadName?: string }): Promise<string> {
    const { expiresInSeconds, downloadName } = options;
    return this.#attempt(key, ({ signer }, params) =>
      getSignedUrl(
        signer,
        new GetObjectCommand({
          ...params,
          ...(downloadName !== undefined && { ResponseContentDisposition: contentDisposition(downloadName) }),
        }),
        { expiresIn: expiresInSeconds },
      ),
    );
  }

  /** Lists one key: what a role that may do no more than serve sessions may do, too. */
  async check(): Promise<void> {
    try {
      const { client } = await this.#clients();
      const params = { Bucket: this.#bucket, Prefix: `${this.#prefix}sessions/`, MaxKeys: 1 };
      await client.send(new ListObjectsV2Command(params), { abortSignal: AbortSignal.timeout(CHECK_TIMEOUT_MS) });
    } catch (error) {
      const failure = s3Error(error, `s3://${this.#bucket}`);
      if (!(failure instanceof StoreError) || failure.code !== 'NOT_FOUND') throw failure;
      throw new StoreError('UNREACHABLE', `s3://${this.#bucket}: there is no such bucket`, { cause: error });
    }
  }

  async #write(
    key: string,
    options: PutOptions,
    writeId: string,
    send: (clients: S3Clients, params: ObjectParams & Record<string, unknown>) => Promise<{ ETag?: string }>,
  ): Promise<{ etag: string }> {
    try {
      const { ETag } = await this.#attempt(key, (clients, params) =>
        send(clients, {
          ...params,
          ContentType: options.contentType ?? contentTypeOf(key),
          Metadata: { [WRITE_ID]: writeId },
          ...(options.cacheControl !== undefined && { CacheControl: options.cacheControl }),
          ...(options.ifNoneMatch && { IfNoneMatch: options.ifNoneMatch }),
          ...(options.ifMatch !== undefined && { IfMatch: options.ifMatch }),
        }),
      );
      return { etag: tagOf(ETag) };
    } catch (error) {
      return this.#resolveConflict(key, options, writeId, error);
    }
  }

  /**
   * A write whose answer was lost is sent again and may then meet its own first attempt: that is success. An object to be
   * replaced that is gone is a conflict, like one that was changed.
   */
  async #resolveConflict(key: string, options: PutOptions, writeId: string, error: unknown): Promise<{ etag: string }> {
    const conditional = options.ifNoneMatch !== undefined || options.ifMatch !== undefined;
    if (!(error instanceof StoreError) || !['CONFLICT', 'NOT_FOUND'].includes(error.code)) {
      throw conditional ? conditionalWriteError(error, key) : error;
    }
    const stored = await this.#head(key);
    if (stored?.Metadata?.[WRITE_ID] === writeId) return { etag: tagOf(stored.ETag) };
    if (error.code === 'NOT_FOUND' && options.ifMatch !== undefined) {
      throw new StoreError('CONFLICT', `${key}: another process has removed the object`, { cause: error });
    }
    throw error;
  }

  async #clients(): Promise<S3Clients> {
    return (this.#opened ??= openClients(this.#options));
  }

  async #head(key: string): Promise<HeadAnswer | undefined> {
    try {
      return await this.#attempt(key, ({ client }, params) => client.send(new HeadObjectCommand(params)));
    } catch (error) {
      if (error instanceof StoreError && error.code === 'NOT_FOUND') return undefined;
      throw error;
    }
  }

  async #attempt<T>(key: string, work: (clients: S3Clients, params: ObjectParams) => Promise<T>): Promise<T> {
    requireKey(key);
    try {
      return await work(await this.#clients(), { Bucket: this.#bucket, Key: this.#prefix + key });
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

/** As S3 writes it: some servers leave out the quotes, and proxies that compress call it weak, which no condition fits. */
function tagOf(tag = ''): string {
  const strong = tag.replace(/^W\//, '');
  return strong === '' || strong.startsWith('"') ? strong : `"${strong}"`;
}

/** Of the whole object, also where a part of it was asked for. */
function sizeOf({ ContentRange, ContentLength = 0 }: { ContentRange?: string; ContentLength?: number }): number {
  const [, total] = /\/(\d{1,15})$/.exec(ContentRange ?? '') ?? [];
  return total === undefined ? ContentLength : Number(total);
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

/** Holds a connection until it is read to its end, its reader leaves, or nobody has begun to read in time. */
function bodyOf(key: string, body: Readable, bytes: number | undefined, patienceMs: number): AsyncIterable<Uint8Array> {
  body.on('error', () => undefined); // Whoever reads is told.
  const unread = setTimeout(() => body.destroy(new Error(`nothing was read for ${patienceMs} ms`)), patienceMs).unref();
  const begun = async function* () {
    clearTimeout(unread);
    yield* readAll(key, body, bytes, patienceMs);
  };
  return leavable(begun(), () => {
    clearTimeout(unread);
    body.destroy();
  });
}

/** Ends a body that stops arriving or is cut off; a reader that takes its time is no reason to. */
async function* readAll(
  key: string,
  body: Readable,
  bytes: number | undefined,
  patienceMs: number,
): AsyncGenerator<Uint8Array> {
  const parts = body[Symbol.asyncIterator]() as AsyncIterableIterator<Uint8Array>;
  let missing = bytes ?? 0;
  try {
    for (;;) {
      const patience = setTimeout(() => body.destroy(new Error(`no data for ${patienceMs} ms`)), patienceMs);
      const part = await parts.next().finally(() => clearTimeout(patience));
      if (part.done && missing > 0) throw new Error(`${missing} bytes of the answer are missing`);
      if (part.done) return;
      missing -= part.value.length;
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
