/** What is compiled with other flags is compiled anew: objects of another optimisation or for another chip are never taken for these. */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';

// Each asks make several times, and one compiles: a second or two, and many times that beside other work.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const NATIVE = fileURLToPath(new URL('../../../native', import.meta.url));
const build = mkdtempSync(join(tmpdir(), 'longlive-make-'));
afterAll(() => rmSync(build, { recursive: true, force: true }));

const env: NodeJS.ProcessEnv = { ...process.env, MAKEFLAGS: '' };
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
  ['obj/checked/io/json.o', 'CXX=c++'],
])('%s is made anew with another %s', (file, other) => {
  noteDown();
  pretend(join(build, file));
  expect(fresh(join(build, file))).toBe(true);
  expect(fresh(join(build, file), other)).toBe(false);
});

test.each(['longlive.node', 'parity', 'test', 'make_package', 'make_corpus', 'test_threads', 'bench_load', 'parity_emulated', 'test_emulated', 'fuzz/json', 'fuzz_safetensors'])(
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
  for (const other of ['LDFLAGS=-pthread -Wl,-O1', 'LDLIBS=-lm', 'CUDA=1', 'UNITY=0', 'ARCH=aarch64', 'ISAS=portable avx2']) {
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

test('CUDA from elsewhere compiles anew what sees its headers, and nothing else', () => {
  const object = (name: string) => join(build, `obj/ops/${name}.o`);
  const [host, other] = [object('cuda/cuda_backend'), object('ops')];
  noteDown('CUDA=1', 'CUDA_HOME=/here');
  for (const file of [host, other]) pretend(file);
  expect(fresh(host, 'CUDA=1', 'CUDA_HOME=/here')).toBe(true);
  expect(fresh(host, 'CUDA=1', 'CUDA_HOME=/elsewhere')).toBe(false);
  expect(fresh(other, 'CUDA=1', 'CUDA_HOME=/elsewhere')).toBe(true);
});

test.each(['CPLUS_INCLUDE_PATH', 'CPATH'])('headers that %s names compile objects anew', (name) => {
  const object = join(build, 'obj/ops/ops.o');
  noteDown();
  pretend(object);
  expect(fresh(object)).toBe(true);
  env[name] = '/elsewhere/include';
  expect(fresh(object)).toBe(false);
  delete env[name];
});

/** Sources and headers of npm of their own, to change. */
const copy = mkdtempSync(join(tmpdir(), 'longlive-native-'));
const native = join(copy, 'native');
beforeAll(() => {
  cpSync(NATIVE, native, { recursive: true, filter: (path) => path !== join(NATIVE, 'build') });
  for (const name of ['node-addon-api', 'node-api-headers'])
    cpSync(join(NATIVE, '../node_modules', name), join(copy, 'node_modules', name), { recursive: true });
});
afterAll(() => rmSync(copy, { recursive: true, force: true }));
const own = (...args: string[]) => spawnSync('make', ['-C', native, ...args], { env }).status === 0;

/** Whether these objects are fresh after a change of a file, which is then taken back. */
function freshAfter(objects: string[], file: string, from: string | RegExp, to: string): boolean[] {
  own('Makefile');
  for (const object of objects) pretend(join(native, object));
  expect(objects.map((object) => own('-q', object))).toEqual(objects.map(() => true));
  const path = join(copy, file);
  const { atime, mtime } = statSync(path);
  const text = readFileSync(path, 'utf8');
  expect(text.replace(from, to)).not.toBe(text);
  writeFileSync(path, text.replace(from, to));
  utimesSync(path, atime, mtime); // as npm, which gives all of them one date
  try {
    return objects.map((object) => own('-q', object));
  } finally {
    writeFileSync(path, text);
  }
}

test('other headers of npm, whatever their date, compile the addon anew', () => {
  const objects = ['build/obj/unity/addon.o', 'build/obj/unity/model.o'];
  const header = 'node_modules/node-addon-api/napi.h';
  expect(freshAfter(objects, header, /$/, '// another version')).toEqual([false, true]);
});

test.each([
  ['build/obj/unity/kernels_avx512.o', /(%_avx512\.o: .*)fast/, '$1off'],
  ['build/obj/unity/model.o', '$(ADDON): OPTIMISE := -O1', '$(ADDON): OPTIMISE := -O2'],
  ['build/obj/unity/addon.o', '-DNAPI_VERSION=8', '-DNAPI_VERSION=9'],
  ['build/obj/emulated/ops/cuda/norms.cu.o', '-Wno-psabi', ''],
  ['build/obj/ops/ops.o', '$(CXXFLAGS) $(SANITIZERS) -c', '$(CXXFLAGS) -g0 -c'],
])('%s is made anew where the Makefile says otherwise how', (object, from, to) => {
  expect(freshAfter([object], 'native/Makefile', from, to)).toEqual([false]);
});

test('a comment in the Makefile makes nothing anew', () => {
  const objects = ['build/obj/unity/model.o', 'build/obj/ops/ops.o'];
  expect(freshAfter(objects, 'native/Makefile', /^/, '# CXXFLAGS, LDFLAGS and OPTIMISE\n')).toEqual([true, true]);
});

test('what was linked of a source that is gone is linked anew: the note that every binary needs is another', () => {
  const linking = () => readFileSync(join(native, 'build/obj/linking'), 'utf8');
  own('Makefile');
  const all = linking();
  const source = join(native, 'test/test_call_thread.cpp');
  const text = readFileSync(source, 'utf8');
  rmSync(source);
  own('Makefile');
  expect(linking()).not.toBe(all);
  writeFileSync(source, text);
});

test('an object is out of date when a header that it was made of is gone', () => {
  const object = join(native, 'build/obj/ops/ops.o');
  own('Makefile');
  pretend(object);
  const header = join(native, 'ops/gone.h');
  writeFileSync(object.replace(/o$/, 'd'), `build/obj/ops/ops.o: ops/ops.cpp ops/gone.h\nops/gone.h:\n`); // as -MMD -MP writes it
  writeFileSync(header, '');
  utimesSync(header, 0, 0);
  expect(own('-q', 'build/obj/ops/ops.o')).toBe(true);
  rmSync(header);
  expect(own('-q', 'build/obj/ops/ops.o')).toBe(false);
  rmSync(object.replace(/o$/, 'd'));
});

test('a backend in a folder of its own is compiled with the rest, and what needs the toolkit of CUDA is not', () => {
  mkdirSync(join(native, 'ops/a_folder'));
  writeFileSync(join(native, 'ops/a_folder/a_backend.cpp'), '');
  const { stdout } = spawnSync('make', ['-C', native, '-np', 'UNITY=0', 'parity'], { env, encoding: 'utf8' });
  const core = /^CORE :?= (.*)$/m.exec(stdout)?.[1] ?? '';
  expect(core).toContain('obj/ops/a_folder/a_backend.o');
  expect(core).toContain('obj/ops/cuda/cuda_memory.o');
  expect(core).not.toContain('cuda_backend');
  rmSync(join(native, 'ops/a_folder'), { recursive: true });
});

test('the mutating fuzzer is made anew with any header that it sees', () => {
  const root = mkdtempSync(join(tmpdir(), 'longlive-fuzz-'));
  const object = join(root, 'obj/checked/ops/stored_matrix.o');
  const own = (...args: string[]) => spawnSync('make', ['-C', NATIVE, `BUILD=${root}`, ...args], { env }).status === 0;
  try {
    expect(own(object)).toBe(true);
    expect(readFileSync(object.replace(/o$/, 'd'), 'utf8')).toContain('ops/tensor.h');
    expect(own('-q', object)).toBe(true);
    expect(own('-q', object, '-W', 'ops/tensor.h')).toBe(false);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});
