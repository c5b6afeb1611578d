/**
 * docs/benchmarks.md and its plots, from the result files of bench/gpu/run.sh. Only what was measured appears.
 *
 *   npx tsx bench/gpu/report.ts [--results bench/results] [--out docs/benchmarks.md]
 */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { z } from 'zod';

const Kernel = z.object({ name: z.string(), ms: z.number(), operations: z.number(), bytes: z.number() });
const Value = z.object({
  name: z.string(),
  value: z.number().optional(),
  unit: z.string().optional(),
  error: z.string().optional(),
});
const Part = z.object({
  device: z.string(),
  isa: z.string().optional(),
  precision: z.string().optional(),
  attention: z.string().optional(),
  small: z.boolean().optional(),
  torch: z.string().optional(),
  kernels: z.array(Kernel).optional(),
  values: z.array(Value),
});
const Parity = z.object({
  configuration: z.string(),
  case: z.string(),
  error: z.number().nullable(),
  passed: z.boolean(),
  tensors: z.number(),
  worst: z.string(),
});
const Result = z.object({
  device: z.string(),
  driver: z.string(),
  date: z.string(),
  sources: z.string(),
  binaries: z.string(),
  note: z.string().optional(),
  parity: z.array(Parity),
  sanitizer: z.array(z.object({ run: z.string(), passed: z.boolean() })),
  parts: z.record(z.string(), Part),
});

export type GpuResult = z.infer<typeof Result>;
type Part = z.infer<typeof Part>;
type Kernel = z.infer<typeof Kernel>;

export interface Plot {
  file: string;
  svg: string;
}

const COMMAND = 'bench/gpu/run.sh';
const INTRO = `# Benchmarks on a GPU

LongLive-1.3B's shapes with random weights (speed does not depend on their values), 832x480, blocks of 3 latent frames in 4
steps, a window of 12 latent frames of which 3 are the sink, decoding and the copy to host memory included.
One command builds, checks and measures: \`${COMMAND}\`; this page is made from its result files by \`bench/gpu/report.ts\`.
What was not measured is not here.
`;

/** NVIDIA's published bf16 rates without sparsity, in FLOP/s; the first name that a device's name holds. */
const PEAKS: [string, number][] = [
  ['H100 PCIe', 756e12],
  ['H100 NVL', 835e12],
  ['H200 NVL', 835e12],
  ['H100', 989e12],
  ['H200', 989e12],
];

/** How often a kernel of the table runs in one pass of 30 layers. */
const PER_PASS: [RegExp, number][] = [
  [/^linear dim -> dim$/, 4 * 30],
  [/^linear dim -> dim, gate, residual$/, 2 * 30],
  [/^linear dim -> ffn/, 30],
  [/^linear ffn -> dim/, 30],
  [/^layer norm/, 3 * 30],
  [/^rms norm, rotation$/, 3 * 30],
  [/^self-attention, keys 18720$/, 30],
  [/^cross-attention/, 30],
];

/** What the names of checks begin with. */
const CHECK = 'check: ';

const STEPS = 4;
const SUSTAINED_SECONDS = 240;

const isCheck = ({ name }: { name: string }): boolean => name.startsWith(CHECK);

const timesPerPass = (kernel: string): number | undefined => PER_PASS.find(([pattern]) => pattern.test(kernel))?.[1];

export function parseResult(text: string, file: string): GpuResult {
  const parsed = Result.safeParse(JSON.parse(text));
  if (!parsed.success) throw new Error(`${file} is no result of ${COMMAND}: ${z.prettifyError(parsed.error)}`);
  const small = Object.entries(parsed.data.parts).find(([, part]) => part.small);
  if (small) throw new Error(`${file}: part ${small[0]} was measured with toy sizes (--small)`);
  const devices = [...new Set(Object.values(parsed.data.parts).map(({ device }) => device))];
  if (devices.length > 1) throw new Error(`${file}: parts of several devices: ${devices.join('; ')}`);
  return parsed.data;
}

/** The page and its plots; results with the newest first. */
export function report(results: readonly GpuResult[]): { page: string; plots: Plot[] } {
  if (results.length === 0) {
    return { page: `${INTRO}\nNo GPU has been measured yet.\n`, plots: [] };
  }
  const plots: Plot[] = [];
  const sections = results.map((result) => section(result, plots));
  return { page: `${INTRO}\n${sections.join('\n')}`, plots };
}

function section(result: GpuResult, plots: Plot[]): string {
  const slug = `gpu-${result.device.toLowerCase().replace(/[^a-z0-9]+/g, '-')}-${result.date}`;
  const speed: Plot = { file: `${slug}-speed.svg`, svg: bars('Frames per second, sustained', speeds(result)) };
  const shares: Plot = {
    file: `${slug}-kernels.svg`,
    svg: bars('Milliseconds of one pass, kernel by kernel', passTimes(result)),
  };
  const shown = [speed, shares].filter(({ svg }) => svg);
  plots.push(...shown);
  const pictures = shown.map(({ file }) => `![](benchmarks/${file})`).join('\n\n');
  return [
    `## ${result.device}, ${result.date}`,
    `Driver ${result.driver}; sources ${result.sources}, binaries ${result.binaries}.`,
    result.note,
    pictures,
    '### Against the goals',
    goals(result),
    '### Configurations',
    configurations(result),
    '### Kernels',
    kernelTable(result),
    '### Agreement with the reference',
    parityTable(result),
    ...checks(result),
  ]
    .filter(Boolean)
    .join('\n\n')
    .concat('\n');
}

function valueOf(part: Part | undefined, name: string): number | undefined {
  return part?.values.find((value) => value.name === name)?.value;
}

const table = (head: string[], rows: string[][]): string =>
  [head, head.map((_, i) => (i === 0 ? '---' : '---:')), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');

function goals({ device, parts }: GpuResult): string {
  const tiny = parts['tiny-bf16'];
  const eight = bestEightBit(parts);
  const ours = sum(valueOf(tiny, 'tiny decoder: denoise p50'), valueOf(tiny, 'tiny decoder: context p50'));
  const torch = (parts.torch?.values ?? []).flatMap(({ value }) => value ?? []);
  const brief = (valueOf(tiny, 'tiny decoder: video made') ?? 0) < SUSTAINED_SECONDS;
  const rows: [string, number | undefined, (x: number) => boolean, string, string][] = [
    [
      `bf16, tiny decoder, frames/s${overSeconds(tiny)}`,
      valueOf(tiny, 'tiny decoder: sustained'),
      (x) => x >= 45,
      `>= 45 over ${SUSTAINED_SECONDS} s`,
      '',
    ],
    [
      'its last 10 s over its first 10 s',
      brief ? undefined : valueOf(tiny, 'tiny decoder: speed of the last 10 s over the first 10 s'),
      (x) => Math.abs(x - 1) <= 0.01,
      'within 1 %',
      '',
    ],
    ['bf16, full VAE, frames/s', valueOf(parts['full-bf16'], 'full VAE: sustained'), (x) => x >= 35, '>= 35', ''],
    [`best 8-bit (${eight?.name}), tiny decoder, frames/s`, eight?.framesPerSecond, (x) => x >= 70, '>= 70', ''],
    [
      'prompt switch to first new chunk',
      valueOf(tiny, 'tiny decoder: prompt switch to first new chunk p50'),
      (x) => x <= 350,
      '<= 350 ms',
      ' ms',
    ],
    ['recache', valueOf(tiny, 'tiny decoder: recache p50'), (x) => x <= 150, '<= 150 ms', ' ms'],
    [
      "recache over a block's time",
      quotient(valueOf(tiny, 'tiny decoder: recache p50'), valueOf(tiny, 'tiny decoder: block p50')),
      (x) => x <= 0.65,
      '<= 0.65',
      '',
    ],
    ['self-attention over the bf16 peak', attentionOverPeak(device, parts), (x) => x >= 0.65, '>= 0.65', ''],
    ['first chunk, warm', valueOf(tiny, 'tiny decoder: first chunk, warm'), (x) => x <= 300, '<= 300 ms', ' ms'],
    [
      'speed against PyTorch at its best, blocks without decoding',
      quotient(torch.length ? Math.min(...torch) : undefined, ours),
      (x) => x >= 2,
      '>= 2',
      ' x',
    ],
  ];
  return table(
    ['', 'measured', 'goal', ''],
    rows.flatMap(([name, value, met, goal, unit], i) =>
      value === undefined ? [] : [[name, `${round(value)}${unit}`, goal, verdict(met(value), i === 0 && brief)]],
    ),
  );
}

function verdict(met: boolean, brief: boolean): string {
  if (!met) return 'missed';
  return brief ? 'met as far as it goes' : 'met';
}

/** How much video the sustained speed is of: less than asked for where a time limit ended it. */
function overSeconds(tiny: Part | undefined): string {
  const seconds = valueOf(tiny, 'tiny decoder: video made');
  return seconds === undefined ? '' : ` over ${round(seconds)} s of video`;
}

function attentionOverPeak(device: string, parts: GpuResult['parts']): number | undefined {
  const kernel = parts['kernels-bf16']?.kernels?.find(({ name }) => name === 'self-attention, keys 18720');
  return quotient(kernel && (kernel.operations / kernel.ms) * 1e3, PEAKS.find(([name]) => device.includes(name))?.[1]);
}

/** The fastest of those with linear layers, or products of attention, in 8 bits. */
function bestEightBit(parts: GpuResult['parts']): { name: string; framesPerSecond: number } | undefined {
  return Object.entries(parts)
    .filter(([name, part]) => name.startsWith('tiny-') && isEightBit(part))
    .flatMap(([name, part]) => {
      const framesPerSecond = valueOf(part, 'tiny decoder: sustained');
      return framesPerSecond === undefined ? [] : [{ name: name.slice('tiny-'.length), framesPerSecond }];
    })
    .sort((a, b) => b.framesPerSecond - a.framesPerSecond)[0];
}

function isEightBit({ precision, attention }: Part): boolean {
  return precision === 'int8' || precision === 'fp8' || attention === 'int8';
}

function configurations({ parts }: GpuResult): string {
  const measured = Object.entries(parts).filter(([, { values }]) => values.length > 0);
  const rows = measured.flatMap(([name, part]) =>
    part.values.filter((value) => !isCheck(value)).map((value) => [`${name}: ${value.name}`, shown(value)]),
  );
  return table(['', 'measured'], rows);
}

function shown({ value, unit, error }: Part['values'][number]): string {
  if (value === undefined) return `failed: ${(error ?? '').split('\n')[0]?.slice(0, 80) ?? ''}`;
  return `${round(value)} ${unit ?? ''}`.trim();
}

/** What the fast kernels gave against the plain ones at the sizes that are measured: a row to each call, a column to each configuration. */
function checks({ parts }: GpuResult): string[] {
  const checked = Object.entries(parts)
    .map(([part, { values }]) => ({ part, values: values.filter(isCheck) }))
    .filter(({ values }) => values.length > 0);
  if (checked.length === 0) return [];
  const names = [...new Set(checked.flatMap(({ values }) => values.map(({ name }) => name)))];
  const rows = names.map((name) => [
    name.slice(CHECK.length),
    ...checked.map(({ values }) => values.filter((value) => value.name === name).map(shown)[0] ?? ''),
  ]);
  const configurationsSeen = checked.map(({ part }) => part.replace(/^check-/, ''));
  return ['### Fast kernels against plain ones, at full size', table(['', ...configurationsSeen], rows)];
}

interface Ceilings {
  operations: number;
  bytes: number;
}

/** What a copy and a large product reached on the same device. */
function ceilings({ parts }: GpuResult): Ceilings | undefined {
  const kernels = parts['ceilings-bf16']?.kernels ?? [];
  const copy = kernels.find(({ name }) => name.startsWith('copy'));
  const product = kernels.find(({ name }) => name.startsWith('product'));
  return copy && product && { operations: product.operations / product.ms, bytes: copy.bytes / copy.ms };
}

function kernelTable(result: GpuResult): string {
  const ceiling = ceilings(result);
  const rows = Object.entries(result.parts)
    .filter(([name]) => name.startsWith('kernels-') || name === 'torch')
    .flatMap(([name, { kernels = [] }]) =>
      kernels.map((kernel) => [
        `${name.replace('kernels-', '')}: ${kernel.name}`,
        round(kernel.ms),
        timeShare(result, name, kernel),
        kernel.operations ? round((kernel.operations / kernel.ms) * 1e-9) : '',
        round((kernel.bytes / kernel.ms) * 1e-6),
        ceiling ? share(kernel, ceiling) : '',
      ]),
    );
  return table(['kernel', 'ms', 'of a pass', 'TFLOP/s', 'GB/s', 'of the bf16 ceiling'], rows);
}

/** Of the time of a denoising step as it was measured in the same configuration. */
function timeShare({ parts }: GpuResult, name: string, { name: kernel, ms }: Kernel): string {
  const block = valueOf(parts[name.replace('kernels-', 'tiny-')], 'tiny decoder: denoise p50');
  const times = timesPerPass(kernel);
  return block === undefined || times === undefined ? '' : percent((times * ms) / (block / STEPS));
}

/** Of the ceiling that is nearer: the measured product's or the measured copy's. */
function share({ ms, operations, bytes }: Kernel, ceiling: Ceilings): string {
  return percent(Math.max(operations / ms / ceiling.operations, bytes / ms / ceiling.bytes));
}

function parityTable({ parity, sanitizer }: GpuResult): string {
  const configurationsSeen = [...new Set(parity.map(({ configuration }) => configuration))];
  const rows = configurationsSeen.map((configuration) => {
    const cases = parity.filter((entry) => entry.configuration === configuration);
    const worst = cases.reduce((a, b) => ((b.error ?? Infinity) > (a.error ?? Infinity) ? b : a));
    const passed = cases.filter((entry) => entry.passed).length;
    return [
      configuration,
      `${passed} of ${cases.length}`,
      worst.error === null ? 'not a number' : worst.error.toExponential(1),
      worst.case,
    ];
  });
  const checks = sanitizer.map(({ run, passed }) => `compute-sanitizer ${run}: ${passed ? 'clean' : 'FAILED'}`);
  return [rows.length ? table(['configuration', 'cases passed', 'worst error', 'in'], rows) : '', checks.join('; ')]
    .filter(Boolean)
    .join('\n\n');
}

function speeds({ parts }: GpuResult): [string, number][] {
  return Object.entries(parts).flatMap(([name, part]): [string, number][] => {
    const value = part.values.find((entry) => entry.name.endsWith(': sustained'))?.value;
    return value === undefined ? [] : [[name, value]];
  });
}

function passTimes({ parts }: GpuResult): [string, number][] {
  return (parts['kernels-bf16']?.kernels ?? []).flatMap(({ name, ms }): [string, number][] => {
    const times = timesPerPass(name);
    return times === undefined ? [] : [[`${name} (${times}x)`, ms * times]];
  });
}

function bars(title: string, rows: readonly [string, number][]): string {
  if (rows.length === 0) return '';
  const left = 300;
  const wide = 420;
  const step = 26;
  const most = Math.max(...rows.map(([, value]) => value));
  const lines = rows.map(([name, value], i) => {
    const y = 44 + i * step;
    const width = Math.max(1, (wide * value) / most).toFixed(1);
    return (
      `<text x="${left - 8}" y="${y + 14}" text-anchor="end">${escape(name)}</text>` +
      `<rect x="${left}" y="${y}" width="${width}" height="18" fill="#3b6ea5"/>` +
      `<text x="${left + Number(width) + 6}" y="${y + 14}">${round(value)}</text>`
    );
  });
  const height = 56 + rows.length * step;
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="820" height="${height}" font-family="sans-serif" font-size="13" fill="#222">` +
    `<rect width="820" height="${height}" fill="#fff"/><text x="16" y="26" font-size="15" font-weight="bold">${escape(title)}</text>` +
    `${lines.join('')}</svg>\n`
  );
}

const escape = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
const round = (x: number): string => (x >= 100 ? x.toFixed(0) : x >= 10 ? x.toFixed(1) : x.toPrecision(3));
const percent = (x: number): string => `${Math.round(100 * x)} %`;
const quotient = (a?: number, b?: number): number | undefined => (a === undefined || !b ? undefined : a / b);
const sum = (a?: number, b?: number): number | undefined => (a === undefined || b === undefined ? undefined : a + b);

export async function writeReport(results: string, out: string): Promise<void> {
  const names = (await readdir(results)).filter((name) => /^gpu-.*\.json$/.test(name));
  const read = names.map(async (name) => parseResult(await readFile(join(results, name), 'utf8'), name));
  const newestFirst = (await Promise.all(read)).sort((a, b) => b.date.localeCompare(a.date));
  const { page, plots } = report(newestFirst);
  const folder = join(dirname(out), basename(out, '.md'));
  if (plots.length > 0) await mkdir(folder, { recursive: true });
  for (const { file, svg } of plots) await writeFile(join(folder, file), svg);
  await writeFile(out, page);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const root = resolve(import.meta.dirname, '../..');
  const { values } = parseArgs({
    options: {
      results: { type: 'string', default: join(root, 'bench/results') },
      out: { type: 'string', default: join(root, 'docs/benchmarks.md') },
    },
  });
  await writeReport(values.results, values.out);
}
