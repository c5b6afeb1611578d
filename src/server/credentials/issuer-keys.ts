/** The public keys of an identity provider, as it publishes them (JWKS): fetched now and then, and never as often as strangers would like. */

import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose';
import { collectWithin } from '../../files/body.js';
import { proxyAgent } from '../../files/proxy.js';
import type { Logger } from '../../sessions/index.js';

/** A key that is not known may be new; whatever strangers send, the provider is not asked more often than this, in milliseconds. */
const FETCH_AT_MOST_EVERY = 10_000;
/** How old the keys become, where the provider answers. */
const FRESH_FOR = 300_000;
const LOOK_EVERY = 30_000;
/** For the connection, the answer and all of its body. */
const FETCH_LIMIT = 5_000;
/** A key has a kilobyte, with its certificates some. */
const MOST_BYTES = 512 * 1024;

type FetchKeys = () => Promise<JSONWebKeySet>;

export class IssuerKeys {
  private keys: JWTVerifyGetKey | undefined;
  private fetching: Promise<void> | undefined;
  private askedAt = -Infinity;
  private readAt = -Infinity;
  private troubled = false;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly fetchKeys: FetchKeys,
    private readonly log: Logger,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** Begins to fetch them; whoever needs one waits for it. */
  start(): void {
    void this.fetch();
    this.timer = setInterval(() => {
      if (this.now() - this.readAt >= FRESH_FOR) void this.fetch();
    }, LOOK_EVERY);
    this.timer.unref();
  }

  close(): void {
    clearInterval(this.timer);
  }

  /** Whether any were fetched yet. Once they were, they are taken until there are others. */
  get known(): boolean {
    return this.keys !== undefined;
  }

  /** The key that a token names. Rejects where there is none, or it does not fit the token's algorithm. */
  readonly find: JWTVerifyGetKey = async (header, token) => {
    if (!this.keys) await this.fetch();
    try {
      return await this.among(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      await this.fetch();
      return this.among(header, token);
    }
  };

  private among(...[header, token]: Parameters<JWTVerifyGetKey>): ReturnType<JWTVerifyGetKey> {
    if (!this.keys) throw new errors.JWKSNoMatchingKey();
    return this.keys(header, token);
  }

  /** All who ask meanwhile wait for the same answer. Never rejects. */
  private async fetch(): Promise<void> {
    if (this.fetching) return this.fetching;
    if (this.now() - this.askedAt < FETCH_AT_MOST_EVERY) return;
    this.askedAt = this.now();
    this.fetching = this.fetchNow().finally(() => (this.fetching = undefined));
    return this.fetching;
  }

  private async fetchNow(): Promise<void> {
    try {
      const set = await this.fetchKeys();
      const keys = createLocalJWKSet(set);
      // Nobody means to sign with none: it is told by those who are locked out.
      if (set.keys.length === 0) throw new Error('it has no keys');
      this.keys = keys;
      this.readAt = this.now();
      if (this.troubled) this.log.info({}, "the identity provider's keys (jwtJwks) can be fetched again");
      this.troubled = false;
    } catch (error) {
      if (!this.troubled)
        this.log.error(
          { error },
          "the identity provider's keys (jwtJwks) cannot be fetched; those that are known go on",
        );
      this.troubled = true;
    }
  }
}

/** Asks for the set at an address, through the proxy that the environment names. Redirects are not followed. */
export function keySetAt(address: string, limitMilliseconds = FETCH_LIMIT): FetchKeys {
  return async () => {
    const signal = AbortSignal.timeout(limitMilliseconds);
    let response: IncomingMessage | undefined;
    try {
      response = await get(address, signal);
      if (response.statusCode !== 200) throw new Error(`it was answered with the status ${response.statusCode}`);
      const bytes = await collectWithin(response as AsyncIterable<Uint8Array>, MOST_BYTES);
      if (!bytes) throw new Error(`it has more than ${MOST_BYTES} bytes`);
      return JSON.parse(bytes.toString()) as JSONWebKeySet;
    } catch (error) {
      if (signal.aborted) throw new Error(`it took longer than ${limitMilliseconds} ms`, { cause: error });
      throw error;
    } finally {
      response?.destroy();
    }
  };
}

function get(address: string, signal: AbortSignal): Promise<IncomingMessage> {
  const headers = { accept: 'application/jwk-set+json, application/json', 'accept-encoding': 'identity' };
  const agent = proxyAgent(address);
  return new Promise((resolve, reject) => {
    const send = address.startsWith('https:') ? httpsRequest : httpRequest;
    const request = send(address, { headers, signal, ...(agent && { agent }) }, resolve);
    request.on('error', reject);
    request.end();
  });
}
