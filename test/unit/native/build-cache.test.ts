/** A clone of sources that were compiled before takes what came of them, unless that is damaged. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';

const SCRIPT = fileURLToPath(new URL('../../../scripts/build-native.mjs', import.meta.url));
const compiled = 'what a compiler made';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'longlive-cache-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** Sources and a Makefile that notes down how often it compiles. */
function clone(name: string): string {
  const directory = join(root, name);
  mkdirSync(join(directory, 'scripts'), { recursive: true });
  mkdirSync(join(directory, 'native'));
  cpSync(SCRIPT, join(directory, 'scripts', 'build-native.mjs'));
  const recipe = `mkdir -p build/obj; printf '${compiled}' > build/longlive.node; echo >> ${root}/compilations`;
  writeFileSync(join(directory, 'native', 'Makefile'), `all:\n\t@${recipe}\n`);
  for (const headers of ['node-addon-api', 'node-api-headers']) {
    mkdirSync(join(directory, 'node_modules', headers), { recursive: true });
    writeFileSync(join(directory, 'node_modules', headers, 'package.json'), '{}');
  }
  return directory;
}

function build(directory: string): string {
  const { PATH } = process.env;
  const env = { PATH, XDG_CACHE_HOME: join(root, 'cache') };
  return execFileSync(process.execPath, [join(directory, 'scripts', 'build-native.mjs')], { env, encoding: 'utf8' });
}

const compilations = () => readFileSync(join(root, 'compilations'), 'utf8').length;
const addonOf = (directory: string) => readFileSync(join(directory, 'native', 'build', 'longlive.node'), 'utf8');

test('another clone compiles nothing', () => {
  build(clone('first'));
  const second = clone('second');
  expect(build(second)).toContain('compiled before from the same sources');
  expect(addonOf(second)).toBe(compiled);
  expect(compilations()).toBe(1);
});

test.each([
  ['cut short', (bytes: Buffer) => bytes.subarray(0, 4)],
  ['empty', () => Buffer.alloc(0)],
  ['of other bytes', (bytes: Buffer) => Buffer.concat([Buffer.from('W'), bytes.subarray(1)])],
])('what is kept and %s is not taken: it is compiled again, and kept', (_, damage) => {
  build(clone('first'));
  const cache = join(root, 'cache', 'longlive', 'native');
  const kept = () => readdirSync(cache).map((name) => join(cache, name));
  for (const file of kept()) writeFileSync(file, damage(readFileSync(file)));
  const second = clone('second');
  expect(build(second)).not.toContain('compiled before');
  expect(addonOf(second)).toBe(compiled);
  expect(compilations()).toBe(2);
  expect(kept().map((file) => readFileSync(file, 'utf8'))).toEqual([compiled]);
  expect(build(clone('third'))).toContain('compiled before');
});
