import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { pictureSide } from '../../../src/import/sampling.js';

test("a picture's side has the native core's limit", () => {
  const header = readFileSync(new URL('../../../native/include/longlive/types.h', import.meta.url), 'utf8');
  const [, least, most, step] =
    /kLeastSide = (\d+), kMostSide = (\d+), kSideStep = (\d+)/.exec(header)?.map(Number) ?? [];
  const fits = (side: number) => pictureSide.safeParse(side).success;
  expect(fits(least!) && fits(most!)).toBe(true);
  expect(fits(least! - step!) || fits(most! + step!) || fits(least! + 1)).toBe(false);
});
