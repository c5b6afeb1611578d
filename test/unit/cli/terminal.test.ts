import { expect, test } from 'vitest';
import { printable, printableLines } from '../../../src/cli/terminal.js';

test('what a terminal would obey is shown instead', () => {
  expect(printable('a\u001b[2Jb\rc\nd\u009be\u202ef\u0007')).toBe(
    'a\\u001b[2Jb\\u000dc\\u000ad\\u009be\\u202ef\\u0007',
  );
  expect(printable('Füchse, 狐, 🦊 – ok')).toBe('Füchse, 狐, 🦊 – ok');
  expect(printableLines('one\ntwo\u001b]0;x')).toBe('one\ntwo\\u001b]0;x');
});
