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
  UNUSABLE: 'the server lacks an operation of S3 that the service needs: use one that has it',
};

interface Meaning {
  names: readonly string[];
  statuses?: readonly number[];
  code: StoreErrorCode;
  /** What is wrong and what to do, where it is more than the code says. */
  hint?: string;
}

/** By name, as S3, MinIO, Ceph, R2, B2, Wasabi and Google call it, or by status. The first that fits. */
const MEANINGS: readonly Meaning[] = [
  { names: ['NoSuchBucket'], code: 'UNREACHABLE', hint: 'there is no such bucket: check its name and the endpoint' },
  {
    names: ['RequestTimeTooSkewed', 'RequestExpired'],
    code: 'DENIED',
    hint: "access denied: this machine's clock differs from the server's; set it, for example by NTP",
  },
  {
    names: ['ExpiredToken', 'ExpiredTokenException', 'TokenRefreshRequired', 'InvalidToken'],
    code: 'DENIED',
    hint: 'access denied: the credentials have expired; renew them',
  },
  {
    names: ['InvalidAccessKeyId'],
    code: 'DENIED',
    hint: 'access denied: the server does not know this access key; check it, and the endpoint',
  },
  {
    names: ['SignatureDoesNotMatch'],
    code: 'DENIED',
    hint: 'access denied: the secret key is wrong, or a proxy changes requests (it has to keep the Host header)',
  },
  {
    names: [
      ...['QuotaExceeded', 'XMinioStorageFull', 'XMinioAdminBucketQuotaExceeded', 'InsufficientStorage'],
      ...['StorageQuotaExceeded', 'StorageLimitExceeded', 'CapExceeded'],
    ],
    statuses: [507],
    code: 'NO_SPACE',
  },
  { names: ['KeyTooLongError', 'XMinioInvalidObjectName'], code: 'INVALID_KEY' },
  {
    names: ['PermanentRedirect', 'TemporaryRedirect'],
    statuses: [301, 302, 307, 308],
    code: 'UNREACHABLE',
    hint: 'the server redirects to another address: check s3Endpoint (LONGLIVE_S3_ENDPOINT) and s3Region (LONGLIVE_S3_REGION)',
  },
  { names: ['CredentialsProviderError', 'AccessDenied'], statuses: [401, 403], code: 'DENIED' },
  {
    names: ['MethodNotAllowed'],
    statuses: [405],
    code: 'DENIED',
    hint: 'access denied: the server does not let this be done to the object; check the bucket policy, and whether objects are locked',
  },
  {
    names: ['AbortError', 'TimeoutError'],
    code: 'UNREACHABLE',
    hint: 'the server did not answer in time: check the endpoint and the network',
  },
  { names: [], statuses: [404], code: 'NOT_FOUND' },
  { names: [], statuses: [412], code: 'CONFLICT' },
  { names: ['NotImplemented'], statuses: [501], code: 'UNUSABLE' },
  {
    names: [
      'SlowDown',
      'SlowDownRead',
      'SlowDownWrite',
      'ServiceUnavailable',
      'TooManyRequests',
      'RequestLimitExceeded',
    ],
    statuses: [429, 503],
    code: 'UNREACHABLE',
    hint: 'the server has too much to do just now; it is asked again later',
  },
  {
    names: ['InternalError'],
    statuses: [500, 502, 504],
    code: 'UNREACHABLE',
    hint: 'the server, or a proxy in front of it, has an error; it is asked again later',
  },
];

/** Codes of S3 for "somebody writes this object right now": documented as to be tried again. */
const BUSY = ['ConditionalRequestConflict', 'OperationAborted'];

/** The fields that the SDK's errors have in common. */
interface S3Failure {
  name?: string;
  message?: string;
  /** Of AuthorizationHeaderMalformed: where the bucket is. */
  Region?: string;
  /** Of a redirect: where to ask. */
  Endpoint?: string;
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
  const status = $metadata?.httpStatusCode;
  const { code, hint = HINTS[code] } = meaningOf(name, status);
  const { Endpoint } = error as S3Failure;
  const said = NAMELESS.test(name) && status !== undefined ? [`HTTP ${status}`] : [name, message];
  const words = [...said, ...(Endpoint === undefined ? [] : [`Endpoint ${Endpoint}`])].filter(Boolean).map(plain);
  return new StoreError(code, `${key}: ${hint} (${words.join(': ')})`, { cause: error });
}

/** Words of a server that may be anybody's, for a log and a terminal. */
function plain(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}]+/gu, ' ').slice(0, MOST_WORDS);
}

const MOST_WORDS = 500;

/** A conditional write that the server does not know, said as what it is; everything else unchanged. */
export function conditionalWriteError(error: unknown, key: string): unknown {
  if (!(error instanceof StoreError) || !refusesConditions(causeOf(error) ?? {})) return error;
  return new StoreError('UNUSABLE', `${key}: ${NO_CONDITIONAL_WRITES}`, { cause: error.cause });
}

function refusesConditions({ name = '', message = '', $metadata }: S3Failure): boolean {
  const status = $metadata?.httpStatusCode;
  return status === 501 || name === 'NotImplemented' || (status === 400 && /if-(?:none-)?match/i.test(message));
}

/** The server asks to try the same write again. */
export function isBusy(error: unknown): boolean {
  const failure = causeOf(error);
  if (failure?.$metadata?.httpStatusCode !== 409) return false;
  return BUSY.includes(failure.name ?? '') || !/^(Bucket|Invalid)/.test(failure.name ?? '');
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

function meaningOf(name: string, status = 0): Pick<Meaning, 'code' | 'hint'> {
  const named = MEANINGS.find(({ names }) => names.includes(name));
  const numbered = MEANINGS.find(({ statuses = [] }) => statuses.includes(status));
  // An error inside the server is no more than its status says.
  return (name === 'InternalError' ? numbered : undefined) ?? named ?? numbered ?? { code: 'UNREACHABLE' };
}
