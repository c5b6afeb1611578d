/** Connections to a Valkey or Redis server. Every wait has an end: what does not answer in time fails, and is tried anew. */

import { Redis, type RedisOptions } from 'ioredis';

export interface Timing {
  /** A server that gives no sign for so long is dead, and a route that nobody renews is gone. */
  leaseMs: number;
  /** Between two signs, and between two renewals. */
  renewMs: number;
  /** Between two looks at the others. */
  lookMs: number;
  /** For a connection to be made, and for a command to be answered. */
  commandMs: number;
  /** How long an answer of another server is waited for before it is asked again. */
  resendMs: number;
  /** How long it is waited for altogether. */
  answerMs: number;
}

export const TIMING: Timing = {
  leaseMs: 6_000,
  renewMs: 2_000,
  lookMs: 1_000,
  commandMs: 2_000,
  resendMs: 2_000,
  answerMs: 12_000,
};

/** How long a reader waits for something to come before it asks again, in milliseconds. */
export const BLOCK_MS = 1_000;

const LONGEST_PAUSE_MS = 1_000;

/** Begins to connect, and does so again whenever the connection ends. */
export function connect(url: string, { commandMs }: Timing, more: RedisOptions = {}): Redis {
  const connection = new Redis(url, {
    connectTimeout: commandMs,
    commandTimeout: commandMs,
    // Half-open connections end, too: a reader hears something at least every BLOCK_MS.
    socketTimeout: commandMs + BLOCK_MS,
    retryStrategy: (attempt) => Math.min(50 * attempt, LONGEST_PAUSE_MS),
    // After a fail-over the old primary only reads.
    reconnectOnError: ({ message }) => message.startsWith('READONLY'),
    // What cannot be sent now fails now: whoever asked decides what comes of that.
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    // Its own loading of a data set is no reason to wait longer than for anything else.
    maxLoadingRetryTime: LONGEST_PAUSE_MS,
    ...more,
  });
  // Commands say what is wrong; an 'error' that nobody hears would end the process.
  connection.on('error', () => undefined);
  return connection;
}
