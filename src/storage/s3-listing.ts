/** What a bucket lists. The server may be anybody's: it may answer beside the question, out of order, or without end. */
import { ListObjectsV2Command, type ListObjectsV2CommandOutput, type S3Client } from '@aws-sdk/client-s3';
import { StoreError } from '../sessions/ports.js';
import { isKey } from './keys.js';

/** Pages in a row that may hold no key behind those before: S3 gives empty ones where much was deleted. */
const MOST_IDLE_PAGES = 100;

export interface Listing {
  Bucket: string;
  /** Of all keys of the store; cut off from those that are given. */
  root: string;
  /** Of the keys asked for, behind the root. */
  prefix: string;
  after?: string | undefined;
}

/** The objects with a key that the store itself could have written, in the order in which the server gives them. */
export async function* listed(
  client: S3Client,
  { Bucket, root, prefix, after }: Listing,
): AsyncGenerator<{ key: string; size: number }> {
  const question = { Bucket, Prefix: root + prefix };
  let StartAfter = after === undefined ? undefined : root + after;
  const progress = new Progress(prefix);
  let ContinuationToken: string | undefined;
  for (;;) {
    const page = await client.send(new ListObjectsV2Command({ ...question, StartAfter, ContinuationToken }));
    let last = '';
    for (const { Key: stored = '', Size = 0 } of page.Contents ?? []) {
      const Key = page.EncodingType === 'url' ? decoded(stored) : stored;
      const key = Key.slice(root.length);
      last = Key;
      if (!Key.startsWith(question.Prefix) || !isKey(key) || (after !== undefined && !isBehind(key, after))) continue;
      progress.saw(key);
      yield { key, size: Math.max(0, Size) };
    }
    ContinuationToken = progress.next(page);
    if (ContinuationToken !== undefined) continue;
    if (page.IsTruncated !== true) return;
    StartAfter = progress.behind(last, StartAfter);
  }
}

/** Some servers escape names though nobody asked them to. */
function decoded(key: string): string {
  try {
    return decodeURIComponent(key.replaceAll('+', '%20'));
  } catch {
    return key;
  }
}

/** Notices a listing that goes round in circles. */
class Progress {
  private last: string | undefined;
  private token: string | undefined;
  private idlePages = 0;
  private moved = false;

  constructor(private readonly prefix: string) {}

  saw(key: string): void {
    if (this.last !== undefined && !isBehind(key, this.last)) return;
    this.last = key;
    this.moved = true;
  }

  /** Where to go on when the server says that there is more and not how: behind the last key, if that leads anywhere. */
  behind(last: string, before: string | undefined): string {
    if (last !== '' && (before === undefined || isBehind(last, before))) return last;
    throw new StoreError(
      'UNUSABLE',
      `${this.prefix}: the server cuts its listing off and does not say how to go on; use a server that knows ListObjectsV2`,
    );
  }

  /** The token of the next page, if there is to be one. */
  next({ NextContinuationToken: token }: ListObjectsV2CommandOutput): string | undefined {
    this.idlePages = this.moved ? 0 : this.idlePages + 1;
    this.moved = false;
    if (!token) return undefined;
    if (token === this.token || this.idlePages > MOST_IDLE_PAGES)
      throw new StoreError('UNUSABLE', `${this.prefix}: the server repeats its listing without end`);
    this.token = token;
    return token;
  }
}

/** In the order of S3, for servers that take no notice of StartAfter. */
function isBehind(key: string, other: string): boolean {
  return Buffer.compare(Buffer.from(key), Buffer.from(other)) > 0;
}
