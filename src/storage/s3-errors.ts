/** What the answers of S3 and of servers like it mean. */
import { StoreError, type StoreErrorCode } from '../sessions/ports.js';
import { NO_CONDITIONAL_WRITES } from './requirements.js';

const HINTS: Readonly<Record<StoreErrorCode, string>> = {
  NOT_FOUND: 'there is no such object',
  CONFLICT: 'another process has written the object',
  NO_SPACE: 'the store is full or over its quota',
  UNREACHABLE: 'the bucket cannot be reached: check its name, the endpoint and the network',
  DENIED: 'access denied: check the credentials and the bucket policy',
  INVALID_KEY: 'the store does not accept the key',
  UNUSABLE: 'the store does not support a feature that the service needs',
};

/** Codes of S3 for "somebody writes this object right now": documented as to be tried again. */
const BUSY = ['ConditionalRequestConflict', 'OperationAborted'];

/** The fields that the SDK's errors have in common. */
interface S3Failure {
  name?: string;
  message?: string;
  /** Of AuthorizationHeaderMalformed: where the bucket is. */
  Region?: string;
  $metadata?: { httpStatusCode?: number };
  $response?: { headers?: Record<string, string> };
}

/** Turns an error of the SDK into a StoreError. */
export function s3Error(error: unknown, key: string): Error {
  if (error instanceof StoreError) return error;
  const { name = '', message = String(error), $metadata } = error as S3Failure;
  if (name === 'InvalidRange') return new RangeError(`${key}: the range is not within the object`, { cause: error });
  const region = elsewhere(error as S3Failure);
  if (region !== undefined) {
    return new StoreError(
      'UNUSABLE',
      `${key}: the bucket is in the region ${region}: set s3Region (LONGLIVE_S3_REGION) to ${region}`,
      { cause: error },
    );
  }
  const code = codeOf(name, $metadata?.httpStatusCode);
  return new StoreError(code, `${key}: ${HINTS[code]} (${[name, message].filter(Boolean).map(plain).join(': ')})`, {
    cause: error,
  });
}

/** Words of a server that may be anybody's, for a log and a terminal. */
function plain(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}]+/gu, ' ').slice(0, MOST_WORDS);
}

const MOST_WORDS = 500;

/** A conditional write that the server does not know, said as what it is; everything else unchanged. */
export function conditionalWriteError(error: unknown, key: string): unknown {
  if (!(error instanceof StoreError) || statusOf(error) !== 501) return error;
  return new StoreError('UNUSABLE', `${key}: ${NO_CONDITIONAL_WRITES}`, { cause: error.cause });
}

/** The server asks to try the same write again. */
export function isBusy(error: unknown): boolean {
  const failure = causeOf(error);
  if (failure?.$metadata?.httpStatusCode !== 409) return false;
  return BUSY.includes(failure.name ?? '') || !/^(Bucket|Invalid)/.test(failure.name ?? '');
}

function statusOf(error: unknown): number | undefined {
  return causeOf(error)?.$metadata?.httpStatusCode;
}

function causeOf(error: unknown): S3Failure | undefined {
  return error instanceof StoreError ? (error.cause as S3Failure | undefined) : undefined;
}

/** A HEAD has no body to tell what is wrong. */
const NAMELESS = /^(|400|BadRequest|Unknown|UnknownError)$/;

/** Where the bucket is, when not where the request was signed for. */
function elsewhere({ name = '', Region, $metadata, $response }: S3Failure): string | undefined {
  const status = $metadata?.httpStatusCode ?? 0;
  const redirected =
    status === 301 || name === 'AuthorizationHeaderMalformed' || (status === 400 && NAMELESS.test(name));
  const region = Region ?? $response?.headers?.['x-amz-bucket-region'];
  return redirected && region !== undefined && /^[a-z0-9-]{1,40}$/.test(region) ? region : undefined;
}

function codeOf(name: string, status: number | undefined): StoreErrorCode {
  if (name === 'NoSuchBucket') return 'UNREACHABLE';
  if (name === 'QuotaExceeded' || name === 'XMinioStorageFull' || status === 507) return 'NO_SPACE';
  if (name === 'KeyTooLongError') return 'INVALID_KEY';
  if (status === 404) return 'NOT_FOUND';
  if (status === 412) return 'CONFLICT';
  if (status === 401 || status === 403 || name === 'CredentialsProviderError') return 'DENIED';
  if (status === 501) return 'UNUSABLE';
  return 'UNREACHABLE';
}
