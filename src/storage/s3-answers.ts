/** What a server may say besides the bytes of an object: little, and no document type, whose parts could unfold without end. */
import type { S3Client } from '@aws-sdk/client-s3';
import { collectWithin } from '../files/body.js';
import { StoreError } from '../sessions/ports.js';

/** A page of a thousand keys, each of its greatest length and escaped throughout, is about half of it. */
const MOST_BYTES = 16 << 20;

/** Successes that every S3 says with an entity tag. */
const TAGGED = ['GetObjectCommand', 'HeadObjectCommand', 'PutObjectCommand', 'UploadPartCommand'];

/** What stands in the others. */
const ROOTS: Readonly<Record<string, RegExp>> = {
  ListObjectsV2Command: /<(?:\w+:)?ListBucketResult[\s>/]/,
  CreateMultipartUploadCommand: /<(?:\w+:)?InitiateMultipartUploadResult[\s>/]/,
  CompleteMultipartUploadCommand: /<(?:\w+:)?CompleteMultipartUploadResult[\s>/]/,
};

interface Answer {
  statusCode: number;
  headers: Readonly<Record<string, string | undefined>>;
  body?: unknown;
}

/**
 * Reads answers whole before they are parsed, all but objects; the parser takes whatever size and shape it is given. What no S3
 * would call a success is none, such as the page of a network that asks for a login.
 */
export function boundAnswers(client: S3Client): void {
  client.middlewareStack.add(
    (next, { commandName = '' }) =>
      async (args) => {
        const result = await next(args);
        const response = result.response as Answer;
        const succeeded = response.statusCode < 300;
        const untagged = succeeded && TAGGED.includes(commandName) && response.headers['etag'] === undefined;
        const isObject = commandName === 'GetObjectCommand' && succeeded && !untagged;
        if (!isObject && isBody(response.body)) {
          const text = await textOf(response.body);
          response.body = text;
          if (succeeded && REFUSAL.test(text.toString('latin1', 0, 1000))) response.statusCode = 503;
          else if (succeeded && isForeign(commandName, response, text)) refuse(response);
        }
        if (untagged && response.statusCode < 300) refuse(response);
        return result;
      },
    { name: 'boundAnswers', step: 'deserialize', priority: 'low' },
  );
}

/** S3 may refuse with a status of success, once it has begun to answer. */
const REFUSAL = /^\s*(?:<\?xml[^>]*\?>\s*)?<(?:\w+:)?Error[\s>]/;

function isForeign(commandName: string, response: Answer, text: Buffer): boolean {
  const root = ROOTS[commandName];
  return root ? !root.test(text.toString('latin1')) : isPage(response);
}

const isPage = ({ headers }: Answer): boolean => /^text\/html/i.test(headers['content-type'] ?? '');

function refuse({ body, headers }: Answer): never {
  (body as { destroy?: () => void } | undefined)?.destroy?.();
  const type = (headers['content-type'] ?? 'nothing that says what it is').replace(/[^\x20-\x7e]/g, '').slice(0, 80);
  throw new StoreError(
    'UNREACHABLE',
    `what answers at the endpoint is no S3 (it said ${type}): check s3Endpoint (LONGLIVE_S3_ENDPOINT), and whether the network asks for a login or a proxy`,
  );
}

async function textOf(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const bytes = await collectWithin(body, MOST_BYTES);
  if (!bytes) throw new Error(`the answer of the server has more than ${MOST_BYTES} bytes`);
  if (/<!doctype (?!html)/i.test(bytes.toString('latin1')))
    throw new Error('the answer of the server has a document type');
  return bytes;
}

function isBody(body: unknown): body is AsyncIterable<Uint8Array> {
  return typeof body === 'object' && body !== null && Symbol.asyncIterator in body;
}
