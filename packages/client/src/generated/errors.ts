// Made from schema/schema.graphql by `npm run schema`; do not edit.
import { ServiceError } from '../errors.js';
/** A limit is reached for now; the message says which. */
export class AtCapacityError extends ServiceError {
  override readonly name = 'AtCapacityError';
  declare readonly code: 'AT_CAPACITY';
  /** When trying again makes sense. */
  readonly retryAfterSeconds: number;
  constructor(told: { code: 'AT_CAPACITY'; message: string; retryAfterSeconds: number }) {
    super(told.code, told.message);
    this.retryAfterSeconds = told.retryAfterSeconds;
  }
}

/** The request conflicts with what already exists or is under way. */
export class ConflictError extends ServiceError {
  override readonly name = 'ConflictError';
  declare readonly code: 'CONFLICT';

  constructor(told: { code: 'CONFLICT'; message: string }) {
    super(told.code, told.message);
  }
}

/** The credential may not do this: it lacks a scope, which the message names. */
export class ForbiddenError extends ServiceError {
  override readonly name = 'ForbiddenError';
  declare readonly code: 'FORBIDDEN';

  constructor(told: { code: 'FORBIDDEN'; message: string }) {
    super(told.code, told.message);
  }
}

/** An argument cannot be used. */
export class InvalidInputError extends ServiceError {
  override readonly name = 'InvalidInputError';
  declare readonly code: 'INVALID_INPUT';
  /** The offending argument, in the words of the request: `timeline[1].prompt`. */
  readonly field: string | null;
  constructor(told: { code: 'INVALID_INPUT'; message: string; field: string | null }) {
    super(told.code, told.message);
    this.field = told.field;
  }
}

/** There is no such session, artifact, export or receipt. */
export class NotFoundError extends ServiceError {
  override readonly name = 'NotFoundError';
  declare readonly code: 'NOT_FOUND';

  constructor(told: { code: 'NOT_FOUND'; message: string }) {
    super(told.code, told.message);
  }
}

/** The caller, its tenant or its address has used what it may for now; the message says what and how much. */
export class RateLimitError extends ServiceError {
  override readonly name = 'RateLimitError';
  declare readonly code: 'RATE_LIMIT';
  /** When it may do so again. */
  readonly retryAfterSeconds: number;
  constructor(told: { code: 'RATE_LIMIT'; message: string; retryAfterSeconds: number }) {
    super(told.code, told.message);
    this.retryAfterSeconds = told.retryAfterSeconds;
  }
}

/** The session has ended; nothing about it can change any more. */
export class SessionEndedError extends ServiceError {
  override readonly name = 'SessionEndedError';
  declare readonly code: 'ENDED';

  constructor(told: { code: 'ENDED'; message: string }) {
    super(told.code, told.message);
  }
}

/** A part of the service is unavailable: model package, object store, engine, encoder, or this server. */
export class UnavailableError extends ServiceError {
  override readonly name = 'UnavailableError';
  declare readonly code:
    | 'ENCODER_UNAVAILABLE'
    | 'ENGINE'
    | 'MEDIA'
    | 'MODEL_UNAVAILABLE'
    | 'OWNED_ELSEWHERE'
    | 'POLICY'
    | 'SHUTTING_DOWN'
    | 'STORAGE';

  constructor(told: {
    code:
      | 'ENCODER_UNAVAILABLE'
      | 'ENGINE'
      | 'MEDIA'
      | 'MODEL_UNAVAILABLE'
      | 'OWNED_ELSEWHERE'
      | 'POLICY'
      | 'SHUTTING_DOWN'
      | 'STORAGE';
    message: string;
  }) {
    super(told.code, told.message);
  }
}

/** Every error that the service answers with; `switch (error.code)` narrows it. */
export type AnyServiceError =
  | AtCapacityError
  | ConflictError
  | ForbiddenError
  | InvalidInputError
  | NotFoundError
  | RateLimitError
  | SessionEndedError
  | UnavailableError;
