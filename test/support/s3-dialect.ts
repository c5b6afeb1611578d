/**
 * An S3 in memory that speaks as some compatible server documents to do: which headers it refuses, what its tags look like,
 * how its listings go on. It checks no signatures.
 */
import { createHash, randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Dialect {
  /** Of an object's bytes; default the MD5 in quotes. */
  tag?: (body: Buffer) => string;
  /** What it makes of If-None-Match and If-Match on writes. */
  conditions?: 'kept' | 'ignored' | { status: number; code: string; message?: string };
  /** Headers of which it answers 400. */
  refused?: RegExp;
  /** Asks for a length before it takes a body (411). */
  needsLength?: boolean;
  /** How a listing goes on that is longer than two keys. */
  pages?: 'token' | 'marker' | 'truncated';
  /** Takes no notice of start-after. */
  startAfter?: 'kept' | 'ignored';
  /** Whether objects go; `refused` as under object lock. */
  deletions?: 'kept' | 'refused';
  /** Whether parts are sent where parts are asked for. */
  ranges?: 'kept' | 'ignored';
  /** A success that is none: S3's error with status 200. */
  lies?: (request: IncomingMessage) => string | undefined;
}

const PAGE = 2;

interface Held {
  body: Buffer;
  tag: string;
  headers: Record<string, string>;
}

export class DialectServer {
  dialect: Dialect = {};
  readonly asked: { method: string; url: URL; headers: IncomingMessage['headers'] }[] = [];
  private readonly objects = new Map<string, Held>();
  private readonly uploads = new Map<string, Map<number, Buffer>>();
  private readonly server: Server;

  private constructor() {
    this.server = createServer((request, response) => void this.serve(request, response));
  }

  static async start(): Promise<DialectServer> {
    const dialect = new DialectServer();
    await new Promise<void>((resolve) => dialect.server.listen(0, '127.0.0.1', resolve));
    return dialect;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  speak(dialect: Dialect): void {
    this.dialect = dialect;
    this.asked.length = 0;
    this.objects.clear();
  }

  private async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://server');
    const { method = 'GET', headers } = request;
    this.asked.push({ method, url, headers });
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const body = Buffer.concat(parts);
    const key = decodeURIComponent(url.pathname).split('/').slice(2).join('/');
    const lie = this.dialect.lies?.(request);
    if (lie !== undefined) return void response.writeHead(200, { 'content-type': 'application/xml' }).end(lie);
    const refusal = this.refusal(headers, body);
    if (refusal) return fail(response, refusal.status, refusal.code, refusal.message, method);
    if (method === 'POST') return this.upload(url, key, headers, response);
    if (method === 'PUT') return this.write(url, key, headers, body, response);
    if (method === 'DELETE') {
      if (this.dialect.deletions === 'refused') return fail(response, 405, 'MethodNotAllowed');
      this.objects.delete(key);
      return void response.writeHead(204).end();
    }
    if (key === '') return this.list(url, response);
    this.read(method, key, headers.range, response);
  }

  private refusal(headers: IncomingMessage['headers'], body: Buffer) {
    const { refused, needsLength } = this.dialect;
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${String(value)}`);
    const line = refused && lines.find((each) => refused.test(each));
    if (line !== undefined) return { status: 400, code: 'InvalidArgument', message: `Unsupported header ${line}` };
    const bodied = body.length > 0 && headers['content-length'] === undefined;
    return needsLength && bodied ? { status: 411, code: 'MissingContentLength', message: 'no length' } : undefined;
  }

  private write(
    url: URL,
    key: string,
    headers: IncomingMessage['headers'],
    body: Buffer,
    response: ServerResponse,
  ): void {
    const upload = this.uploads.get(url.searchParams.get('uploadId') ?? '');
    if (upload) {
      upload.set(Number(url.searchParams.get('partNumber')), body);
      return void response.writeHead(200, { etag: this.tagOf(body) }).end();
    }
    this.keep(key, headers, body, response, (tag) => response.writeHead(200, { etag: tag }).end());
  }

  private keep(
    key: string,
    headers: IncomingMessage['headers'],
    body: Buffer,
    response: ServerResponse,
    kept: (tag: string) => void,
  ): void {
    const { conditions = 'kept' } = this.dialect;
    const { 'if-none-match': none, 'if-match': match } = headers;
    const conditional = none !== undefined || match !== undefined;
    if (conditional && typeof conditions === 'object')
      return fail(response, conditions.status, conditions.code, conditions.message);
    const before = this.objects.get(key);
    const misses = (none === '*' && before !== undefined) || (match !== undefined && match !== before?.tag);
    if (conditional && conditions === 'kept' && misses) return fail(response, 412, 'PreconditionFailed');
    const own = Object.entries(headers).filter(([name]) => /^(?:content-type|x-amz-meta-)/.test(name));
    this.objects.set(key, { body, tag: this.tagOf(body), headers: Object.fromEntries(own) as Record<string, string> });
    kept(this.tagOf(body));
  }

  private upload(url: URL, key: string, headers: IncomingMessage['headers'], response: ServerResponse): void {
    const id = url.searchParams.get('uploadId');
    if (id === null) {
      const made = randomUUID();
      this.uploads.set(made, new Map());
      return xml(
        response,
        `<InitiateMultipartUploadResult><UploadId>${made}</UploadId></InitiateMultipartUploadResult>`,
      );
    }
    const parts = [...(this.uploads.get(id) ?? new Map<number, Buffer>())].sort(([a], [b]) => a - b);
    const body = Buffer.concat(parts.map(([, part]) => part));
    this.keep(key, headers, body, response, (tag) =>
      xml(
        response,
        `<CompleteMultipartUploadResult><ETag>${tag.replaceAll('"', '&quot;')}</ETag></CompleteMultipartUploadResult>`,
      ),
    );
  }

  private read(method: string, key: string, range: string | undefined, response: ServerResponse): void {
    const held = this.objects.get(key);
    if (!held) return fail(response, 404, 'NoSuchKey', undefined, method);
    const asked = this.dialect.ranges === 'ignored' ? undefined : range;
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(asked ?? '') ?? [];
    const part = from === undefined ? held.body : held.body.subarray(Number(from), Number(to) + 1);
    response.writeHead(from === undefined ? 200 : 206, {
      ...held.headers,
      etag: held.tag,
      'content-length': part.length,
      ...(from !== undefined && { 'content-range': `bytes ${from}-${to}/${held.body.length}` }),
    });
    response.end(method === 'HEAD' ? undefined : part);
  }

  private list({ searchParams }: URL, response: ServerResponse): void {
    const { pages = 'token', startAfter = 'kept' } = this.dialect;
    const prefix = searchParams.get('prefix') ?? '';
    const behind =
      searchParams.get('continuation-token') ?? (startAfter === 'kept' ? searchParams.get('start-after') : null) ?? '';
    const keys = [...this.objects.keys()].filter((key) => key.startsWith(prefix) && key > behind).sort();
    const page = keys.slice(0, PAGE);
    const more = keys.length > PAGE;
    const next = {
      token: `<NextContinuationToken>${page.at(-1)}</NextContinuationToken>`,
      marker: `<NextMarker>${page.at(-1)}</NextMarker>`,
      truncated: '',
    }[pages];
    const contents = page.map(
      (key) => `<Contents><Key>${key}</Key><Size>${this.objects.get(key)?.body.length}</Size></Contents>`,
    );
    xml(
      response,
      `<ListBucketResult><IsTruncated>${more}</IsTruncated>${more ? next : ''}${contents.join('')}</ListBucketResult>`,
    );
  }

  private tagOf(body: Buffer): string {
    return this.dialect.tag?.(body) ?? `"${createHash('md5').update(body).digest('hex')}"`;
  }
}

function xml(response: ServerResponse, text: string): void {
  response.writeHead(200, { 'content-type': 'application/xml' }).end(`<?xml version="1.0" encoding="UTF-8"?>${text}`);
}

function fail(response: ServerResponse, status: number, code: string, message = 'm', method = 'GET'): void {
  response.writeHead(status, { 'content-type': 'application/xml' });
  response.end(method === 'HEAD' ? undefined : `<Error><Code>${code}</Code><Message>${message}</Message></Error>`);
}
