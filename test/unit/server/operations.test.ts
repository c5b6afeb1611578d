import { expect, test } from 'vitest';
import { Operations } from '../../../src/server/operations.js';

test('an operation keeps its place until its work has ended, whenever the client completes it', () => {
  const operations = new Operations(2);
  expect(operations.idle).toBe(true);
  const first = operations.begin('1');
  const second = operations.begin('2');
  expect(operations.begin('3')).toBeUndefined();
  expect(operations.keepOnly({ 2: null })).toEqual(['1']);
  expect([first?.left.aborted, second?.left.aborted]).toEqual([true, false]);
  expect(operations.begin('3')).toBeUndefined();
  first?.end();
  first?.end();
  expect(operations.begin('1')?.left.aborted).toBe(false);
  expect(operations.begin('4')).toBeUndefined();
  expect(operations.idle).toBe(false);
});
