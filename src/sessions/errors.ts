/** Why a request was refused or a session failed. A stable contract: add codes, never change what one means. */
export type DomainErrorCode =
  | 'INVALID_INPUT'
  | 'NOT_FOUND'
  /** The caller's credential does not have the scope that this needs. */
  | 'FORBIDDEN'
  /** The request contradicts what is already there, e.g. an idempotency key reused with other input. */
  | 'CONFLICT'
  /** The session has ended and cannot change any more. */
  | 'ENDED'
  | 'AT_CAPACITY'
  /** The caller, or whoever it belongs to, has used what it may for now. */
  | 'RATE_LIMIT'
  | 'MODEL_UNAVAILABLE'
  /** The object store refused or could not be reached. */
  | 'STORAGE'
  /** The device or the native core failed. */
  | 'ENGINE'
  /** The video encoder failed. */
  | 'MEDIA'
  /** The session began with a video encoder that is not here. */
  | 'ENCODER_UNAVAILABLE'
  /** Nobody says whether a prompt is allowed. */
  | 'POLICY'
  /** This server is going away; try again, another one will answer. */
  | 'SHUTTING_DOWN'
  /** Another server generates the session, and it cannot be reached from this one; ask that one. */
  | 'OWNED_ELSEWHERE';

export interface DomainErrorDetails {
  /** The offending input field of INVALID_INPUT, in the words of the request: `timeline[1].prompt`. */
  field?: string;
  /** When trying again makes sense after AT_CAPACITY and RATE_LIMIT. */
  retryAfterSeconds?: number;
  /** Who has the session, for OWNED_ELSEWHERE. */
  owner?: SessionOwner;
  cause?: unknown;
}

export interface SessionOwner {
  serverId: string;
  /** Absent when the session was made by a release that did not note it. */
  since?: Date;
}

/** An expected failure: its message is written for the person who sent the request and says what to do. */
export class DomainError extends Error {
  readonly field: string | undefined;
  readonly retryAfterSeconds: number | undefined;
  readonly owner: SessionOwner | undefined;

  constructor(
    readonly code: DomainErrorCode,
    message: string,
    details: DomainErrorDetails = {},
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'DomainError';
    this.field = details.field;
    this.retryAfterSeconds = details.retryAfterSeconds;
    this.owner = details.owner;
  }
}

/** What the engine was to go on from is damaged, or not of this session: an earlier checkpoint may do. */
export class UnusableCheckpoint extends DomainError {
  constructor(problem: string, cause?: unknown) {
    super('ENGINE', `The session cannot go on from its checkpoint: ${problem}.`, { cause });
    this.name = 'UnusableCheckpoint';
  }
}

export function invalid(field: string, message: string): DomainError {
  return new DomainError('INVALID_INPUT', message, { field });
}
