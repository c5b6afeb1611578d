/** What a server may say besides the bytes of an object: little, and no document type, whose parts could unfold without end. */
import type { S3Client } from '@aws-sdk/client-s3';
import { collectWithin } from '../files/body.js';

/** A page of a thousand keys, each of its greatest length and escaped throughout, is about half of it. */
const MOST_BYTES = 16 << 20;

/** Reads answers whole before they are parsed, all but objects; the parser takes whatever size and shape it is given. */
export function boundAnswers(client: S3Client): void {
  client.middlewareStack.add(
    (next, { commandName }) =>
      async (args) => {
        const result = await next(args);
        const response = result.response as { statusCode: number; body?: unknown };
        const isObject = commandName === 'GetObjectCommand' && response.statusCode < 300;
        if (!isObject && isBody(response.body)) response.body = await textOf(response.body);
        return result;
      },
    { name: 'boundAnswers', step: 'deserialize', priority: 'low' },
  );
}

async function textOf(body: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const bytes = await collectWithin(body, MOST_BYTES);
  if (!bytes) throw new Error(`the answer of the server has more than ${MOST_BYTES} bytes`);
  if (/<!doctype/i.test(bytes.toString('latin1'))) throw new Error('the answer of the server has a document type');
  return bytes;
}

function isBody(body: unknown): body is AsyncIterable<Uint8Array> {
  return typeof body === 'object' && body !== null && Symbol.asyncIterator in body;
}
