import { existsSync } from 'node:fs';
import { basename, relative } from 'node:path';
import cliProgress from 'cli-progress';
import { Command, InvalidArgumentError, Option } from 'commander';
import { loadAddon, Tokenizer } from '../engine/index.js';
import {
  counted,
  importModel,
  type Imported,
  type ImportOptions,
  ImportError,
  parseSetting,
  type Plan,
  planImport,
  type Precision,
  type Setting,
  settingNames,
  type TextPrecision,
} from '../import/index.js';
import { numberWithin, wholeNumber } from './numbers.js';
import { print, printable } from './terminal.js';

const ALPHA = { least: 1e-6, most: 1e6 };
const weightOf = numberWithin({ least: -100, most: 100 });

interface ImportFlags {
  out: string;
  lora?: { path: string; weight: number }[];
  loraAlpha?: number;
  precision: Precision;
  textEncoder?: TextPrecision;
  tokenizer?: string;
  name?: string;
  title?: string;
  license?: string;
  heads?: number;
  textLength?: number;
  ema?: boolean;
  dequantize?: boolean;
  set?: Setting[];
  dryRun?: boolean;
  quiet?: boolean;
}

/** `longlive import`: released checkpoints become a model package. */
export function importCommand(): Command {
  return new Command('import')
    .description('make a model package from released weights')
    .argument('<source...>', 'checkpoints, safetensors, or folders of them (Wan2.1, LongLive, Diffusers)')
    .requiredOption('--out <directory>', 'the package directory to create; must not exist')
    .option(
      '--lora <file[:weight]>',
      'merge an adapter (a file, or its folder) into the video network; may be repeated',
      loraOf,
      [],
    )
    .option(
      '--lora-alpha <number>',
      'alpha of adapters that do not state one (default: their rank)',
      numberWithin(ALPHA),
    )
    .addOption(
      new Option('--precision <type>', "type of the video network's matrices (fp32 applies to all networks)")
        .choices(['bf16', 'int8', 'fp8', 'fp32'])
        .default('bf16'),
    )
    .addOption(
      new Option('--text-encoder <type>', "type of the text encoder's matrices (default: bf16)").choices([
        'bf16',
        'int8',
      ]),
    )
    .option('--tokenizer <file>', 'tokenizer.json or spiece.model, if not found in the sources')
    .option('--name <name>', "name of the model (default: the directory's name)")
    .option('--title <text>', 'title of the model (default: its name)')
    .option('--license <text>', 'licence of the weights, for the manifest')
    .option('--heads <count>', 'attention heads of the video network, if the files do not say', wholeNumber(1, 1024))
    .option(
      '--text-length <tokens>',
      'longest prompt of the video network, if the files do not say',
      wholeNumber(1, 65_536),
    )
    .option('--ema', 'use averaged (EMA) weights where present')
    .option('--dequantize', 'accept weights stored in 8 bits (fp8-scaled, for example); their rounding stays')
    .option(
      '--set <key=value>',
      `a package setting, such as rope=relative; may be repeated (${settingNames().join(', ')})`,
      settingOf,
      [],
    )
    .option(
      '--dry-run',
      'check names, shapes and adapters, and print what would be read, merged and left out; write nothing',
    )
    .option('--quiet', 'do not show a progress bar')
    .action(run);
}

async function run(sources: string[], flags: ImportFlags): Promise<void> {
  const options = optionsOf(sources, flags);
  if (flags.dryRun) {
    print(`${planText(await planImport(options))}\n`);
    return;
  }
  const result = await importModel({ ...options, ...progress(flags.quiet ?? false) });
  print(`${summaryOf(result)}\n`);
}

export function optionsOf(sources: readonly string[], flags: ImportFlags): ImportOptions {
  const {
    out,
    lora = [],
    loraAlpha: alpha,
    precision,
    textEncoder,
    tokenizer,
    name,
    title,
    license,
    heads,
    textLength,
    ema,
    dequantize,
    set: settings = [],
  } = flags;
  return {
    ...{ sources, out, precision, ema },
    ...(dequantize && { dequantize }),
    ...(settings.length > 0 && { settings }),
    ...(textEncoder && { textEncoder }),
    addProduct: (...operands) => loadAddon().addProduct(...operands),
    loras: lora.map((adapter) => ({ ...adapter, ...(alpha && { alpha }) })),
    ...(tokenizer && { tokenizer }),
    ...(name && { name }),
    ...(title && { title }),
    ...(license && { license }),
    hints: { ...(heads && { numHeads: heads }), ...(textLength && { textLen: textLength }) },
    checkTokenizer: (json) => void Tokenizer.parse(json),
  };
}

function progress(quiet: boolean): Pick<ImportOptions, 'onStart' | 'onProgress'> {
  if (quiet || !process.stderr.isTTY) return {};
  const bar = new cliProgress.SingleBar(
    {
      format: '{bar} {percentage} % | {file} | {eta} s',
      stream: process.stderr,
      hideCursor: true,
      stopOnComplete: true,
    },
    cliProgress.Presets.shades_classic,
  );
  return {
    onStart: (total) => bar.start(total, 0, { file: '' }),
    onProgress: (bytes, file) => bar.increment(bytes, { file: printable(file) }),
  };
}

function summaryOf({ directory, bytes, parameters, plan }: Imported): string {
  return [
    `${directory}: ${billions(parameters)} parameters in ${gibibytes(bytes)}`,
    ...plan.adapters.flatMap((adapter) => adapterLines('merged', adapter)),
    ...leftLines(plan),
    ...endLines(plan),
    verifyHint(directory),
  ].join('\n');
}

/** What `--dry-run` prints. */
export function planText(plan: Plan): string {
  return [
    `Would write ${plan.name}: ${gibibytes(plan.bytes)}`,
    ...plan.networks.map(({ title, path, tensors, parameters }) => {
      return `  ${title}: ${path} (${counted(tensors, 'tensor')}, ${billions(parameters)} parameters)`;
    }),
    `  tokenizer: ${plan.tokenizer}`,
    ...plan.adapters.flatMap((adapter) => adapterLines('would merge', adapter)),
    ...leftLines(plan),
    ...endLines(plan),
    'Nothing was written.',
  ].join('\n');
}

/** At what strength an adapter is merged, and what says so. */
function adapterLines(
  verb: string,
  { path, layout, weight, strengths, differences, notes }: Plan['adapters'][number],
): string[] {
  const name = printable(basename(path));
  const weighted = weight === 1 ? '' : `, weight ${weight} included`;
  return [
    ...strengths.map(({ factor, alpha, rank, where, matrices }) => {
      return `${verb} ${name} (${layout}) into ${counted(matrices, 'matrix', 'matrices')} at ${rounded(factor)} x B A${weighted}: rank ${rank}, alpha ${alpha} of ${where}`;
    }),
    ...(differences > 0 ? [`${verb} ${name}: differences of ${counted(differences, 'tensor')} at ${weight}`] : []),
    ...notes.map((note) => `note: ${name}: ${note}`),
  ];
}

function leftLines({ left }: Plan): string[] {
  return left.map(({ path, what }) => `not used: ${printable(path)}: ${what}`);
}

/** A video with absolute positions ends where their table does. */
function endLines({ endSeconds }: Plan): string[] {
  if (endSeconds === null) return [];
  return [
    `note: positions are absolute: a session ends after ${Math.floor(endSeconds)} s. For endless sessions add --set rope=relative, ` +
      'or later: longlive models configure NAME rope=relative',
  ];
}

function billions(parameters: number): string {
  return parameters >= 1e7 ? `${(parameters / 1e9).toFixed(2)} billion` : String(parameters);
}

function gibibytes(bytes: number): string {
  return bytes >= 2 ** 27 ? `${(bytes / 2 ** 30).toFixed(2)} GiB` : `${(bytes / 2 ** 20).toFixed(2)} MiB`;
}

function rounded(value: number): string {
  return String(Number(value.toPrecision(6)));
}

/** By its place, for a package may be called otherwise than its directory. */
export function verifyHint(directory: string): string {
  return `Next: longlive models verify --models ${relative('', directory) || '.'}`;
}

/** A weight is what follows the last colon, if that looks like a number, and is not the end of a file's name. */
export function loraOf(text: string, before: { path: string; weight: number }[]): { path: string; weight: number }[] {
  const [, path, weight] = /^(.+?)(?::([-+]?(?:\d|\.\d)[\d.eE+-]*))?$/s.exec(text) ?? [];
  if (path !== undefined && weight !== undefined && existsSync(text) && !existsSync(path))
    return [...before, { path: text, weight: 1 }];
  if (!path) throw new InvalidArgumentError('Expected a file, or file:weight, for example style.safetensors:0.8.');
  return [...before, { path, weight: weight === undefined ? 1 : weightOf(weight) }];
}

function settingOf(text: string, before: Setting[]): Setting[] {
  try {
    return [...before, parseSetting(text)];
  } catch (error) {
    throw error instanceof ImportError ? new InvalidArgumentError(error.message) : error;
  }
}
