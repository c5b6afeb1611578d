import { GraphQLError } from 'graphql';
import { builder } from './builder.js';
import { invalid } from '../sessions/index.js';

builder.scalarType('DateTime', {
  description: 'A moment: ISO 8601 in UTC with milliseconds.',
  serialize: (date) => date.toISOString(),
  parseValue: (value) => {
    const date = new Date(typeof value === 'string' ? value : Number.NaN);
    if (Number.isNaN(date.getTime())) throw new GraphQLError('DateTime must be an ISO 8601 string.');
    return date;
  },
});

builder.scalarType('Base64', {
  description: 'Bytes in the standard Base64 alphabet, with padding.',
  serialize: (bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64'),
  parseValue: (value) => {
    if (typeof value !== 'string') throw new GraphQLError('Base64 must be a string.');
    return Buffer.from(value, 'base64');
  },
});

builder.scalarType('Seed', {
  description: '0 to 2^64-1. Written as a decimal string; read as one, or as an integer up to 2^53-1.',
  serialize: (seed) => seed.toString(),
  parseValue: (value) => {
    if (typeof value === 'string' || typeof value === 'number') return value;
    throw new GraphQLError('Seed must be a decimal string or an integer.');
  },
});

builder.scalarType('Cursor', {
  description: 'A position in the log of one session. Opaque: only the server can compare two.',
  serialize: (cursor) => cursor,
  parseValue: (value) => {
    if (typeof value !== 'string') throw new GraphQLError('Cursor must be a string.');
    return value;
  },
});

const LARGEST_SEED = (1n << 64n) - 1n;

/** The value of a Seed argument, or INVALID_INPUT: a range error is data, not a malformed request. */
export function seedFrom(value: string | number): bigint {
  const digits = String(value);
  const inexact = typeof value === 'number' && !Number.isSafeInteger(value);
  if (inexact || !/^\d{1,20}$/.test(digits) || BigInt(digits) > LARGEST_SEED) {
    const advice = inexact ? ' Pass numbers beyond 2^53-1 as a string.' : '';
    throw invalid('seed', `seed must be a whole number from 0 to ${LARGEST_SEED}.${advice}`);
  }
  return BigInt(digits);
}
