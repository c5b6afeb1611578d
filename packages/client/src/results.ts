import { RequestError, ServiceError } from './errors.js';
import type { AnyServiceError } from './generated/errors.js';
import * as ERRORS from './generated/errors.js';

interface Told {
  readonly __typename: string;
  readonly code: string;
  readonly message: string;
}

const isProblem = (value: object): value is Told => 'code' in value && 'message' in value && '__typename' in value;

/** The error of the class that the schema names; of a class that this release does not know, its code and message. */
export function serviceError(told: Told): AnyServiceError | ServiceError {
  const Class = (ERRORS as unknown as Record<string, new (told: never) => AnyServiceError>)[told.__typename];
  return Class ? new Class(told as never) : new ServiceError(told.code, told.message);
}

/** A member of a result union: what was asked for, or else the error is thrown. */
export function unwrap<Result extends object>(result: Result | null | undefined): Exclude<Result, Told> {
  if (!result) throw new RequestError('The service gave no answer.');
  if (isProblem(result)) throw serviceError(result);
  return result as Exclude<Result, Told>;
}
