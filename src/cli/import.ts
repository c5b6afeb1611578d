import { basename, relative } from 'node:path';
import cliProgress from 'cli-progress';
import { Command, InvalidArgumentError, Option } from 'commander';
import { loadAddon, Tokenizer } from '../engine/index.js';
import { importModel, type Imported, type ImportOptions, type Precision, type TextPrecision } from '../import/index.js';

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
  quiet?: boolean;
}

/** `longlive import`: released checkpoints become a model package. */
export function importCommand(): Command {
  return new Command('import')
    .description('make a model package from released weights: files (.pt, .pth, .safetensors) or folders of them')
    .argument('<source...>', 'checkpoints, safetensors, or folders with them (Wan2.1, LongLive, Diffusers)')
    .requiredOption('--out <directory>', 'the package to make; must not exist yet')
    .option('--lora <file[:weight]>', 'merge an adapter into the video network; may be given several times', loraOf, [])
    .option('--lora-alpha <number>', 'alpha of adapters that do not say it themselves (default: their rank)', positive)
    .addOption(
      new Option('--precision <type>', 'of the matrices of the video network (fp32: of all networks)')
        .choices(['bf16', 'int8', 'fp8', 'fp32'])
        .default('bf16'),
    )
    .addOption(
      new Option('--text-encoder <type>', 'of the matrices of the text encoder (default: bf16)').choices([
        'bf16',
        'int8',
      ]),
    )
    .option('--tokenizer <file>', 'tokenizer.json or spiece.model, if none of the sources has it')
    .option('--name <name>', 'name of the model (default: that of the directory)')
    .option('--title <text>', 'title of the model (default: its name)')
    .option('--license <text>', 'licence of the weights, for the manifest')
    .option('--heads <count>', 'attention heads of the video network, where nothing says it', whole)
    .option('--text-length <tokens>', 'longest prompt of the video network, where nothing says it', whole)
    .option('--ema', 'take averaged weights (generator_ema) where there are some')
    .option('--quiet', 'no progress bar')
    .action(run);
}

async function run(sources: string[], flags: ImportFlags): Promise<void> {
  const result = await importModel({ ...optionsOf(sources, flags), ...progress(flags.quiet ?? false) });
  process.stdout.write(`${summaryOf(result)}\n`);
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
  } = flags;
  return {
    ...{ sources, out, precision, ema },
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
    onProgress: (bytes, file) => bar.increment(bytes, { file }),
  };
}

function summaryOf({ directory, bytes, parameters, adapters }: Imported): string {
  return [
    `${directory}: ${(parameters / 1e9).toFixed(2)} billion parameters in ${(bytes / 2 ** 30).toFixed(2)} GiB`,
    ...adapters.map(({ path, modules }) => `merged ${basename(path)} into ${modules} matrices`),
    verifyHint(directory),
  ].join('\n');
}

/** By its place, for a package may be called otherwise than its directory. */
export function verifyHint(directory: string): string {
  return `Next: longlive models verify --models ${relative('', directory) || '.'}`;
}

/** A weight is what follows the last colon, if that is a number. */
export function loraOf(text: string, before: { path: string; weight: number }[]): { path: string; weight: number }[] {
  const [, path, weight] = /^(.+?)(?::(-?\d+(?:\.\d+)?))?$/.exec(text) ?? [];
  if (!path) throw new InvalidArgumentError('Expected a file, or file:weight, for example style.safetensors:0.8.');
  return [...before, { path, weight: weight === undefined ? 1 : Number(weight) }];
}

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isFinite(value) || value <= 0) throw new InvalidArgumentError('Expected a number above 0.');
  return value;
}

function whole(text: string): number {
  const value = positive(text);
  if (!Number.isInteger(value)) throw new InvalidArgumentError('Expected a whole number above 0.');
  return value;
}
