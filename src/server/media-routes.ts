import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { gzip as gzipText } from 'node:zlib';
import { withoutPaths } from '../api/index.js';
import {
  DamagedError,
  DomainError,
  keysOf,
  StoreError,
  type Logger,
  type ObjectStore,
  type Sessions,
} from '../sessions/index.js';
import type { SignedLinks } from './links.js';
import type { MediaCache } from './media-cache.js';
import { parseRange, type ByteRange } from './range.js';
import { currentRequestId, sendError } from './request.js';

/** The files of a session that are served, by what stands behind `sessions/<id>/`. Everything else does not exist. */
const FILES: { pattern: RegExp; kind: 'chunk' | 'playlist' | 'artifact'; type: string }[] = [
  { pattern: /^init\.mp4$/, kind: 'chunk', type: 'video/mp4' },
  { pattern: /^chunks\/\d{1,12}\.m4s$/, kind: 'chunk', type: 'video/iso.segment' },
  { pattern: /^index\.m3u8$/, kind: 'playlist', type: 'application/vnd.apple.mpegurl' },
  { pattern: /^video\.mp4$/, kind: 'artifact', type: 'video/mp4' },
  { pattern: /^poster\.webp$/, kind: 'artifact', type: 'image/webp' },
  { pattern: /^poster\.jpe?g$/, kind: 'artifact', type: 'image/jpeg' },
  { pattern: /^exports\/\d{6,12}-\d{6,12}\.mp4$/, kind: 'artifact', type: 'video/mp4' },
  { pattern: /^exports\/\d{6,12}-\d{6,12}\.jsonl$/, kind: 'artifact', type: 'application/x-ndjson' },
  { pattern: /^timeline\.jsonl$/, kind: 'artifact', type: 'application/x-ndjson' },
];

const PATH = /^\/sessions\/([A-Za-z0-9_-]{1,128})\/(.+)$/;

const REFUSED = {
  expired: ['LINK_EXPIRED', 'This URL has expired; ask the API for a new one.'],
  forged: ['LINK_INVALID', 'This URL is not signed by this service; use the URLs that the API returns.'],
} as const;

interface MediaParts {
  sessions: Sessions;
  store: ObjectStore;
  cache: MediaCache;
  links: SignedLinks;
  log: Logger;
}

/** Of a request that the edge has understood. */
export interface MediaTarget {
  path: string;
  query: URLSearchParams;
}

interface MediaRequest {
  request: IncomingMessage;
  response: ServerResponse;
  sessionId: string;
  file: string;
  type: string;
  key: string;
  query: URLSearchParams;
  /** Until when the link works. */
  expiry: number;
  secondsLeft: number;
}

/** Init segments, chunks, playlists and artifacts over plain HTTP, for those who hold a signed URL. */
export class MediaRoutes {
  constructor(private readonly parts: MediaParts) {}

  /** Answers, or returns false when the path is not a media path. */
  async handle(request: IncomingMessage, response: ServerResponse, { path, query }: MediaTarget): Promise<boolean> {
    const [, sessionId, file] = PATH.exec(path) ?? [];
    const known = FILES.find(({ pattern }) => pattern.test(file ?? ''));
    if (sessionId === undefined || file === undefined || !known) return false;
    const key = keysOf(sessionId).prefix + file;
    const verdict = this.parts.links.verify(key, query);
    if (verdict.outcome !== 'valid') {
      const [code, message] = REFUSED[verdict.outcome];
      sendError(response, 403, code, message);
      return true;
    }
    const { expiry, secondsLeft } = verdict;
    const media = { request, response, sessionId, file, type: known.type, key, query, expiry, secondsLeft };
    try {
      await this[known.kind](media);
    } catch (error) {
      this.refuse(response, error);
    }
    return true;
  }

  private refuse(response: ServerResponse, error: unknown): void {
    const code = error instanceof StoreError || error instanceof DomainError ? error.code : undefined;
    if (code === 'NOT_FOUND' || code === 'INVALID_KEY')
      return sendError(response, 404, 'NOT_FOUND', 'No such file, or it is not ready yet.');
    if ((error as NodeJS.ErrnoException).code === 'ERR_STREAM_PREMATURE_CLOSE') return void response.destroy(); // The client left.
    if (code === undefined) throw error;
    if (error instanceof DamagedError) {
      this.parts.log.error({ error, key: error.key, requestId: currentRequestId() }, 'A stored file is damaged');
      return sendError(response, 500, code, withoutPaths(error.message));
    }
    this.parts.log.warn({ error, code, requestId: currentRequestId() }, 'A file could not be served');
    sendError(response, 503, code, 'The object store does not respond; try again.');
  }

  private async chunk({ request, response, sessionId, key, type, secondsLeft }: MediaRequest): Promise<void> {
    this.parts.sessions.touch(sessionId);
    const bytes = await this.parts.cache.read(key);
    // The file never changes, but nobody should have it from a cache once its URL has expired.
    const cacheControl = `public, max-age=${secondsLeft}, immutable`;
    const range = head(request, response, { size: bytes.byteLength, type, cacheControl });
    if (range) response.end(request.method === 'HEAD' ? undefined : bytes.subarray(range.start, range.end + 1));
  }

  private async playlist(media: MediaRequest): Promise<void> {
    const { request, response, sessionId, type, query, expiry } = media;
    this.parts.sessions.touch(sessionId);
    const { prefix } = keysOf(sessionId);
    const { links } = this.parts;
    const signature = links.query(sessionId, expiry);
    const text = await this.parts.sessions.playlist(
      sessionId,
      // Of its parent, a fork shows the files that it inherited, for as long as its own.
      (key) => (key.startsWith(prefix) ? `${key.slice(prefix.length)}${signature}` : links.file(key, expiry).url),
      { delta: ['YES', 'v2'].includes(query.get('_HLS_skip') ?? '') },
    );
    const { bytes, encoding } = await compressed(Buffer.from(text), request);
    response.writeHead(200, {
      ...{ 'content-type': type, 'content-length': bytes.length, 'cache-control': 'no-cache', vary: 'accept-encoding' },
      ...(encoding && { 'content-encoding': encoding }),
    });
    response.end(request.method === 'HEAD' ? undefined : bytes);
  }

  private async artifact(media: MediaRequest): Promise<void> {
    const { request, response, sessionId, file, key, type, query, secondsLeft } = media;
    const stored = await this.parts.store.head(key);
    if (!stored) throw new StoreError('NOT_FOUND', key);
    const wanted = nameFor(query.get('name'), file);
    const downloadName = wanted ?? `${sessionId}-${file.replace('/', '-')}`;
    // A signed URL is good for one method: a HEAD is answered here.
    const elsewhere =
      request.method === 'HEAD'
        ? undefined
        : await this.parts.store.presign(key, {
            expiresInSeconds: Math.max(1, Math.min(600, secondsLeft)),
            downloadName,
          });
    if (elsewhere !== undefined) {
      response.writeHead(302, { location: elsewhere, 'cache-control': 'no-store' }).end();
      return;
    }
    // Parts of it, too, are sent only when all of it is right.
    if (request.method !== 'HEAD') await this.parts.sessions.checkArtifact(key, stored.etag);
    // Whoever gives a name wants to keep it; without one a browser may show it, and knows what to call it.
    response.setHeader('content-disposition', disposition(wanted ? 'attachment' : 'inline', downloadName));
    const range = head(request, response, {
      size: stored.size,
      type,
      cacheControl: `private, max-age=${Math.min(3600, secondsLeft)}`,
    });
    if (!range) return;
    if (request.method === 'HEAD' || stored.size === 0) response.end();
    else await pipeline((await this.parts.store.get(key, range)).body, response);
  }
}

const LONGEST_NAME = 120;

/** The name that `?name=` asks for, as long as it is one of a file of this kind and of no folder. */
function nameFor(asked: string | null, file: string): string | undefined {
  const ending = file.slice(file.lastIndexOf('.'));
  if (asked === null || asked.length > LONGEST_NAME || !asked.endsWith(ending)) return undefined;
  return /^[\p{L}\p{N}][\p{L}\p{N}\p{M}._ -]*$/u.test(asked) ? asked : undefined;
}

/** RFC 6266: in ASCII for everybody, and as it is for those who read UTF-8. */
function disposition(type: 'attachment' | 'inline', name: string): string {
  const plain = name.replace(/[^\x20-\x7e]/g, '_');
  const full = encodeURIComponent(name).replace(
    /['()*]/g,
    (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `${type}; filename="${plain}"${plain === name ? '' : `; filename*=UTF-8''${full}`}`;
}

/** Shorter texts are not worth it. */
const LEAST_COMPRESSED = 512;
/** Addresses of chunks are much alike: more effort gains little. */
const LEVEL = 4;

/** Off this thread, for whoever takes gzip. */
async function compressed(text: Buffer, { headers }: IncomingMessage): Promise<{ bytes: Buffer; encoding?: string }> {
  const accepted = String(headers['accept-encoding'] ?? '').split(',');
  const gzips = accepted.some((each) => /^\s*(?:x-)?gzip\s*(?:;(?!\s*q=0(?:\.0*)?\s*$)|$)/i.test(each));
  if (text.length < LEAST_COMPRESSED || !gzips) return { bytes: text };
  return { bytes: await gzip(text, { level: LEVEL }), encoding: 'gzip' };
}

const gzip = promisify(gzipText);

/**
 * Writes status and headers for the whole body or the range asked for; `undefined` when there is nothing to send. `Range` is
 * for GET alone. Answers have no validator that an `If-Range` could match, so with one the whole body is sent.
 */
function head(
  request: IncomingMessage,
  response: ServerResponse,
  { size, type, cacheControl }: { size: number; type: string; cacheControl: string },
): ByteRange | undefined {
  const ranged = request.method === 'GET' && request.headers['if-range'] === undefined;
  const range = ranged ? parseRange(request.headers.range, size) : undefined;
  if (range === 'unsatisfiable') {
    response.writeHead(416, { 'content-range': `bytes */${size}` }).end();
    return undefined;
  }
  const sent = range ?? { start: 0, end: size - 1 };
  response.writeHead(range ? 206 : 200, {
    'content-type': type,
    'content-length': sent.end - sent.start + 1,
    'accept-ranges': 'bytes',
    'cache-control': cacheControl,
    ...(range ? { 'content-range': `bytes ${range.start}-${range.end}/${size}` } : {}),
  });
  return sent;
}
