/** What is compiled with other flags is compiled anew: objects of another optimisation or for another chip are never taken for these. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';

const NATIVE = fileURLToPath(new URL('../../../native', import.meta.url));
const build = mkdtempSync(join(tmpdir(), 'longlive-make-'));
afterAll(() => rmSync(build, { recursive: true, force: true }));

const env = { ...process.env, MAKEFLAGS: '' };
const make = (...args: string[]) => spawnSync('make', ['-C', NATIVE, `BUILD=${build}`, ...args], { env, encoding: 'utf8' });
/** Whether make has nothing to do. */
const fresh = (...args: string[]) => make('-q', ...args).status === 0;

/** As if it had been compiled just now. */
function pretend(object: string): void {
  mkdirSync(dirname(object), { recursive: true });
  writeFileSync(object, '');
}

test('another optimisation compiles objects anew', () => {
  const object = join(build, 'obj/io/json.o');
  expect(fresh(object)).toBe(false);
  execFileSync('make', ['-C', NATIVE, `BUILD=${build}`, '-n', object], { env });
  pretend(object);
  expect(fresh(object)).toBe(true);
  expect(fresh(object, 'OPTIMISE=-O0')).toBe(false);
});

test('other chips compile kernels anew', () => {
  const kernels = (archs: string) => ['CUDA=1', `CUDA_ARCHS=${archs}`, 'kernels'];
  make('-n', ...kernels('90a'));
  for (const file of readdirSync(join(NATIVE, 'ops/cuda'))) if (file.endsWith('.cu')) pretend(join(build, `obj/ops/cuda/${file}.o`));
  expect(fresh(...kernels('90a'))).toBe(true);
  expect(fresh(...kernels('80 90a'))).toBe(false);
});
