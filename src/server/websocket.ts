import type { IncomingMessage, Server } from 'node:http';
import type { Socket } from 'node:net';
import {
  type DocumentNode,
  type ExecutionArgs,
  type ExecutionResult,
  getOperationAST,
  GraphQLError,
  type GraphQLSchema,
} from 'graphql';
import { handleProtocols, makeServer, type Server as Protocol } from 'graphql-ws';
import { type RawData, type WebSocket, WebSocketServer } from 'ws';
import type { ServerConfig } from './config.js';
import type { Connections } from './connections.js';
import type { Login } from './credentials/authenticator.js';
import type { Credentials } from './credentials/credentials.js';
import { type Edge, type Incoming, type Refusal, UNKNOWN_ORIGIN } from './edge.js';
import { CountingGate } from './gate.js';
import type { Logger } from '../sessions/index.js';
import type { Yoga } from './graphql.js';
import type { Metrics } from './metrics.js';
import { type Operation, Operations } from './operations.js';
import { type RefusalLog, refuseSocket } from './refusals.js';
import type { Turns } from './turns.js';
import { WebSocketClient } from './websocket-client.js';

export interface WebSocketOptions {
  config: ServerConfig;
  edge: Edge;
  credentials: Credentials;
  connections: Connections;
  refusals: RefusalLog;
  turns: Turns;
  yoga: Yoga;
  metrics: Metrics;
  log: Logger;
}

interface Extra {
  address: string;
  client: WebSocketClient;
  socket: WebSocket;
  request: IncomingMessage;
  /** Who it is, once that is known. */
  login?: Login;
  operations: Operations;
  /** What the client waits for, by id: kept by the protocol's library, known when the client has logged in. */
  subscriptions: Readonly<Record<string, unknown>>;
}

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
  const { config, edge, connections, refusals } = options;
  const sockets = new WebSocketServer({
    ...{ noServer: true, perMessageDeflate: false, autoPong: false, handleProtocols },
    maxPayload: Math.max(config.maxBodyBytes, config.maxLoginBytes),
    ...{ maxFragments: config.maxPieces, maxBufferedChunks: config.maxPieces },
  });
  const strangers = new CountingGate(config.maxSocketsBeforeLogin);
  const protocol = protocolOf(options);
  const refuse = (socket: Socket, refusal: Refusal, address: string, headers?: string) => {
    refusals.note(refusal, { address });
    refuseSocket(socket, refusal, headers);
  };
  server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    if (connections.answering(socket)) return void socket.destroy(); // Its answer would be written into the WebSocket.
    const arrival = edge.read(request);
    if (!arrival.incoming) return refuse(socket, arrival.refusal, arrival.address);
    const { address } = arrival.incoming;
    const unfit = unfitUpgrade(arrival.incoming);
    if (unfit) return refuse(socket, unfit, address);
    const login = strangers.enter(address);
    if (!login) return refuse(socket, TOO_MANY, address, 'retry-after: 1\r\n');
    socket.once('close', login);
    const operations = new Operations(config.maxOperations);
    sockets.handleUpgrade(request, socket, head, (webSocket) => {
      const client = new WebSocketClient(webSocket, socket, {
        ...config,
        ...{ log: options.log, login, written: (bytes) => connections.written(bytes) },
      });
      connections.upgraded(socket, { idle: () => operations.idle, unfinished: () => client.unfinished }, address);
      open(protocol, { address, client, socket: webSocket, request, operations, subscriptions: {} }, options.metrics);
    });
  });
  // A handshake that its library does not take: closed here, since it would wait for the client to do so.
  sockets.on('wsClientError', (error, socket, request) =>
    refuse(socket as Socket, { ...MALFORMED, message: `${error.message}.` }, request.socket.remoteAddress ?? ''),
  );
  return {
    dispose: async () => {
      for (const client of sockets.clients) client.close(1001, 'Going away');
      const closed = new Promise<void>((resolve) => sockets.close(() => resolve()));
      const insist = setTimeout(() => sockets.clients.forEach((client) => client.terminate()), FAREWELL_MILLISECONDS);
      await closed.finally(() => clearTimeout(insist));
    },
  };
}

/** For the clients to answer a goodbye; a dead one would hold up the stop. */
const FAREWELL_MILLISECONDS = 1000;

const MALFORMED = { status: 400, code: 'BAD_UPGRADE' };
const TOO_MANY = {
  status: 429,
  code: 'TOO_MANY_SOCKETS',
  message: 'Too many unauthenticated WebSockets from this address; send connection_init on the open ones.',
};

function unfitUpgrade({ path, originAllowed, method }: Incoming): Refusal | undefined {
  if (path !== '/graphql')
    return { status: 404, code: 'NOT_FOUND', message: 'No WebSocket at this path; use /graphql.' };
  if (method !== 'GET')
    return { status: 405, code: 'METHOD_NOT_ALLOWED', message: 'A WebSocket must be opened with GET.' };
  return originAllowed ? undefined : UNKNOWN_ORIGIN;
}

function protocolOf({ config, credentials, turns, yoga }: WebSocketOptions): Protocol<Extra> {
  return makeServer<Record<string, unknown>, Extra>({
    connectionInitWaitTimeout: config.loginSeconds * 1000,
    onConnect: async ({ connectionParams, extra, subscriptions }) => {
      extra.subscriptions = subscriptions;
      const login = await credentials.login(connectionParams?.['authorization'], extra.address);
      const { unknownYet } = credentials;
      const again = unknownYet?.message ?? (credentials.waitOf(extra.address) && 'Too many wrong credentials');
      if (!login && again) extra.client.close(TRY_AGAIN_LATER, again);
      if (!login) return false;
      extra.login = login;
      const leave = credentials.watch(
        () => extra.login ?? login,
        () => extra.client.close(FORBIDDEN, 'Forbidden'),
      );
      extra.socket.once('close', leave);
      extra.client.loggedIn();
      return true;
    },
    onSubscribe: async ({ extra }, id, params) => {
      const operation = extra.operations.begin(id);
      if (!operation) {
        return [
          new GraphQLError(
            `At most ${config.maxOperations} operations may run on one WebSocket; complete one first, or wait until it has ended.`,
          ),
        ];
      }
      try {
        await turns.next(extra.address);
        const prepared = operation.left.aborted ? [COMPLETED] : await prepare(yoga, extra, params, operation);
        if (Array.isArray(prepared)) operation.end();
        return prepared;
      } catch (error) {
        operation.end();
        throw error;
      }
    },
    execute: (args: ExecutionArgs) => (args as Running).rootValue.execute(args),
    subscribe: (args: ExecutionArgs) => (args as Running).rootValue.subscribe(args),
  });
}

/** What graphql-ws says to who has no credential, and so to who has none any more. */
const FORBIDDEN = 4403;
const TRY_AGAIN_LATER = 1013;

const COMPLETED = new GraphQLError('The operation was completed before it began.');

function open(protocol: Protocol<Extra>, extra: Extra, metrics: Metrics): void {
  const { client, socket, operations } = extra;
  metrics.sockets.inc();
  const closed = protocol.opened(
    {
      protocol: socket.protocol,
      send: (text) => client.send(text),
      close: (code = 1000, reason = '') => client.close(code, reason),
      onMessage: (take) =>
        socket.on('message', (data: RawData) => {
          client.take(data, take);
          for (const id of operations.keepOnly(extra.subscriptions)) client.completed(id);
        }),
    },
    extra,
  );
  socket.once('close', (code, reason) => {
    metrics.sockets.dec();
    operations.keepOnly({});
    client.settle(closed(code, String(reason)));
  });
}

async function prepare(
  yoga: Yoga,
  extra: Extra,
  params: { query: string; operationName?: string | null; variables?: Record<string, unknown> | null },
  operation: Operation,
) {
  const { schema, execute, subscribe, contextFactory, parse, validate } = yoga.getEnveloped({
    ...{ socket: extra.socket, params },
    req: extra.request,
    left: operation.left,
    login: extra.login as Login,
    address: extra.address,
    socketLogin: extra,
  }) as Enveloped;
  try {
    const document = parse(params.query);
    const errors = validate(schema, document);
    if (errors.length > 0) return [...errors];
    if (!getOperationAST(document, params.operationName)) return [new GraphQLError('Unable to identify operation')];
    return {
      schema,
      document,
      operationName: params.operationName,
      variableValues: params.variables,
      contextValue: await contextFactory(),
      rootValue: ending({ execute, subscribe }, operation),
    };
  } catch (error) {
    if (error instanceof GraphQLError) return [error];
    throw error;
  }
}

type Work = Pick<Enveloped, 'execute' | 'subscribe'>;

/** The same work, which frees its operation's place when it has ended. */
function ending({ execute, subscribe }: Work, { end }: Operation): Work {
  return {
    execute: async (args) => {
      try {
        return await execute(args);
      } finally {
        end();
      }
    },
    subscribe: async (args) => {
      try {
        const events = await subscribe(args);
        if (Symbol.asyncIterator in events) return finishing(events, end);
        end();
        return events;
      } catch (error) {
        end();
        throw error;
      }
    },
  };
}

/** Calls `end` when there are no more events, or nobody wants more. No generator, which could not be left while it waits. */
function finishing<T>(events: AsyncIterableIterator<T>, end: () => void): AsyncIterableIterator<T> {
  const last = (result: IteratorResult<T>) => {
    if (result.done) end();
    return result;
  };
  const failed = (error: unknown) => {
    end();
    throw error;
  };
  const leave = async () => (await events.return?.()) ?? { done: true as const, value: undefined };
  const iterator: AsyncIterableIterator<T> = {
    next: () => events.next().then(last, failed),
    return: () => leave().finally(end),
    [Symbol.asyncIterator]: () => iterator,
  };
  return iterator;
}
