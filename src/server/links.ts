import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Link, MediaLinks } from '../api/links.js';

/** How many caches and reconnects may share one URL: expiries are rounded up to this many seconds. */
const ROUNDING_SECONDS = 3600;

export type Verdict = { outcome: 'valid'; expiry: number; secondsLeft: number } | { outcome: 'expired' | 'forged' };

/**
 * URLs of a session's media, signed so that they work without a header: `?e=<expiry>&s=<signature>` opens the files of one
 * session, so that a playlist's entries carry the playlist's own query; `?e=<expiry>&f=<signature>` opens one file, such as
 * a chunk that a fork inherited. Only the text that was handed out is taken, and nothing of a request goes into an answer.
 */
export class SignedLinks implements MediaLinks {
  constructor(
    private readonly secret: string,
    private readonly ttlSeconds: number,
    private readonly now: () => number = Date.now,
    private readonly base = '',
  ) {}

  to(key: string): Link {
    const expiry = this.nextExpiry();
    return this.link(key, this.query(sessionOf(key), expiry), expiry);
  }

  file(key: string, expiry = this.nextExpiry()): Link {
    return this.link(key, `?e=${expiry}&f=${this.signature(`file\n${key}`, expiry)}`, expiry);
  }

  /** What opens the files of a session until then. */
  query(sessionId: string, expiry: number): string {
    return `?e=${expiry}&s=${this.signature(sessionId, expiry)}`;
  }

  verify(key: string, query: URLSearchParams): Verdict {
    const [text, ...others] = query.getAll('e');
    if (text === undefined || others.length > 0 || !/^[1-9]\d{0,11}$/.test(text)) return { outcome: 'forged' };
    const expiry = Number(text);
    const signed =
      this.matches(query.getAll('s'), sessionOf(key), expiry) ||
      this.matches(query.getAll('f'), `file\n${key}`, expiry);
    if (!signed) return { outcome: 'forged' };
    const secondsLeft = Math.floor(expiry - this.now() / 1000);
    return secondsLeft < 0 ? { outcome: 'expired' } : { outcome: 'valid', expiry, secondsLeft };
  }

  private nextExpiry(): number {
    return Math.ceil((this.now() / 1000 + this.ttlSeconds) / ROUNDING_SECONDS) * ROUNDING_SECONDS;
  }

  private link(key: string, query: string, expiry: number): Link {
    return { url: `${this.base}/${key}${query}`, expiresAt: new Date(expiry * 1000) };
  }

  /** The text itself is compared: Base64 has several for the same bytes, and some with anything behind them. */
  private matches(given: string[], what: string, expiry: number): boolean {
    const text = Buffer.from(given.length === 1 ? (given[0] as string) : '');
    const expected = Buffer.from(this.signature(what, expiry));
    return text.length === expected.length && timingSafeEqual(text, expected);
  }

  private signature(what: string, expiry: number): string {
    return createHmac('sha256', this.secret)
      .update(`${what}\n${expiry}`)
      .digest()
      .subarray(0, 18)
      .toString('base64url');
  }
}

function sessionOf(key: string): string {
  const [, id] = /^sessions\/([^/]+)\/./.exec(key) ?? [];
  if (id === undefined) throw new Error(`"${key}" is not a file of a session`);
  return id;
}
