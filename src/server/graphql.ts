import { setMaxListeners } from 'node:events';
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  type DocumentNode,
  type ExecutionArgs,
  type ExecutionResult,
  getOperationAST,
  GraphQLError,
  MaxIntrospectionDepthRule,
  OperationTypeNode,
  parse,
} from 'graphql';
import { createLRUCache, createYoga, type Plugin, type YogaServerInstance } from 'graphql-yoga';
import { type ApiContext, schema, withoutPaths } from '../api/index.js';
import { DomainError, type DomainErrorCode, type Logger } from '../sessions/index.js';
import type { Login } from './credentials/authenticator.js';
import type { LoginOfSocket } from './credentials/credentials.js';
import { boundingAnswers } from './answers.js';
import { judge, type OperationLimits } from './limits.js';
import { eventIds } from './event-stream.js';
import type { Metrics } from './metrics.js';
import { currentRequestId } from './request.js';

export interface GraphQLOptions {
  context: (asked: Asked) => ApiContext;
  limits: OperationLimits;
  requestSeconds: number;
  maxBodyBytes: number;
  maxAnswerBytes: number;
  metrics: Metrics;
  log: Logger;
}

/** Texts of operations whose parsed form is kept. */
const CACHED_DOCUMENTS = 128;

/** What whoever serves an operation says of who asks. */
export interface Asked {
  login: Login;
  /** Where it comes from. */
  address: string;
  /** Of a WebSocket. */
  socketLogin?: LoginOfSocket;
}

export type Yoga = YogaServerInstance<Asked, ApiContext>;

/** GraphQL over HTTP and SSE; its `getEnveloped` serves the WebSocket with the same limits and masking. */
export function createGraphQL({
  context,
  limits,
  requestSeconds,
  maxBodyBytes,
  maxAnswerBytes,
  metrics,
  log,
}: GraphQLOptions): Yoga {
  const masked = new WeakSet<object>();
  return createYoga<Asked, ApiContext>({
    schema,
    context: ({ login, address, socketLogin }) => context({ login, address, ...(socketLogin && { socketLogin }) }),
    graphqlEndpoint: '/graphql',
    graphiql: false,
    landingPage: false,
    cors: false,
    multipart: false,
    batching: false,
    parserAndValidationCache: {
      documentCache: createLRUCache({ max: CACHED_DOCUMENTS }),
      errorCache: createLRUCache({ max: CACHED_DOCUMENTS }),
    },
    maxRequestBodySize: maxBodyBytes,
    maskedErrors: {
      maskError: (error) => {
        if (error instanceof Error) masked.add(error);
        return mask(error, log);
      },
    },
    logging: {
      debug: (...parts: unknown[]) => log.debug({ parts }, 'graphql'),
      info: (...parts: unknown[]) => log.debug({ parts }, 'graphql'),
      warn: (...parts: unknown[]) => log.warn({ parts }, 'graphql'),
      error: (...parts: unknown[]) => {
        // Yoga says again what masking has logged, or found to be a mistake of the client.
        if (parts.some((part) => !(part instanceof Error && masked.has(part))))
          log.error({ parts, requestId: currentRequestId() }, 'graphql');
      },
    },
    plugins: [
      parsing(),
      limiting(limits),
      timing(requestSeconds),
      boundingAnswers(maxAnswerBytes),
      counting(metrics),
      eventIds(),
    ],
  });
}

/** What clients see of an error: their own mistakes as they are, bugs as a request id that the log has too. */
function mask(error: unknown, log: Logger): GraphQLError {
  const cause = error instanceof GraphQLError ? error.originalError : error;
  if (error instanceof GraphQLError && (cause === undefined || cause === null || cause instanceof GraphQLError))
    return error;
  const requestId = currentRequestId();
  if (cause instanceof DomainError) {
    noteFailure(log, cause);
    return expected(cause, error);
  }
  log.error({ error: cause ?? error, requestId }, 'A resolver failed');
  const at = error instanceof GraphQLError ? { nodes: error.nodes, path: error.path } : {};
  return new GraphQLError(`Something went wrong inside the service (request ${requestId}). The log has the details.`, {
    ...at,
    extensions: { code: 'INTERNAL_SERVER_ERROR', requestId },
  });
}

/** Failures of ours, not of the request. */
const OWN_FAILURES: ReadonlySet<DomainErrorCode> = new Set(['STORAGE', 'ENGINE', 'MEDIA', 'MODEL_UNAVAILABLE']);

/** What a client is answered with has no paths and no causes: they are in the log, under the id of its request. */
export function noteFailure(log: Logger, error: DomainError): void {
  if (!OWN_FAILURES.has(error.code)) return;
  log.warn({ error, code: error.code, requestId: currentRequestId() }, 'A request could not be served');
}

/** A domain failure where the schema has no result union for it, such as in `nodes` or a page of a session's prompts. */
function expected({ code, message, field, retryAfterSeconds }: DomainError, error: unknown): GraphQLError {
  const at = error instanceof GraphQLError ? { nodes: error.nodes, path: error.path } : {};
  const http = code === 'RATE_LIMIT' ? { http: tooMany(retryAfterSeconds) } : {};
  return new GraphQLError(withoutPaths(message), { ...at, extensions: { code, field, retryAfterSeconds, ...http } });
}

function tooMany(seconds = 1) {
  return { status: 429, headers: { 'retry-after': String(seconds) } };
}

/** Parameters of a GET request that are no JSON are the client's mistake. */
function parsing(): Plugin {
  return {
    onRequestParse({ request, requestParser, setRequestParser }) {
      if (request.method !== 'GET' || !requestParser) return;
      setRequestParser(async (given) => {
        try {
          return await requestParser(given);
        } catch (error) {
          if (!(error instanceof SyntaxError)) throw error;
          throw new GraphQLError('"variables" and "extensions" must be JSON.', {
            extensions: { code: 'BAD_REQUEST', http: { status: 400 } },
          });
        }
      });
    },
  };
}

function limiting(limits: OperationLimits): Plugin {
  const check = async (args: ExecutionArgs): Promise<ExecutionResult | undefined> => {
    const { schema, document, operationName, variableValues } = args;
    const { errors, cost } = judge({ schema, document, operationName, variableValues }, limits);
    if (errors.length > 0) return { errors };
    try {
      await (args.contextValue as Pick<ApiContext, 'spend'>).spend(cost);
      return undefined;
    } catch (error) {
      if (error instanceof DomainError) return { errors: [expected(error, error)] };
      throw error;
    }
  };
  return {
    onParse({ params, setParseFn }) {
      checkLength(String(params.source), limits);
      setParseFn((source: string): DocumentNode => parse(source, { maxTokens: limits.maxTokens }));
    },
    onValidate({ addValidationRule }) {
      addValidationRule(MaxIntrospectionDepthRule);
    },
    async onExecute({ args, setResultAndStopExecution }) {
      const refused = await check(args);
      if (refused) setResultAndStopExecution(refused);
    },
    async onSubscribe({ args, setResultAndStopExecution }) {
      const refused = await check(args);
      if (refused) setResultAndStopExecution(refused);
    },
  };
}

function checkLength(source: string, { maxDocumentBytes }: OperationLimits): void {
  const bytes = Buffer.byteLength(source);
  if (bytes <= maxDocumentBytes) return;
  throw new GraphQLError(
    `The operation's text of ${bytes} bytes exceeds the limit of ${maxDocumentBytes}; pass long values as variables.`,
    { extensions: { code: 'OPERATION_LIMIT', limit: maxDocumentBytes, is: bytes, http: { status: 400, spec: true } } },
  );
}

/**
 * Operations take turns, so that many at once hold up nothing else for longer than one of them; and each has a time, after
 * which its work ends: no field is begun and nothing is read any more. The signal reaches the resolvers in the context.
 */
function timing(seconds: number): Plugin {
  let turn: Promise<unknown> = Promise.resolve();
  return {
    onExecute({ args, executeFn, setExecuteFn, extendContext }) {
      const deadline = new AbortController();
      const { signal } = deadline;
      const stay = endWithClient(args, deadline);
      setMaxListeners(0, signal); // One for each thing that is read at once; the cost bounds them.
      extendContext({ signal } satisfies Partial<ApiContext> as object);
      setExecuteFn(async (prepared: ExecutionArgs) => {
        const timer = setTimeout(() => deadline.abort(), seconds * 1000);
        turn = turn.then(() => nextTurn());
        try {
          await turn;
          return await within(
            signal,
            () => executeFn({ ...prepared, signal } as ExecutionArgs) as Promise<ExecutionResult>,
          );
        } catch (error) {
          if (!signal.aborted) throw error;
          return { errors: [late(seconds)] };
        } finally {
          clearTimeout(timer);
          stay();
        }
      });
    },
  };
}

/**
 * What only reads ends when its client leaves, too; what changes something goes on until its time is over. Gives what to call at the end.
 * No `AbortSignal.any`: one that still has a listener, as the executor leaves it, is never collected.
 */
function endWithClient(
  { document, operationName, contextValue }: ExecutionArgs,
  deadline: AbortController,
): () => void {
  const { request, left = request?.signal } = contextValue as { request?: Request; left?: AbortSignal };
  const reads = getOperationAST(document, operationName)?.operation === OperationTypeNode.QUERY;
  if (!reads || !left) return () => undefined;
  const leave = () => deadline.abort(left.reason);
  if (left.aborted) leave();
  left.addEventListener('abort', leave);
  return () => left.removeEventListener('abort', leave);
}

/** The result, or a rejection as soon as the signal is aborted; whatever is under way then notices on its own. */
async function within<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  signal.throwIfAborted();
  let leave: () => void = () => undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    leave = () => reject(signal.reason as Error);
    signal.addEventListener('abort', leave);
  });
  return Promise.race([Promise.resolve(work()), aborted]).finally(() => signal.removeEventListener('abort', leave));
}

function late(seconds: number): GraphQLError {
  const message = `The request took longer than ${seconds} seconds; a change may still take effect. Check the state before repeating it.`;
  return new GraphQLError(message, { extensions: { code: 'TIMEOUT', http: { status: 504 } } });
}

function counting(metrics: Metrics): Plugin {
  const count = (kind: string, failed: boolean) => metrics.operations.inc({ kind, outcome: failed ? 'error' : 'ok' });
  return {
    onExecute({ args }: { args: ExecutionArgs }) {
      const kind = getOperationAST(args.document, args.operationName)?.operation ?? 'unknown';
      return { onExecuteDone: ({ result }) => count(kind, Boolean((result as ExecutionResult).errors?.length)) };
    },
    onSubscribe: () => ({ onSubscribeResult: ({ result }) => count('subscription', 'errors' in result) }),
  };
}
