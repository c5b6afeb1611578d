/** What the kit throws. Errors that the service answers with have classes of their own, made from its schema. */

/** An error that the service told: `code` is stable, the message is for people. */
export class ServiceError extends Error {
  override readonly name: string = 'ServiceError';

  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** In how many milliseconds the service is to be asked again, where it says so: NaN otherwise. */
export const retryIn = (error: unknown): number => (error as { retryAfterSeconds: number }).retryAfterSeconds * 1000;

/** The service asks for another token. */
export class UnauthorizedError extends Error {
  override readonly name = 'UnauthorizedError';
  readonly code = 'UNAUTHORIZED';

  constructor(what = 'The service does not take this token.') {
    super(`${what} Give createClient a valid one as \`token\`.`);
  }
}

/** The service could not be reached, or the connection broke. */
export class ConnectionError extends Error {
  override readonly name = 'ConnectionError';
  readonly code = 'CONNECTION';

  constructor(what: string, options?: ErrorOptions) {
    super(`${what} Check that the service runs, and that its address is right.`, options);
  }
}

/** The service refused the request itself: a limit, an operation that it does not know, a defect. */
export class RequestError extends Error {
  override readonly name = 'RequestError';
  readonly code = 'REQUEST';

  constructor(
    message: string,
    readonly status?: number,
  ) {
    super(message);
  }
}

/** What ends a stream when its reader or the client closes it. */
export class ClosedError extends Error {
  override readonly name = 'AbortError';
  readonly code = 'CLOSED';

  constructor() {
    super('It was closed.');
  }
}

export const toError = (reason: unknown): Error => (reason instanceof Error ? reason : new Error(String(reason)));
