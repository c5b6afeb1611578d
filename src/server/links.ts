import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Link, MediaLinks } from '../api/links.js';

/** How many caches and reconnects may share one URL: expiries are rounded up to this many seconds. */
const ROUNDING_SECONDS = 3600;

export type Verdict = 'valid' | 'expired' | 'forged';

/**
 * URLs of a session's media, signed so that they work without a header: `?e=<expiry>&s=<HMAC of session and expiry>`.
 * One signature opens one session's files, so that a playlist's entries carry the playlist's own query.
 */
export class SignedLinks implements MediaLinks {
  constructor(
    private readonly secret: string,
    private readonly ttlSeconds: number,
    private readonly now: () => number = Date.now,
    private readonly base = '',
  ) {}

  to(key: string): Link {
    const earliest = this.now() / 1000 + this.ttlSeconds;
    const expiry = Math.ceil(earliest / ROUNDING_SECONDS) * ROUNDING_SECONDS;
    const signature = this.signature(sessionOf(key), String(expiry)).toString('base64url');
    return { url: `${this.base}/${key}?e=${expiry}&s=${signature}`, expiresAt: new Date(expiry * 1000) };
  }

  verify(sessionId: string, query: URLSearchParams): Verdict {
    const expiry = query.get('e') ?? '';
    const given = Buffer.from(query.get('s') ?? '', 'base64url');
    const expected = this.signature(sessionId, expiry);
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) return 'forged';
    return Number(expiry) * 1000 < this.now() ? 'expired' : 'valid';
  }

  private signature(sessionId: string, expiry: string): Buffer {
    return createHmac('sha256', this.secret).update(`${sessionId}\n${expiry}`).digest().subarray(0, 18);
  }
}

function sessionOf(key: string): string {
  const [, id] = /^sessions\/([^/]+)\/./.exec(key) ?? [];
  if (id === undefined) throw new Error(`"${key}" is not a file of a session`);
  return id;
}
