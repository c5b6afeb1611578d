/** bench/gpu/run.sh with programs that stand in for the compiler, the GPU and the benchmarks. */
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { type GpuResult, parseResult } from '../../../bench/gpu/report.js';

const source = resolve(import.meta.dirname, '../../../bench/gpu');

/** A tree with the script and stand-ins; each stand-in notes that it was called. */
function tree(): {
  root: string;
  calls: () => string[];
  run: (...stages: string[]) => { status: number | null; text: string };
} {
  const root = mkdtempSync(join(tmpdir(), 'longlive-gpu-'));
  onTestFinished(() => rmSync(root, { recursive: true }));
  const log = join(root, 'calls');
  writeFileSync(log, '');
  const program = (path: string, body: string) => {
    writeFileSync(join(root, path), `#!/usr/bin/env bash\necho "$(basename "$0") $*" >>"${log}"\n${body}\n`);
    chmodSync(join(root, path), 0o755);
  };
  for (const folder of ['bench/gpu', 'bin', 'native/build/gpu/obj/ops/cuda', 'cuda/bin'])
    mkdirSync(join(root, folder), { recursive: true });
  cpSync(source, join(root, 'bench/gpu'), { recursive: true });
  program(
    'bin/nvidia-smi',
    'case "$*" in *compute_cap*) echo "${CAPABILITY:-9.0}";; *) echo "${CARD:-Stand-in GPU}, 1.2";; esac',
  );
  program(
    'bin/make',
    `sleep "\${NAP:-0}"; echo "ptxas info    : Compiling entry function 'k' for 'sm_90a'" >"${root}/native/build/gpu/obj/ops/cuda/a.log"`,
  );
  program('bin/compute-sanitizer', 'exit 0');
  program('cuda/bin/nvcc', 'exit 0');
  program(
    'native/build/gpu/parity',
    `[[ "$*" == *"\${FAIL:-none}" ]] && exit 1; [[ "$*" == *"\${HANG:-none}" ]] && sleep 60; echo "umt5                1.00e-03  PASS     3 tensors, worst out"`,
  );
  program(
    'native/build/gpu/bench_gpu',
    `[[ "$*" == *"\${BROKEN:-none}"* ]] && exit 1; while [[ $# -gt 0 ]]; do [[ $1 == --json ]] && echo '{"device":"Stand-in GPU","kernels":[],"values":[]}' >"$2"; shift; done`,
  );
  const run = (...stages: string[]) => {
    const { status, stdout, stderr } = spawnSync('bash', [join(root, 'bench/gpu/run.sh'), ...stages], {
      encoding: 'utf8',
      env: {
        ...process.env,
        PATH: `${root}/bin:${process.env.PATH ?? ''}`,
        CUDA_HOME: join(root, 'cuda'),
        OUT: join(root, 'out'),
        GOLDEN: root,
        LONGLIVE_CUBLASLT: 'off',
      },
    });
    return { status, text: stdout + stderr };
  };
  const calls = () =>
    readFileSync(log, 'utf8')
      .split('\n')
      .filter((line) => /^(parity|bench_gpu|compute-sanitizer|make) /.test(line));
  return { root, calls, run };
}

function resultIn(root: string, name = /./): GpuResult {
  const file = readdirSync(join(root, 'bench/results')).find((entry) => name.test(entry)) ?? '';
  return parseResult(readFileSync(join(root, 'bench/results', file), 'utf8'), file);
}

const STAGES = ['build', 'parity', 'sanitize', 'kernels', 'tiny', 'text', 'eight', 'quality', 'full'];

it('runs every stage for the GPU at hand and gathers one result', () => {
  const { root, calls, run } = tree();
  const { status, text } = run(...STAGES, 'collect');
  expect(text).not.toContain('FAILED');
  expect(status).toBe(0);
  expect(calls().find((line) => line.startsWith('make '))).toContain('CUDA_ARCHS=90a');
  const parity = calls().filter((line) => line.startsWith('parity '));
  for (const configuration of [
    'fp32 --isa portable',
    'fp32',
    'bf16',
    'bf16 --isa eager,one-lane',
    'bf16 --isa plain',
    'int8',
    'bf16 --attention int8',
    'fp8 --attention int8',
  ]) {
    expect(parity.filter((line) => line.endsWith(`--precision ${configuration}`))).toHaveLength(1);
  }
  const result = resultIn(root);
  expect(result.binaries).toMatch(/^[0-9a-f]{16}$/);
  expect(Object.keys(result.parts)).toEqual(
    expect.arrayContaining([
      'ceilings-bf16',
      'kernels-bf16',
      'kernels-int8-attention',
      'kernels-fp8',
      'tiny-bf16',
      'tiny-bf16-eager',
      'tiny-bf16-in-turn',
      'tiny-bf16-relative',
      'text-bf16',
      'tiny-int8',
      'tiny-fp8-attention',
      'quality-int8',
      'quality-bf16-attention',
      'full-bf16',
    ]),
  );
  expect(result.parity).toHaveLength(parity.length);
  expect(result.sanitizer.every(({ passed }) => passed)).toBe(true);
}, 120_000);

it('leaves fp8 out on a chip without it', () => {
  const { calls, run } = tree();
  process.env.CAPABILITY = '8.0';
  const { status } = run('build', 'parity', 'kernels', 'eight', 'quality');
  delete process.env.CAPABILITY;
  expect(status).toBe(0);
  expect(calls().some((line) => line.includes('int8'))).toBe(true);
  expect(calls().some((line) => line.includes('fp8'))).toBe(false);
}, 120_000);

it('goes on where an earlier call ended, and repeats what failed', () => {
  const { root, calls, run } = tree();
  process.env.FAIL = '--precision fp32 --isa portable';
  const first = run('build', 'parity');
  delete process.env.FAIL;
  expect(first.status).toBe(1);
  expect(first.text).toContain('FAILED: parity-fp32-portable');
  expect(existsSync(join(root, 'native/build/gpu/state/parity-bf16.ok'))).toBe(true);
  const before = calls().length;
  const second = run('parity', 'tiny');
  expect(second.status).toBe(0);
  expect(second.text).toContain('== parity-bf16 passed before');
  expect(
    calls()
      .slice(before)
      .map((line) => line.split(' ')[0]),
  ).toEqual(['parity', ...Array<string>(6).fill('bench_gpu')]);
}, 120_000);

it('begins nothing more when the call is over, and says what is left', () => {
  const { run } = tree();
  Object.assign(process.env, { CALL: '31', NAP: '2.1' });
  const { status, text } = run('build', 'parity', 'tiny', 'full');
  delete process.env.CALL;
  delete process.env.NAP;
  expect(text).toMatch(/LEFT for another call: .*full-bf16/);
  expect(status).toBe(3);
}, 120_000);

it('leaves a step that the end of the call cuts off to another call', () => {
  const { root, run } = tree();
  Object.assign(process.env, { CALL: '34', HANG: '--precision fp32 --isa portable' });
  const { status, text } = run('parity');
  delete process.env.CALL;
  delete process.env.HANG;
  expect(text).toContain('== parity-fp32-portable cut off');
  expect(text).not.toContain('FAILED');
  expect(status).toBe(3);
  expect(existsSync(join(root, 'native/build/gpu/state/parity-fp32-portable.hung'))).toBe(false);
}, 120_000);

it('does not wait for what hung a second time', () => {
  const { run } = tree();
  Object.assign(process.env, { HANG: '--precision bf16', LIMIT: '2' });
  run('parity');
  const { status, text } = run('parity');
  delete process.env.HANG;
  delete process.env.LIMIT;
  expect(text).toContain('== parity-bf16 hung before');
  expect(status).toBe(1);
}, 120_000);

it('forgets the numbers of a step that is run again and fails', () => {
  const { root, run } = tree();
  run('text');
  const part = join(root, 'native/build/gpu/state/text-bf16.json');
  expect(existsSync(part)).toBe(true);
  appendFileSync(join(root, 'native/build/gpu/parity'), '# another build\n');
  process.env.BROKEN = '--only text';
  run('text');
  delete process.env.BROKEN;
  expect(existsSync(part)).toBe(false);
}, 120_000);

it('reports nothing of other binaries', () => {
  const { root, run } = tree();
  run('text', 'full');
  appendFileSync(join(root, 'native/build/gpu/parity'), '# another build\n');
  run('text');
  expect(Object.keys(resultIn(root).parts)).toEqual(['text-bf16']);
}, 120_000);

it('sets aside what another device gave', () => {
  const { root, run } = tree();
  run('text');
  process.env.CARD = 'Another GPU';
  const { text } = run('parity');
  delete process.env.CARD;
  expect(text).toContain('state is of Stand-in GPU, 1.2, this is Another GPU, 1.2');
  const result = resultIn(root, /another/);
  expect(result).toMatchObject({ device: 'Another GPU', parts: {} });
  expect(result.parity.length).toBeGreaterThan(0);
}, 120_000);

it('makes the page where node_modules is, and says so where it is not', () => {
  const { root, run } = tree();
  const without = run('collect');
  expect(without.status).toBe(0);
  expect(without.text).toContain('docs/benchmarks.md is made elsewhere');
  mkdirSync(join(root, 'node_modules/.bin'), { recursive: true });
  writeFileSync(join(root, 'node_modules/.bin/tsx'), '#!/bin/sh\necho made "$@"\n', { mode: 0o755 });
  expect(run('collect').text).toContain('made bench/gpu/report.ts');
}, 120_000);

it('gives what there is after every step, in one file', () => {
  const { root, run } = tree();
  run('parity');
  expect(readdirSync(join(root, 'out')).sort()).toEqual([
    expect.stringMatching(/^gpu-stand-in-gpu-.*\.json$/),
    'state.tar.gz',
  ]);
  const { stdout } = spawnSync('tar', ['-tzf', join(root, 'out/state.tar.gz')], { encoding: 'utf8' });
  expect(stdout).toContain('./parity-bf16.ok');
}, 120_000);

it('ends what hangs, and measures only portable kernels then', () => {
  const { root, calls, run } = tree();
  Object.assign(process.env, { HANG: '--precision bf16', LIMIT: '2' });
  const { text } = run('parity', 'kernels');
  delete process.env.HANG;
  delete process.env.LIMIT;
  expect(text).toContain('== parity-bf16 FAILED (124)');
  expect(text).toContain('== kernels-bf16 left out: bf16 hung');
  expect(calls().filter((line) => line.startsWith('bench_gpu ') && line.includes('--only kernels'))).toEqual([
    expect.stringContaining('--isa portable'),
  ]);
  expect(readdirSync(join(root, 'bench/results'))).toHaveLength(1);
}, 120_000);

it('does not compile what was brought and fits the sources', () => {
  const { calls, run } = tree();
  expect(run('build').status).toBe(0);
  expect(run('build').text).toContain('binaries of these sources are there');
  expect(calls().filter((line) => line.startsWith('make '))).toHaveLength(1);
}, 120_000);

it('compares two builds in turns', () => {
  const { root, calls, run } = tree();
  const build = (path: string, milliseconds: number, speed: number) => {
    const result = JSON.stringify({
      kernels: [{ name: 'product', ms: milliseconds }],
      values: [{ name: 'sustained', value: speed, unit: 'frames/s' }],
    });
    const body = `echo "bench_gpu ${path} $*" >>"${root}/calls"; while [[ $1 != --json ]]; do shift; done; echo '${result}' >"$2"`;
    writeFileSync(join(root, path), `#!/usr/bin/env bash\n${body}\n`, { mode: 0o755 });
  };
  build('bin/before', 2, 60);
  build('native/build/gpu/bench_gpu', 1, 75);
  expect(run('compare')).toMatchObject({
    status: 1,
    text: expect.stringContaining('BEFORE names no bench_gpu, and no commit that is here') as string,
  });
  process.env.BEFORE = join(root, 'bin/before');
  const { status, text } = run('compare');
  delete process.env.BEFORE;
  expect(status).toBe(0);
  expect(text).toMatch(/product, ms +2 \+-0\.0 % +1 \+-0\.0 % +0\.500/);
  expect(text).toMatch(/sustained, frames\/s +60 \+-0\.0 % +75 \+-0\.0 % +1\.250/);
  const kernels = calls().filter((line) => line.includes('--only kernels --precision int8'));
  expect(kernels.map((line) => line.split(' ')[1])).toEqual([
    'bin/before',
    'native/build/gpu/bench_gpu',
    'native/build/gpu/bench_gpu',
    'bin/before',
  ]);
  expect(resultIn(root).parts).toEqual({});
}, 120_000);

it('builds the state to compare with from its commit, once', () => {
  const { root, calls, run } = tree();
  const git = (...args: string[]) =>
    spawnSync('git', ['-C', root, '-c', 'user.name=a', '-c', 'user.email=a@b', ...args], { encoding: 'utf8' });
  writeFileSync(join(root, 'native/state'), 'before');
  git('init', '-q');
  git('add', 'native/state');
  git('commit', '-qm', 'before');
  const commit = git('rev-parse', 'HEAD').stdout.trim();
  writeFileSync(join(root, 'native/state'), 'after');
  const result = '{"kernels":[{"name":"product","ms":1}],"values":[]}';
  const bench = `#!/usr/bin/env bash\nwhile [[ $1 != --json ]]; do shift; done; echo '${result}' >"$2"\n`;
  writeFileSync(join(root, 'native/build/gpu/bench_gpu'), bench, { mode: 0o755 });
  const made = `${root}/native/build/gpu/before-${commit}`;
  writeFileSync(
    join(root, 'bin/make'),
    `#!/usr/bin/env bash\necho "make $* of $(cat "$2/state")" >>"${root}/calls"\nsed s/1}/2}/ "${root}/native/build/gpu/bench_gpu" >"${made}/bench_gpu" && chmod +x "${made}/bench_gpu"\n`,
    { mode: 0o755 },
  );
  process.env.BEFORE = 'HEAD';
  const { status, text } = run('compare');
  const again = run('compare');
  delete process.env.BEFORE;
  expect([status, again.status]).toEqual([0, 0]);
  expect(text).toMatch(/product, ms +2 \+-0\.0 % +1 \+-0\.0 % +0\.500/);
  const makes = calls().filter((line) => line.startsWith('make '));
  expect(makes).toHaveLength(1);
  expect(makes[0]).toMatch(/CUDA_ARCHS=90a .*bench_gpu of before$/);
}, 120_000);

it('takes what no device has measured first, and goes on with it in another call', () => {
  const { run } = tree();
  const steps = (text: string) => [...text.matchAll(/^== (\S+)(?: passed before)?$/gm)].map(([, name]) => name);
  const first = run('next');
  expect(first.text).not.toContain('no stage');
  const wanted = [
    'build',
    'kernels-bf16',
    'tiny-int8',
    'sanitize-racecheck-bench',
    'tiny-bf16-relative',
    'text-bf16',
    'full-bf16',
    'quality-int8',
    'parity-int8',
  ];
  expect(steps(first.text).filter((name) => wanted.includes(name ?? ''))).toEqual(wanted);
  expect(run('next').text).toContain('== parity-int8 passed before');
}, 240_000);

it('refuses a stage that it does not know', () => {
  const { status, text } = tree().run('fly');
  expect(status).toBe(2);
  expect(text).toContain('no stage fly');
}, 60_000);
