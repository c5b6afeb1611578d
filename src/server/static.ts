import { createHash } from 'node:crypto';
import { readFile, readdir } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { extname, join, relative, sep } from 'node:path';
import { promisify } from 'node:util';
import { brotliCompress, constants, gzip } from 'node:zlib';

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.json': 'application/json',
  '.woff2': 'font/woff2',
  '.webp': 'image/webp',
  '.map': 'application/json',
};

const CONTENT_SECURITY =
  "default-src 'self'; img-src 'self' data: blob: http: https:; media-src 'self' blob:; connect-src 'self' http: https:; " +
  "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const STYLE =
  'body{font:16px/1.6 system-ui,sans-serif;background:#0d0f12;color:#d6dae0;display:grid;place-content:center;min-height:90vh;margin:16px}' +
  'h1{font-size:22px}a{color:#8ab4ff}';

/** What the pages below may do: have their own style, and lead elsewhere. */
const PAGE_SECURITY =
  `default-src 'none'; style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'; ` +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

function pageOf(title: string, body: string): StaticFile {
  const text = `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${title} · LongLive</title><style>${STYLE}</style><body><main><h1>${title}</h1>${body}</main>`;
  const cacheControl = 'no-cache';
  return {
    ...{
      bytes: Buffer.from(text),
      encoded: new Map(),
      type: TYPES['.html'] ?? '',
      cacheControl,
      policy: PAGE_SECURITY,
    },
  };
}

const NOT_BUILT = pageOf(
  'The service runs',
  '<p>The studio is not built: <code>npm run build:studio</code>, then start again.</p>' +
    '<p>The API is at <a href="/graphql">/graphql</a>.</p>',
);

const LOST = pageOf(
  'There is nothing at this address',
  '<p>The studio is <a href="/">on the start page</a>, the API <a href="/graphql">at /graphql</a>.</p>',
);

interface StaticFile {
  bytes: Buffer;
  /** The same, compressed, by the name of the encoding; the smallest first. */
  encoded: ReadonlyMap<string, Buffer>;
  type: string;
  cacheControl: string;
  /** Instead of the studio's own. */
  policy?: string;
}

/** The built studio, read into memory once: only files that existed then can be asked for. */
export class StaticFiles {
  private constructor(private readonly files: ReadonlyMap<string, StaticFile>) {}

  static async load(directory: string | undefined): Promise<StaticFiles> {
    const files = new Map<string, StaticFile>();
    for (const path of directory === undefined ? [] : await listFiles(directory)) {
      const name = `/${relative(directory ?? '', path)
        .split(sep)
        .join('/')}`;
      files.set(name, await load(path, name));
    }
    const index = files.get('/index.html') ?? NOT_BUILT;
    return new StaticFiles(files.set('/', index));
  }

  handle(path: string, response: ServerResponse): boolean {
    const file = this.files.get(path);
    if (!file) return false;
    send(file, 200, response);
    return true;
  }

  /** For people who took a wrong way: a page that leads to the right one. Programs get their answer elsewhere. */
  lost(response: ServerResponse): void {
    send(LOST, 404, response);
  }
}

function send(file: StaticFile, status: number, response: ServerResponse): void {
  const accepted = encodingsOf(String(response.req.headers['accept-encoding'] ?? ''));
  const [encoding, bytes] = [...file.encoded].find(([name]) => accepted.has(name)) ?? [undefined, file.bytes];
  response.appendHeader('vary', 'accept-encoding');
  response.writeHead(status, {
    'content-type': file.type,
    'content-length': bytes.length,
    ...(encoding && { 'content-encoding': encoding }),
    'cache-control': file.cacheControl,
    'content-security-policy': file.policy ?? CONTENT_SECURITY,
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
  });
  response.end(response.req.method === 'HEAD' ? undefined : bytes);
}

/** Those that are taken at all. */
function encodingsOf(accepted: string): ReadonlySet<string> {
  const offers = accepted.toLowerCase().split(',');
  return new Set(
    offers.filter((each) => !/;\s*q=0(\.0*)?\s*$/.test(each)).map((each) => each.split(';')[0]?.trim() ?? ''),
  );
}

async function load(path: string, name: string): Promise<StaticFile> {
  const hashed = name.startsWith('/assets/');
  const bytes = await readFile(path);
  return {
    bytes,
    encoded: await encodedOf(bytes, extname(path)),
    type: TYPES[extname(path)] ?? 'application/octet-stream',
    cacheControl: hashed ? 'public, max-age=31536000, immutable' : 'no-cache',
  };
}

/** Pictures and fonts are compressed as they are; of little, the headers are most. */
const COMPRESSED = new Set(['.html', '.js', '.css', '.svg', '.json', '.map']);
const LEAST_COMPRESSED = 512;

async function encodedOf(bytes: Buffer, ending: string): Promise<ReadonlyMap<string, Buffer>> {
  if (!COMPRESSED.has(ending) || bytes.length < LEAST_COMPRESSED) return new Map();
  const params = { [constants.BROTLI_PARAM_QUALITY]: 9 };
  const [small, other] = await Promise.all([promisify(brotliCompress)(bytes, { params }), promisify(gzip)(bytes)]);
  return new Map([
    ['br', small],
    ['gzip', other],
  ]);
}

async function listFiles(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}
