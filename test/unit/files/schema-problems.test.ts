import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { problemsOf } from '../../../src/files/schema-problems.js';

const schema = z.strictObject({
  formatVersion: z.literal(1),
  name: z.string().max(5),
  created: z.iso.datetime().optional(),
  sizes: z.array(z.number().min(1)).min(1).optional(),
  kind: z.enum(['a', 'b']).optional(),
  part: z.discriminatedUnion('type', [z.object({ type: z.literal('x') })]).optional(),
  even: z
    .number()
    .refine((n) => n % 2 === 0, 'must be even')
    .optional(),
});

function told(value: unknown): string {
  const parsed = schema.safeParse(value);
  return parsed.success ? '' : problemsOf(parsed.error, value);
}

describe('what is wrong with a JSON file', () => {
  const GOOD = { formatVersion: 1, name: 'ink' };

  it.each<[unknown, string]>([
    [{ formatVersion: 1 }, 'name is missing'],
    [{ ...GOOD, formatVersion: 2 }, 'formatVersion is 2, but must be 1'],
    [{ ...GOOD, name: 7 }, 'name is 7, but must be a text'],
    [{ ...GOOD, name: 'too long' }, 'name is "too long", but must have at most 5 characters'],
    [{ ...GOOD, sizes: [] }, 'sizes is a list of 0, but must have at least 1 entry'],
    [{ ...GOOD, sizes: [1, 0] }, 'sizes[1] is 0, but must be at least 1'],
    [{ ...GOOD, sizes: {} }, 'sizes is an object, but must be a list'],
    [{ ...GOOD, kind: 'c' }, 'kind is "c", but must be "a" or "b"'],
    [{ ...GOOD, created: 'today' }, 'created is "today", but must be a date and time, such as 2026-01-31T12:00:00Z'],
    [{ ...GOOD, part: { type: 'y' } }, 'part.type is "y", which is not valid'],
    [{ ...GOOD, even: 3 }, 'even is 3: must be even'],
    [{ ...GOOD, extra: 1, more: 2 }, 'unknown keys "extra", "more"'],
    [[], 'the content is a list of 0, but must be an object'],
    [undefined, 'the content is missing'],
  ])('%j: %s', (value, sentence) => {
    expect(told(value)).toBe(sentence);
  });

  it('begins with what is wrong rather than with what is missing', () => {
    expect(told({ kind: 'c' })).toBe('kind is "c", but must be "a" or "b"; formatVersion is missing; name is missing');
  });

  it('ends somewhere, on one line', () => {
    expect(told({ ...GOOD, sizes: new Array(9).fill(0) })).toMatch(
      /sizes\[4\] is 0, but must be at least 1; and 4 more$/,
    );
    const key = `a\n${String.fromCharCode(27)}[31m`.repeat(100);
    expect(told({ ...GOOD, [key]: 1 })).toMatch(/^unknown key "[ -~]+…$/);
  });
});
