/** What AWS makes of a policy, for a proxy in front of an S3-compatible server that has none. */
import type { Grant } from '../../infra/lib/store-access.js';
import type { Asked, Fault } from './faulty-proxy.js';

/** The permission that S3 wants for a request. */
export function actionOf({ method, key, query, headers, listing }: Asked): string {
  if (listing) return 's3:ListBucket';
  if (key === '' || headers['x-amz-copy-source'] !== undefined) return `unforeseen: ${method} ${query.toString()}`;
  if (method === 'GET' || method === 'HEAD') return 's3:GetObject';
  if (method === 'DELETE') return query.has('uploadId') ? 's3:AbortMultipartUpload' : 's3:DeleteObject';
  return 's3:PutObject';
}

export class Policy {
  /** What was asked and not allowed. */
  readonly refused: string[] = [];
  /** What was asked and allowed: `s3:GetObject sessions/*`. */
  readonly used = new Set<string>();

  constructor(private readonly grants: Grant[]) {}

  /** As a fault of the proxy. */
  readonly judge = (asked: Asked): Fault | undefined => {
    const action = actionOf(asked);
    for (const { actions, keys } of this.grants) {
      if (!actions.includes(action)) continue;
      const matching = keys ? keys.find((pattern) => matches(pattern, asked.key)) : asked.key === '' && 'bucket';
      if (!matching) continue;
      this.used.add(`${action} ${matching}`);
      return undefined;
    }
    this.refused.push(`${action} ${asked.key}`);
    return { status: 403, code: 'AccessDenied' };
  };
}

function matches(pattern: string, key: string): boolean {
  return pattern.endsWith('*') ? key.startsWith(pattern.slice(0, -1)) : key === pattern;
}
