import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { logStream, printable, printableLines } from '../../../src/cli/terminal.js';

const SOURCES = fileURLToPath(new URL('../../../src', import.meta.url));

test('what a terminal would obey is shown instead', () => {
  expect(printable('a\u001b[2Jb\rc\nd\u009be\u202ef\u0007')).toBe(
    'a\\u001b[2Jb\\u000dc\\u000ad\\u009be\\u202ef\\u0007',
  );
  expect(printable('Füchse, 狐, 🦊 – ok')).toBe('Füchse, 狐, 🦊 – ok');
  expect(printableLines('one\ntwo\u001b]0;x')).toBe('one\ntwo\\u001b]0;x');
});

test('a line of the log is JSON that a terminal shows as it is', () => {
  const lines: string[] = [];
  const log = pino({}, logStream({ write: (line) => lines.push(line) }));
  const file = 'a\u009b2J\u0085b\u2028c\u001b]0;x\u007f';
  log.info({ file }, 'read \u202e');
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatch(/^[\x20-\x7e]+\n$/);
  expect(JSON.parse(lines[0] as string)).toMatchObject({ file, msg: 'read \u202e' });
});

test('what commands write reaches a terminal by one way only', () => {
  const sources = readdirSync(SOURCES, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
  const texts = sources.map((name) => [name, readFileSync(join(SOURCES, name), 'utf8')] as const);
  const direct = texts.filter(([, text]) => /process\.std(?:out|err)\.write|console\.\w+\(/.test(text));
  expect(direct.map(([name]) => name)).toEqual(['cli/terminal.ts']);
  // What a progress bar is told beside numbers is a name of somebody else's.
  const labels = texts
    .filter(([name]) => name.startsWith('cli/'))
    .flatMap(([, text]) => text.match(/\.(?:increment|update)\([^)]*\{ file[^)]*/g) ?? []);
  expect(labels.every((label) => label.includes('printable('))).toBe(true);
});
