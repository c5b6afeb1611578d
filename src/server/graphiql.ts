import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';

const EXAMPLE = `# A session from a prompt. Press play, choose an operation, copy the id.
mutation Create {
  createSession(input: { prompt: "a red fox runs through tall grass at sunset" }) {
    __typename
    ... on Session { id state playlistUrl }
    ... on Error { code message }
  }
}

# Its stream: variables { "id": "…" }
subscription Watch($id: ID!) {
  sessionStream(sessionId: $id, media: URL) {
    __typename
    ... on FrameChunk { cursor index startSeconds durationSeconds url }
    ... on PromptApplied { cursor prompt block seconds recacheMilliseconds }
    ... on StateChanged { cursor state }
    ... on SessionEnded { cursor state reason }
    ... on Error { code message }
  }
}

# A new prompt while it plays.
mutation Switch($id: ID!) {
  switchPrompt(sessionId: $id, prompt: "the fox jumps into a blue lake") {
    __typename
    ... on SwitchReceipt { id expectedBlock }
    ... on Error { code message }
  }
}
`;

interface Page {
  html: Buffer;
  zipped: Buffer;
  policy: string;
}

let page: Promise<Page> | undefined;

/** Answers with the page; made on first use: it is several megabytes that most runs never need. */
export async function sendGraphiQL(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { html, zipped, policy } = await (page ??= render());
  const zips = /\bgzip\b/.test(String(request.headers['accept-encoding']));
  const bytes = zips ? zipped : html;
  response.writeHead(200, {
    'content-type': 'text/html; charset=utf-8',
    'content-length': bytes.length,
    'cache-control': 'no-cache',
    'content-security-policy': policy,
    'x-frame-options': 'DENY',
    'referrer-policy': 'no-referrer',
    ...(zips ? { 'content-encoding': 'gzip' } : {}),
  });
  response.end(request.method === 'HEAD' ? undefined : bytes);
}

async function render(): Promise<Page> {
  const { renderGraphiQL } = await import('@graphql-yoga/render-graphiql');
  const text = renderGraphiQL({
    title: 'LongLive · GraphiQL',
    defaultQuery: EXAMPLE,
    subscriptionsProtocol: 'SSE',
  });
  const html = Buffer.from(text);
  return { html, zipped: await promisify(gzip)(html), policy: policyOf(text) };
}

/** The scripts that are in the page and no others, talking to this service and nobody else; in no frame. */
function policyOf(html: string): string {
  const scripts = [...html.matchAll(/<script>([\s\S]*?)<\/script>/g)].map(([, script = '']) => script);
  const hashes = scripts.map((script) => `'sha256-${createHash('sha256').update(script).digest('base64')}'`);
  return [
    "default-src 'none'",
    `script-src ${hashes.join(' ')}`,
    "style-src 'unsafe-inline'",
    "img-src 'self' data:",
    'font-src data:',
    'worker-src data: blob:',
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ');
}
