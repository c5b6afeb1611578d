import { DomainError, type DomainErrorCode } from '../sessions/index.js';
import { builder } from './builder.js';
import type { ApiContext } from './context.js';
import { withoutPaths } from './redact.js';

/**
 * Expected failures as members of result unions. Each class is one GraphQL type; the domain's codes choose the class.
 * Not an `Error`: graphql-js would take a returned one for a failed field instead of a value.
 */
export abstract class ApiError {
  readonly code: DomainErrorCode;
  readonly message: string;

  constructor(readonly error: DomainError) {
    this.code = error.code;
    this.message = withoutPaths(error.message);
  }
}

export class InvalidInputError extends ApiError {}
export class NotFoundError extends ApiError {}
export class ForbiddenError extends ApiError {}
export class ConflictError extends ApiError {}
export class SessionEndedError extends ApiError {}
export class AtCapacityError extends ApiError {}
export class RateLimitError extends ApiError {}
export class UnavailableError extends ApiError {}

/** Of what asks for a prompt or changes one that waits. */
export const PROMPT_FAILURES = [
  InvalidInputError,
  ForbiddenError,
  NotFoundError,
  ConflictError,
  SessionEndedError,
  AtCapacityError,
  RateLimitError,
  UnavailableError,
];

type ErrorClass = new (error: DomainError) => ApiError;

const CLASSES: Record<DomainErrorCode, ErrorClass> = {
  INVALID_INPUT: InvalidInputError,
  NOT_FOUND: NotFoundError,
  FORBIDDEN: ForbiddenError,
  CONFLICT: ConflictError,
  ENDED: SessionEndedError,
  AT_CAPACITY: AtCapacityError,
  RATE_LIMIT: RateLimitError,
  MODEL_UNAVAILABLE: UnavailableError,
  STORAGE: UnavailableError,
  ENGINE: UnavailableError,
  MEDIA: UnavailableError,
  ENCODER_UNAVAILABLE: UnavailableError,
  POLICY: UnavailableError,
  SHUTTING_DOWN: UnavailableError,
  OWNED_ELSEWHERE: UnavailableError,
};

/** The union member for a domain failure; anything else is a bug and is thrown again, to be masked. */
export function toApiError(error: unknown, { failed }: Pick<ApiContext, 'failed'>): ApiError {
  if (!(error instanceof DomainError)) throw error;
  failed(error);
  return new CLASSES[error.code](error);
}

/** Wraps a resolver so that domain failures become members of the field's result union. */
export function answering<Root, Args, Result>(
  resolve: (root: Root, args: Args, context: ApiContext) => Result | Promise<Result>,
) {
  return async (root: Root, args: Args, context: ApiContext): Promise<Result> => {
    try {
      return await resolve(root, args, context);
    } catch (error) {
      // eslint-disable-next-line @typescript-eslint/only-throw-error -- the errors plugin takes what is thrown
      throw toApiError(error, context);
    }
  };
}

/** For `node(id:)`, where what does not exist is null. */
export function absent(error: unknown): null {
  if (error instanceof DomainError && error.code === 'NOT_FOUND') return null;
  throw error;
}

const ErrorCode = builder.enumType('ErrorCode', {
  description: 'Stable: codes are added, never given another meaning.',
  values: {
    INVALID_INPUT: { description: 'An argument is empty, too long, out of range, or contradicts another one.' },
    NOT_FOUND: { description: 'There is no such session, receipt or artifact.' },
    FORBIDDEN: { description: 'The credential does not have the scope that this needs; the message names it.' },
    CONFLICT: {
      description: 'The request conflicts with existing state, e.g. an idempotency key reused with different input.',
    },
    ENDED: { description: 'The session has ended and cannot change any more.' },
    AT_CAPACITY: { description: 'No free device, memory held by models in use, or subscriber limit reached.' },
    RATE_LIMIT: { description: 'The caller, its tenant or its address has used what it may for now.' },
    MODEL_UNAVAILABLE: { description: 'The model package is not installed, or is damaged.' },
    STORAGE: { description: 'The object store refused or could not be reached.' },
    ENGINE: { description: 'The device or the native core failed.' },
    MEDIA: { description: 'The video encoder failed.' },
    ENCODER_UNAVAILABLE: {
      description: 'The session uses a video encoder that this server lacks; the message names it.',
    },
    POLICY: { description: 'Whether the prompt is allowed cannot be found out now.' },
    SHUTTING_DOWN: { description: 'This server is shutting down; try again to reach another.' },
    OWNED_ELSEWHERE: {
      description: 'Another server, named in the message, generates the session and cannot be reached from this one.',
    },
  } satisfies Record<DomainErrorCode, object>,
});

const ErrorInterface = builder.interfaceRef<ApiError>('Error').implement({
  description: 'An expected failure. The message is for people: it says what is wrong and what to do.',
  fields: (t) => ({
    code: t.expose('code', { description: 'What kind of failure it is; for programs.', type: ErrorCode }),
    message: t.exposeString('message', { description: 'What is wrong and what to do; for people.' }),
  }),
});

builder.objectType(InvalidInputError, {
  name: 'InvalidInputError',
  description: 'An argument cannot be used.',
  interfaces: [ErrorInterface],
  fields: (t) => ({
    field: t.string({
      nullable: true,
      description: 'The offending argument, in the words of the request: `timeline[1].prompt`.',
      resolve: ({ error }) => error.field,
    }),
  }),
});
builder.objectType(NotFoundError, {
  name: 'NotFoundError',
  description: 'There is no such session, artifact, export or receipt.',
  interfaces: [ErrorInterface],
});
builder.objectType(ForbiddenError, {
  name: 'ForbiddenError',
  description: 'The credential may not do this: it lacks a scope, which the message names.',
  interfaces: [ErrorInterface],
});
builder.objectType(ConflictError, {
  name: 'ConflictError',
  description: 'The request conflicts with what already exists or is under way.',
  interfaces: [ErrorInterface],
});
builder.objectType(SessionEndedError, {
  name: 'SessionEndedError',
  description: 'The session has ended; nothing about it can change any more.',
  interfaces: [ErrorInterface],
});
builder.objectType(AtCapacityError, {
  name: 'AtCapacityError',
  description: 'A limit is reached for now; the message says which.',
  interfaces: [ErrorInterface],
  fields: (t) => ({
    retryAfterSeconds: t.float({
      description: 'When trying again makes sense.',
      resolve: ({ error }) => error.retryAfterSeconds ?? 5,
    }),
  }),
});
builder.objectType(RateLimitError, {
  name: 'RateLimitError',
  description:
    'The caller, its tenant or its address has used what it may for now; the message says what and how much.',
  interfaces: [ErrorInterface],
  fields: (t) => ({
    retryAfterSeconds: t.float({
      description: 'When it may do so again.',
      resolve: ({ error }) => error.retryAfterSeconds ?? 5,
    }),
  }),
});
builder.objectType(UnavailableError, {
  name: 'UnavailableError',
  description: 'A part of the service is unavailable: model package, object store, engine, encoder, or this server.',
  interfaces: [ErrorInterface],
});
