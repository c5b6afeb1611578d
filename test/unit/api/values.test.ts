import { describe, expect, test } from 'vitest';
import { formatCursor, localId, parseCursor } from '../../../src/api/ids.js';
import { seedFrom } from '../../../src/api/scalars.js';
import { DomainError } from '../../../src/sessions/index.js';

const refusal = (act: () => unknown): DomainError => {
  try {
    act();
  } catch (error) {
    if (error instanceof DomainError) return error;
  }
  throw new Error('was not refused');
};

describe('seeds', () => {
  test.each([0, 42, 2 ** 53 - 1])('takes the integer %s', (seed) => expect(seedFrom(seed)).toBe(BigInt(seed)));
  test('takes 64 bits as a string', () => expect(seedFrom('18446744073709551615')).toBe(2n ** 64n - 1n));
  test.each(['18446744073709551616', '-1', '1.5', '', 'fox', -1, 0.5])('refuses %s with what is allowed', (seed) => {
    expect(refusal(() => seedFrom(seed))).toMatchObject({ code: 'INVALID_INPUT', field: 'seed' });
  });
  test('says how to pass an integer that JSON would round', () => {
    expect(refusal(() => seedFrom(2 ** 60)).message).toContain('as a string');
  });
});

/** Texts that stand for the same bytes, or for the same number. */
const altered = (cursor: string) => [
  `${cursor}=`,
  `${cursor}\n`,
  ` ${cursor}`,
  Buffer.from('017:abc').toString('base64url'),
];

describe('cursors', () => {
  test('come back as what they were', () => expect(parseCursor('abc', formatCursor('abc', 17))).toBe(17));
  test('of another session are noticed', () => {
    expect(refusal(() => parseCursor('abc', formatCursor('xyz', 17))).message).toContain('another session');
  });
  test.each(['', '17', '%%%', 'x'.repeat(1000), ...altered(formatCursor('abc', 17))])(
    'that nobody handed out are refused: %s',
    (cursor) => {
      expect(refusal(() => parseCursor('abc', cursor))).toMatchObject({ code: 'INVALID_INPUT', field: 'after' });
    },
  );
});

describe('ids', () => {
  test('give the local part', () => expect(localId('Session', 'Session:abc', 'sessionId')).toBe('abc'));
  test.each(['abc', 'Model:abc', 'Session:', ''])('of another type are refused by name: %s', (id) => {
    expect(refusal(() => localId('Session', id, 'sessionId'))).toMatchObject({
      code: 'INVALID_INPUT',
      field: 'sessionId',
    });
  });
});
