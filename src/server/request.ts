import { AsyncLocalStorage } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { errorBody } from './refusals.js';

const current = new AsyncLocalStorage<string>();

/** The id of the HTTP request that the calling code works for; a new one for operations on a WebSocket. */
export function currentRequestId(): string {
  return current.getStore() ?? randomUUID();
}

export function withRequestId<T>(id: string, work: () => T): T {
  return current.run(id, work);
}

/** The client's own id when it is harmless, else a new one. */
export function requestIdOf(request: IncomingMessage): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && /^[\x21-\x7e]{1,128}$/.test(given) ? given : randomUUID();
}

export function sendJson(response: ServerResponse, status: number, body: object): void {
  const bytes = Buffer.from(JSON.stringify(body));
  response.writeHead(status, { 'content-type': 'application/json; charset=utf-8', 'content-length': bytes.length });
  response.end(response.req.method === 'HEAD' ? undefined : bytes);
}

/** An error outside GraphQL, for which nothing of an answer may have been sent. */
export function sendError(response: ServerResponse, status: number, code: string, message: string): void {
  if (response.headersSent) response.destroy();
  else sendJson(response, status, errorBody(code, message));
}
