import {
  type DocumentNode,
  type ExecutionArgs,
  type ExecutionResult,
  getOperationAST,
  GraphQLError,
  parse,
} from 'graphql';
import { createYoga, type Plugin, type YogaServerInstance } from 'graphql-yoga';
import { type ApiContext, schema } from '../api/index.js';
import { type OperationLimits, operationLimits } from './limits.js';
import type { Metrics } from './metrics.js';
import { currentRequestId } from './request.js';

export interface Log {
  debug(details: object, message: string): void;
  info(details: object, message: string): void;
  warn(details: object, message: string): void;
  error(details: object, message: string): void;
}

export interface GraphQLOptions {
  context: ApiContext;
  limits: OperationLimits;
  requestSeconds: number;
  maxBodyBytes: number;
  metrics: Metrics;
  log: Log;
}

export type Yoga = YogaServerInstance<object, ApiContext>;

/** GraphQL over HTTP and SSE; its `getEnveloped` serves the WebSocket with the same limits and masking. */
export function createGraphQL({ context, limits, requestSeconds, maxBodyBytes, metrics, log }: GraphQLOptions): Yoga {
  return createYoga<object, ApiContext>({
    schema,
    context,
    graphqlEndpoint: '/graphql',
    graphiql: false,
    landingPage: false,
    cors: false,
    multipart: false,
    batching: false,
    maxRequestBodySize: maxBodyBytes,
    maskedErrors: { maskError: (error) => mask(error, log) },
    logging: {
      debug: (...parts: unknown[]) => log.debug({ parts }, 'graphql'),
      info: (...parts: unknown[]) => log.debug({ parts }, 'graphql'),
      warn: (...parts: unknown[]) => log.warn({ parts }, 'graphql'),
      error: (...parts: unknown[]) => log.error({ parts, requestId: currentRequestId() }, 'graphql'),
    },
    plugins: [limiting(limits), timing(requestSeconds), counting(metrics)],
  });
}

/** What clients see of an error: their own mistakes as they are, bugs as a request id that the log has too. */
function mask(error: unknown, log: Log): GraphQLError {
  const cause = error instanceof GraphQLError ? error.originalError : error;
  if (error instanceof GraphQLError && (cause === undefined || cause === null || cause instanceof GraphQLError))
    return error;
  const requestId = currentRequestId();
  log.error({ err: cause ?? error, requestId }, 'A resolver failed');
  const at = error instanceof GraphQLError ? { nodes: error.nodes, path: error.path } : {};
  return new GraphQLError(`Something went wrong inside the service (request ${requestId}). The log has the details.`, {
    ...at,
    extensions: { code: 'INTERNAL_SERVER_ERROR', requestId },
  });
}

function limiting(limits: OperationLimits): Plugin {
  const rule = operationLimits(limits);
  return {
    onParse({ setParseFn }) {
      setParseFn((source: string): DocumentNode => parse(source, { maxTokens: limits.maxTokens }));
    },
    onValidate({ addValidationRule }) {
      addValidationRule(rule);
    },
  };
}

function timing(seconds: number): Plugin {
  return {
    onExecute({ executeFn, setExecuteFn }) {
      setExecuteFn((args: ExecutionArgs) => withinTime(Promise.resolve(executeFn(args) as ExecutionResult), seconds));
    },
  };
}

async function withinTime(result: Promise<ExecutionResult>, seconds: number): Promise<ExecutionResult> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<ExecutionResult>((resolve) => {
    timer = setTimeout(() => {
      const message = `The request took longer than ${seconds} seconds; it may still take effect. Ask for the state before repeating it.`;
      resolve({ errors: [new GraphQLError(message, { extensions: { code: 'TIMEOUT', http: { status: 504 } } })] });
    }, seconds * 1000);
  });
  return Promise.race([result, late]).finally(() => clearTimeout(timer));
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
