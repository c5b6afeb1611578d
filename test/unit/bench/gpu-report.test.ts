import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { type GpuResult, parseResult, report, writeReport } from '../../../bench/gpu/report.js';

const root = resolve(import.meta.dirname, '../../..');
const value = (name: string, number: number, unit: string) => ({ name, value: number, unit });

/** Numbers that no device gave: they exist in this test alone. */
const invented: GpuResult = {
  device: 'Invented <1>',
  driver: '0.0',
  date: '2020-01-02',
  sources: '0123',
  binaries: '4567',
  parity: [
    { configuration: 'bf16', case: 'umt5', error: 0.001, passed: true, tensors: 3, worst: 'out' },
    { configuration: 'bf16', case: 'vae_decode', error: 0.2, passed: false, tensors: 3, worst: 'rgb' },
  ],
  sanitizer: [{ run: 'memcheck-bench', passed: true }],
  parts: {
    'ceilings-bf16': {
      device: 'x',
      values: [],
      kernels: [
        { name: 'copy, 1 MiB', ms: 1, operations: 0, bytes: 1e9 },
        { name: 'product 8192^3', ms: 1, operations: 1e12, bytes: 0 },
      ],
    },
    'kernels-bf16': {
      device: 'x',
      values: [],
      kernels: [
        { name: 'linear dim -> dim', ms: 2, operations: 1e12, bytes: 1e6 },
        { name: 'layer norm, modulate', ms: 1, operations: 0, bytes: 0.25e9 },
        { name: 'self-attention, keys 18720', ms: 1, operations: 0.494e12, bytes: 1e6 },
      ],
    },
    'tiny-bf16': {
      device: 'x',
      values: [
        value('tiny decoder: sustained', 50, 'frames/s'),
        value('tiny decoder: video made', 240, 's'),
        value('tiny decoder: block p50', 302, 'ms'),
        value('tiny decoder: recache p50', 151, 'ms'),
        value('tiny decoder: denoise p50', 30, 'ms'),
        value('tiny decoder: context p50', 10, 'ms'),
        value('tiny decoder: speed of the last 10 s over the first 10 s', 0.985, ''),
      ],
    },
    'tiny-bf16-in-turn': { device: 'x', precision: 'bf16', values: [value('tiny decoder: sustained', 75, 'frames/s')] },
    'tiny-int8': { device: 'x', precision: 'int8', values: [value('tiny decoder: sustained', 60, 'frames/s')] },
    'tiny-fp8-attention': {
      device: 'x',
      precision: 'fp8',
      attention: 'int8',
      values: [value('tiny decoder: sustained', 71, 'frames/s')],
    },
    'tiny-bf16-attention': {
      device: 'x',
      precision: 'bf16',
      attention: 'int8',
      values: [value('tiny decoder: sustained', 55, 'frames/s')],
    },
    'quality-int8': {
      device: 'x',
      precision: 'int8',
      values: [value('latents against bf16, relative error, first block', 0.0123, '')],
    },
    torch: {
      device: 'x',
      kernels: [{ name: 'self-attention, keys 18720, flash', ms: 2, operations: 1e12, bytes: 1e6 }],
      values: [
        value('torch eager', 160, 'ms'),
        { name: 'torch compiled: failed', error: 'why\nwhere' },
        value('torch compiled', 100, 'ms'),
      ],
    },
  },
};

it('says on the page that nothing was measured when there is no result', () => {
  const { page, plots } = report([]);
  expect(page).toContain('No GPU has been measured yet.');
  expect(plots).toEqual([]);
});

it('holds measured values against the goals and leaves out what is missing', () => {
  const { page } = report([invented]);
  expect(page).toContain('| bf16, tiny decoder, frames/s over 240 s of video | 50.0 | >= 45 over 240 s | met |');
  expect(page).toContain('| recache | 151 ms | <= 150 ms | missed |');
  expect(page).toContain("| recache over a block's time | 0.500 | <= 0.65 | met |");
  expect(page).not.toContain('bf16 peak');
  expect(page).toContain('| its last 10 s over its first 10 s | 0.985 | within 1 % | missed |');
  expect(page).toContain('| speed against PyTorch at its best, blocks without decoding | 2.50 x | >= 2 | met |');
  expect(page).not.toContain('full VAE');
  expect(page).toContain('| best 8-bit (fp8-attention), tiny decoder, frames/s | 71.0 | >= 70 | met |');
  expect(page).toContain('| quality-int8: latents against bf16, relative error, first block | 0.0123 |');
});

it('shows checks apart, a column to each configuration', () => {
  const check = (name: string, number: number) => value(`check: ${name}, largest difference`, number, '');
  const { page } = report([
    {
      ...invented,
      parts: {
        ...invented.parts,
        'check-bf16': { device: 'x', values: [check('conv', 0.25), check('linear', 0)] },
        'check-int8': { device: 'x', values: [check('linear', 0.5)] },
      },
    },
  ]);
  expect(page).toContain('|  | bf16 | int8 |');
  expect(page).toContain('| conv, largest difference | 0.250 |  |');
  expect(page).toContain('| linear, largest difference | 0.00 | 0.500 |');
  expect(page).not.toContain('check-bf16: ');
  expect(report([invented]).page).not.toContain('plain ones');
});

it('does not call a goal for four minutes met by a shorter video', () => {
  const tiny = invented.parts['tiny-bf16']!;
  const values = tiny.values.map((v) => (v.name === 'tiny decoder: video made' ? { ...v, value: 12 } : v));
  const { page } = report([{ ...invented, parts: { ...invented.parts, 'tiny-bf16': { ...tiny, values } } }]);
  expect(page).toContain('frames/s over 12.0 s of video | 50.0 | >= 45 over 240 s | met as far as it goes |');
  expect(page).not.toContain('its last 10 s over its first 10 s');
});

it('says what a result file says of itself', () => {
  expect(report([{ ...invented, note: 'Taken in two calls.' }]).page).toContain('\n\nTaken in two calls.\n\n');
});

it('names no best 8-bit configuration when none was measured', () => {
  const { torch, 'tiny-bf16': tiny } = invented.parts;
  const { page } = report([{ ...invented, parts: { torch: torch!, 'tiny-bf16': tiny! } }]);
  expect(page).not.toContain('8-bit');
});

it('measures kernels against the ceilings of the same device', () => {
  const { page } = report([invented]);
  expect(page).toContain('| bf16: linear dim -> dim | 2.00 | 3200 % | 500 | 0.500 | 50 % |');
  expect(page).toContain('| bf16: layer norm, modulate | 1.00 | 1200 % |  | 250 | 25 % |');
  expect(page).toContain('| torch: self-attention, keys 18720, flash | 2.00 |  | 500 | 0.500 | 50 % |');
});

it('holds attention against the published peak of a chip that has one', () => {
  const { page } = report([{ ...invented, device: 'NVIDIA H100 80GB HBM3' }]);
  expect(page).toContain('| self-attention over the bf16 peak | 0.499 | >= 0.65 | missed |');
});

it('shows failures', () => {
  const { page } = report([invented]);
  expect(page).toContain('| bf16 | 1 of 2 | 2.0e-1 | vae_decode |');
  expect(page).toContain('torch compiled: failed | failed: why |');
});

it('draws bars in proportion, with escaped names', () => {
  const { plots } = report([invented]);
  expect(plots.map(({ file }) => file)).toEqual([
    'gpu-invented-1--2020-01-02-speed.svg',
    'gpu-invented-1--2020-01-02-kernels.svg',
  ]);
  expect(plots[1]?.svg).toContain('linear dim -&gt; dim (120x)');
  expect(plots[1]?.svg).toContain('width="420.0"');
  expect(plots[1]?.svg).toContain('width="157.5"');
});

it('refuses files of another kind, of toy sizes and of several devices', () => {
  expect(() => parseResult('{"device":1}', 'gpu-a.json')).toThrow(/gpu-a\.json is no result of bench\/gpu\/run\.sh/);
  const toy = { ...invented, parts: { a: { device: 'x', small: true, values: [] } } };
  expect(() => parseResult(JSON.stringify(toy), 'gpu-a.json')).toThrow(/toy sizes/);
  const mixed = { ...invented, parts: { a: { device: 'x', values: [] }, b: { device: 'y', values: [] } } };
  expect(() => parseResult(JSON.stringify(mixed), 'gpu-a.json')).toThrow(/several devices: x; y/);
});

it('makes a result file from what the stages wrote, and a page from that', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'longlive-report-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const [stages, results] = [join(folder, 'stages'), join(folder, 'results')];
  for (const made of [stages, results]) mkdirSync(made);
  writeFileSync(
    join(stages, 'parity-bf16-eager.log'),
    'emulated GPU, sm_80, 4 threads\nrope_units                    1.25e-03  PASS    12 tensors, worst out.q\nvae                                inf  FAIL     2 tensors, worst rgb\n',
  );
  writeFileSync(join(stages, 'sanitize-memcheck-bench.log'), '');
  const tiny = { ...invented.parts['tiny-bf16'], device: 'Invented' };
  writeFileSync(join(stages, 'tiny-bf16.json'), JSON.stringify(tiny));
  writeFileSync(join(stages, 'tiny-int8.json'), JSON.stringify({ ...tiny, device: 'Something else' }));
  writeFileSync(join(stages, 'tiny-fp8.json'), JSON.stringify(tiny));
  writeFileSync(join(stages, 'full-bf16.json'), '{"device":"x","values":[');
  for (const step of ['parity-bf16-eager', 'sanitize-memcheck-bench', 'tiny-bf16', 'tiny-int8', 'full-bf16']) {
    writeFileSync(join(stages, `${step}.of`), 'b1\n');
  }
  writeFileSync(join(stages, 'tiny-fp8.of'), 'b0\n');
  writeFileSync(join(stages, 'device'), 'Invented, 12.3\n');
  execFileSync('python3', [join(root, 'bench/gpu/collect.py'), stages, results, 'b1', 's1'], { stdio: 'pipe' });
  const [file = ''] = readdirSync(results);
  expect(file).toMatch(/^gpu-invented-\d{4}-\d\d-\d\d\.json$/);
  const result = parseResult(readFileSync(join(results, file), 'utf8'), file);
  expect(result).toMatchObject({
    driver: '12.3',
    sources: 's1',
    binaries: 'b1',
    parity: [
      { configuration: 'bf16-eager', case: 'rope_units', error: 1.25e-3, passed: true, tensors: 12, worst: 'out.q' },
      { case: 'vae', error: null, passed: false },
    ],
    sanitizer: [{ run: 'memcheck-bench', passed: false }],
  });
  expect(Object.keys(result.parts)).toEqual(['tiny-bf16']);
  await writeReport(results, join(results, 'benchmarks.md'));
  expect(readFileSync(join(results, 'benchmarks.md'), 'utf8')).toContain('compute-sanitizer memcheck-bench: FAILED');
  expect(readdirSync(join(results, 'benchmarks'))).toHaveLength(1);
}, 60_000);
