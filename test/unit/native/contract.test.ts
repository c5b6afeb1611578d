/** The contract between model and backends (native/ops/ops.h) stays small and complete, and nothing above it names a backend. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { pictureSide } from '../../../src/import/sampling.js';

const NATIVE = fileURLToPath(new URL('../../../native', import.meta.url));
const read = (name: string) => readFileSync(join(NATIVE, name), 'utf8');

/** Each operation of the class with the comment above and beside it. */
function operations(): { name: string; said: string }[] {
  const lines = read('ops/ops.h').split('\n');
  const begin = lines.indexOf('class Backend {');
  const end = lines.indexOf('};', begin);
  return lines.slice(begin, end).flatMap((line, index, all) => {
    const name = /^ {2}virtual .*?(\w+)\(/.exec(line)?.[1];
    if (name === undefined || name === 'Backend') return [];
    const above = all.slice(0, index);
    const comments = above.slice(above.findLastIndex((each) => !each.startsWith('  //')) + 1);
    const declaration = all.slice(index, index + all.slice(index).findIndex((each) => /[;}]/.test(each)) + 1);
    return [{ name, said: [...comments, ...declaration].join('\n') }];
  });
}

test('every operation says in brackets what it may allocate, and there are 40 at most', () => {
  const all = operations();
  expect(all.length).toBeGreaterThan(30);
  expect(all.length).toBeLessThanOrEqual(40);
  const silent = all.filter(({ said }) => !/\[(nothing|its result|scratch)\b[^\]]*\]/.test(said));
  expect(silent.map(({ name }) => name)).toEqual([]);
});

test.each(['attention', 'conv', 'linear', 'layerNorm', 'add', 'embed', 'patchify'])('%s says the shapes that it takes', (name) => {
  const { said } = operations().find((operation) => operation.name === name) ?? { said: '' };
  expect(said.replaceAll(/\[(nothing|its result|scratch)[^\]]*\]/g, '')).toMatch(/\[\w+/);
});

test('the model names devices in one place', () => {
  const names = readdirSync(join(NATIVE, 'model')).filter((name) => /DeviceKind::|make(Cpu|Cuda)Backend|\b(cpu|cuda)Memory\b/.test(read(`model/${name}`)));
  expect(names).toEqual(['devices.cpp']);
  expect(read('ops/planning.cpp') + read('ops/planning.h')).not.toMatch(/#include "(cpu|cuda)/);
});

test('what a picture’s side may be is the same here and in the native core', () => {
  const [, least, most, step] = /kLeastSide = (\d+), kMostSide = (\d+), kSideStep = (\d+)/.exec(read('include/longlive/types.h'))?.map(Number) ?? [];
  expect(read('addon/addon.cpp') + read('addon/video_encoder.cpp')).not.toMatch(/\b4096\b|1 << 16\b/); // limits of their own
  const fits = (side = 0) => pictureSide.safeParse(side).success;
  expect([least, most].map(fits)).toEqual([true, true]);
  expect([least! - step!, most! + step!, least! + step! / 2].map(fits)).toEqual([false, false, false]);
});
