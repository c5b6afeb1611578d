import { readFile, readdir } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { extname, join, relative, sep } from 'node:path';

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

const NOT_BUILT = `<!doctype html><meta charset="utf-8"><title>LongLive</title>
<body style="font:16px/1.6 system-ui;background:#0d0f12;color:#d6dae0;display:grid;place-content:center;height:100vh;margin:0">
<p>The service runs. The studio is not built: <code>npm run build:studio</code>, then start again.</p>
<p>The API is at <a style="color:#8ab4ff" href="/graphql">/graphql</a>.</p>`;

interface StaticFile {
  bytes: Buffer;
  type: string;
  cacheControl: string;
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
    const index = files.get('/index.html') ?? {
      bytes: Buffer.from(NOT_BUILT),
      type: TYPES['.html'] ?? '',
      cacheControl: 'no-cache',
    };
    return new StaticFiles(files.set('/', index));
  }

  handle(path: string, response: ServerResponse): boolean {
    const file = this.files.get(path);
    if (!file) return false;
    response.writeHead(200, {
      'content-type': file.type,
      'content-length': file.bytes.length,
      'cache-control': file.cacheControl,
      'content-security-policy': CONTENT_SECURITY,
      'referrer-policy': 'no-referrer',
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
    });
    response.end(response.req.method === 'HEAD' ? undefined : file.bytes);
    return true;
  }
}

async function load(path: string, name: string): Promise<StaticFile> {
  const hashed = name.startsWith('/assets/');
  return {
    bytes: await readFile(path),
    type: TYPES[extname(path)] ?? 'application/octet-stream',
    cacheControl: hashed ? 'public, max-age=31536000, immutable' : 'no-cache',
  };
}

async function listFiles(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}
