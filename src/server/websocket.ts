import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { type DocumentNode, type ExecutionArgs, type ExecutionResult, GraphQLError, type GraphQLSchema } from 'graphql';
import { type Extra, useServer } from 'graphql-ws/use/ws';
import { WebSocketServer } from 'ws';
import type { Yoga } from './graphql.js';
import type { Metrics } from './metrics.js';
import { authorized, originAllowed } from './request.js';

export interface WebSocketOptions {
  yoga: Yoga;
  token: string | undefined;
  origins: readonly string[];
  maxMessageBytes: number;
  /** A client that answers no ping for so long is gone. */
  stallSeconds: number;
  metrics: Metrics;
}

const MAX_OPERATIONS_PER_SOCKET = 32;

/** What Yoga prepares for one operation; its own types leave these open. */
interface Enveloped {
  schema: GraphQLSchema;
  parse(this: void, source: string): DocumentNode;
  validate(this: void, schema: GraphQLSchema, document: DocumentNode): readonly GraphQLError[];
  contextFactory(this: void): unknown;
  execute(this: void, args: ExecutionArgs): Promise<ExecutionResult>;
  subscribe(this: void, args: ExecutionArgs): Promise<AsyncIterableIterator<ExecutionResult> | ExecutionResult>;
}

type Running = ExecutionArgs & { rootValue: Pick<Enveloped, 'execute' | 'subscribe'> };

/** graphql-transport-ws on `/graphql`. The next event is taken from a session only when the socket took the last one. */
export function serveWebSocket(server: Server, options: WebSocketOptions): { dispose(): Promise<void> } {
  const sockets = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: options.maxMessageBytes,
  });
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const refusal = refuse(request, options.origins);
    if (refusal !== undefined) socket.end(`HTTP/1.1 ${refusal}\r\nconnection: close\r\n\r\n`);
    else sockets.handleUpgrade(request, socket, head, (client) => sockets.emit('connection', client, request));
  });
  sockets.on('connection', (client) => {
    options.metrics.sockets.inc();
    client.once('close', () => options.metrics.sockets.dec());
  });
  const served = useServer(
    {
      connectionInitWaitTimeout: 10_000,
      onConnect: ({ connectionParams }) => authorized(options.token, connectionParams?.['authorization']),
      onSubscribe: (context, _id, params) => {
        if (Object.keys(context.subscriptions).length > MAX_OPERATIONS_PER_SOCKET) {
          return [
            new GraphQLError(
              `At most ${MAX_OPERATIONS_PER_SOCKET} operations may run on one socket; complete one first.`,
            ),
          ];
        }
        return prepare(options.yoga, context.extra, params);
      },
      execute: (args: ExecutionArgs) => (args as Running).rootValue.execute(args),
      subscribe: (args: ExecutionArgs) => (args as Running).rootValue.subscribe(args),
    },
    sockets,
    (options.stallSeconds * 1000) / 2,
  );
  return { dispose: async () => served.dispose() };
}

function refuse(request: IncomingMessage, origins: readonly string[]): string | undefined {
  if (new URL(request.url ?? '/', 'http://localhost').pathname !== '/graphql') return '404 Not Found';
  return originAllowed(request, origins) ? undefined : '403 Forbidden';
}

async function prepare(
  yoga: Yoga,
  { socket, request }: Extra,
  params: { query: string; operationName?: string | null; variables?: Record<string, unknown> | null },
) {
  const { schema, execute, subscribe, contextFactory, parse, validate } = yoga.getEnveloped({
    socket,
    req: request,
    params,
  }) as Enveloped;
  try {
    const document = parse(params.query);
    const errors = validate(schema, document);
    if (errors.length > 0) return [...errors];
    return {
      schema,
      document,
      operationName: params.operationName,
      variableValues: params.variables,
      contextValue: await contextFactory(),
      rootValue: { execute, subscribe },
    };
  } catch (error) {
    if (error instanceof GraphQLError) return [error];
    throw error;
  }
}
