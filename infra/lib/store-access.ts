/**
 * What the service may do in its bucket, from the layout of the keys that it has there. Knows nothing of AWS's toolkit, because
 * a test of the service applies it in front of a real S3 server.
 */
import { ACCESS, DEPLOYMENT, KEY_USES, SESSIONS, STORE_PREFIXES } from '../../src/sessions/stored/keys.js';

export interface Grant {
  actions: string[];
  /** Patterns of keys; none for the bucket itself. */
  keys?: string[];
}

function within(prefixes: readonly string[]): string[] {
  return prefixes.map((prefix) => `${prefix}*`);
}

/**
 * Lists are allowed everywhere in the bucket, where there is nothing else: under a condition on the prefix, S3 answers 403
 * instead of 404 to whoever reads a key that is missing.
 */
export const STORE_GRANTS: Grant[] = [
  { actions: ['s3:ListBucket'] },
  { actions: ['s3:GetObject'], keys: within(STORE_PREFIXES) },
  // Who may call is for the operator to write, with credentials that no server has; servers note when a key was used.
  { actions: ['s3:PutObject'], keys: within([...STORE_PREFIXES.filter((prefix) => prefix !== ACCESS), KEY_USES]) },
  // The secret of a deployment is made once.
  {
    actions: ['s3:DeleteObject'],
    keys: within(STORE_PREFIXES.filter((prefix) => prefix !== DEPLOYMENT && prefix !== ACCESS)),
  },
  // Only videos are large enough for several parts.
  { actions: ['s3:AbortMultipartUpload'], keys: [`${SESSIONS}*`] },
];

/** What a worker may do in the bucket of packages. */
export const PACKAGE_GRANTS: Grant[] = [
  { actions: ['s3:ListBucket'] },
  { actions: ['s3:GetObject'], keys: ['models/*', 'loras/*'] },
];
