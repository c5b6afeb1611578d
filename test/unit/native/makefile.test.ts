/** What is compiled with other flags is compiled anew: objects of another optimisation or for another chip are never taken for these. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
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

/** Notes down what things are made with, as every make does that makes something. */
const noteDown = (...args: string[]) => execFileSync('make', ['-C', NATIVE, `BUILD=${build}`, 'Makefile', ...args], { env });
const notes = () => readdirSync(join(build, 'obj'))
  .filter((name) => name.endsWith('flags') || name === 'linking')
  .map((name) => [name, readFileSync(join(build, 'obj', name), 'utf8'), statSync(join(build, 'obj', name)).mtimeMs]);

test('another optimisation compiles objects anew', () => {
  const object = join(build, 'obj/unity/io.o');
  expect(fresh(object)).toBe(false);
  noteDown();
  pretend(object);
  expect(fresh(object)).toBe(true);
  expect(fresh(object, 'OPTIMISE=-O0')).toBe(false);
});

test.each([
  ['obj/emulated/ops/cuda/norms.cu.o', 'EMULATED_OPTIMISE=-O0'],
  ['obj/emulated/test/cuda_emulator/barriers.cpp.o', 'CXXFLAGS=-g'],
  ['obj/unity/kernels_avx512.o', 'AVX512=-mavx512f'],
  ['obj/unity/kernels_avx2.o', 'AVX2=-mavx2'],
  ['obj/unity/addon.o', 'CUDA=1'],
  ['libfake_cublaslt.so', 'CXX=c++'],
  ['fuzz_safetensors', 'CXX=c++'],
])('%s is made anew with another %s', (file, other) => {
  noteDown();
  pretend(join(build, file));
  expect(fresh(join(build, file))).toBe(true);
  expect(fresh(join(build, file), other)).toBe(false);
});

test.each(['longlive.node', 'parity', 'test', 'make_package', 'make_corpus', 'test_threads', 'bench_load', 'parity_emulated', 'test_emulated', 'fuzz/json'])(
  '%s is linked anew with other libraries or other flags of the linker',
  (binary) => {
    noteDown();
    const database = make('-qp', join(build, binary)).stdout;
    const rule = database.split('\n').find((line) => line.startsWith(`${join(build, binary)}:`));
    expect(rule).toContain(join(build, 'obj/linking'));
  },
);

test('other flags of the linker are another note, CUDA among them', () => {
  const linking = () => readFileSync(join(build, 'obj/linking'), 'utf8');
  noteDown();
  const usual = linking();
  for (const other of ['LDFLAGS=-pthread -Wl,-O1', 'LDLIBS=-lm', 'CUDA=1']) {
    noteDown(other);
    expect(linking()).not.toBe(usual);
  }
  noteDown();
  expect(linking()).toBe(usual);
});

test('who only asks what would be made changes nothing', () => {
  noteDown();
  const before = notes();
  for (const saying of ['-n', '-q', '-nq']) make(saying, 'OPTIMISE=-O0', 'LDLIBS=-lm', 'AVX2=', 'EMULATED_OPTIMISE=-O0', 'addon');
  expect(notes()).toEqual(before);
});

test('other chips compile kernels anew', () => {
  const kernels = (archs: string) => ['CUDA=1', `CUDA_ARCHS=${archs}`, 'kernels'];
  noteDown('CUDA=1', 'CUDA_ARCHS=90a');
  for (const file of readdirSync(join(NATIVE, 'ops/cuda'))) if (file.endsWith('.cu')) pretend(join(build, `obj/ops/cuda/${file}.o`));
  expect(fresh(...kernels('90a'))).toBe(true);
  expect(fresh(...kernels('80 90a'))).toBe(false);
});
