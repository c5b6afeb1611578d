import { rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import cliProgress from 'cli-progress';
import { Command, Option } from 'commander';
import { damages, findPackages, type ModelPackage } from '../packages/index.js';
import { lockOf, partialOf, quantizePackage } from '../import/index.js';
import { loadConfig } from '../server/config.js';
import { CALIBRATION_PROMPTS, type Loss, measureLoss } from './calibration.js';
import { EXIT, Failure } from './failure.js';
import { verifyHint } from './import.js';
import { wholeNumber } from './numbers.js';
import { addSettings } from './settings.js';
import { print } from './terminal.js';

interface QuantizeFlags extends Record<string, unknown> {
  out: string;
  precision: 'int8' | 'fp8';
  textEncoder?: 'int8';
  prompts?: string;
  blocks: number;
  name?: string;
  check: boolean;
  json?: boolean;
}

interface Result {
  directory: string;
  precision: string;
  files: { file: string; before: number; after: number }[];
  loss: Loss[];
}

const MOST_PROMPTS = 100;

/** `longlive quantize`: a smaller package, and what it loses. */
export function quantizeCommand(): Command {
  const command = new Command('quantize')
    .description('make a model package with 8-bit weights and measure the loss on a set of prompts')
    .argument('<package>', 'directory of the package to quantize')
    .requiredOption('--out <directory>', 'the package directory to create; must not exist')
    .addOption(
      new Option('--precision <type>', "type of the video network's weights")
        .choices(['int8', 'fp8'])
        .makeOptionMandatory(true),
    )
    .addOption(new Option('--text-encoder <type>', 'quantize the text encoder as well').choices(['int8']))
    .option('--prompts <file>', 'file of prompts to compare with, one per line (default: a built-in set)')
    .option('--blocks <count>', 'blocks of video per prompt', wholeNumber(1, 1000), 2)
    .option('--name <name>', "name of the model (default: the directory's name)")
    .option('--no-check', 'skip the comparison')
    .option('--json', 'print only one JSON object with the measurements to standard output');
  return addSettings(command, ['device', 'threads']).action(run);
}

async function run(path: string, flags: QuantizeFlags): Promise<void> {
  const prompts = flags.prompts === undefined ? CALIBRATION_PROMPTS : await readPrompts(flags.prompts);
  const { device, threads } = loadConfig(process.env, { device: flags.device, threads: flags.threads });
  const source = await wholePackage(resolve(path));
  const killed = removeWhenKilled(resolve(flags.out));
  const { precision, textEncoder, out, name, blocks } = flags;
  let loss: Loss[] = [];
  const trial = async (directory: string) => {
    const bar = progress(2 * prompts.length);
    const original = { directory: source.directory, precision: 'bf16' as const };
    // An fp8 package is calculated with in bf16 where the processor has no fp8.
    const quantized = { directory, precision: precision === 'int8' ? ('int8' as const) : ('bf16' as const) };
    loss = await measureLoss(original, quantized, { prompts, blocks, device, threads, onPrompt: (n) => bar.update(n) });
    bar.stop();
  };
  try {
    const made = await quantizePackage({
      ...{ source, out, precision },
      ...(textEncoder && { textEncoder }),
      ...(name !== undefined && { name }),
      ...(flags.check && { trial }),
      onBegin: killed.begin,
    });
    const files = Object.entries(made.files).map(([file, { bytes }]) => {
      return { file, before: source.manifest.files[file]?.bytes ?? 0, after: bytes };
    });
    const result = { directory: made.directory, precision, files, loss };
    print(flags.json ? `${JSON.stringify(result, replacer, 2)}\n` : `${table(result)}\n`);
  } finally {
    killed.end();
  }
}

async function wholePackage(path: string): Promise<ModelPackage> {
  const { packages, problems } = await findPackages(path);
  const source = packages.find(({ directory }) => resolve(directory) === path);
  if (!source) throw new Failure(EXIT.unavailable, problems[0]?.message ?? `No model package in ${path}.`);
  for await (const damage of damages(source)) throw new Failure(EXIT.unavailable, `${path}: ${damage}`);
  return source;
}

async function readPrompts(path: string): Promise<string[]> {
  const text = await readFile(path, 'utf8').catch((error: Error) => {
    throw new Failure(EXIT.usage, `The prompts cannot be read: ${error.message}`);
  });
  const prompts = text.split('\n').map((line) => line.trim());
  const some = prompts.filter((line) => line !== '');
  if (some.length > 0 && some.length <= MOST_PROMPTS) return some;
  throw new Failure(EXIT.usage, `${path} has ${some.length} prompts; it must have 1 to ${MOST_PROMPTS}.`);
}

/** A signal leaves nothing behind, once there is something that is ours. */
function removeWhenKilled(out: string): { begin: () => void; end: () => void } {
  const stop = () => {
    for (const path of [partialOf(out), lockOf(out)]) rmSync(path, { recursive: true, force: true });
    process.exit(EXIT.interrupted);
  };
  const signals = ['SIGINT', 'SIGTERM'] as const;
  return {
    begin: () => signals.forEach((signal) => process.once(signal, stop)),
    end: () => signals.forEach((signal) => process.removeListener(signal, stop)),
  };
}

function progress(total: number): cliProgress.SingleBar {
  const bar = new cliProgress.SingleBar(
    { format: '{bar} {value}/{total} prompts', stream: process.stderr, hideCursor: true },
    cliProgress.Presets.shades_classic,
  );
  bar.start(total, 0);
  return bar;
}

const PROMPT_WIDTH = 60;

export function table({ directory, precision, files, loss }: Result): string {
  const sum = (which: 'before' | 'after') => files.reduce((total, file) => total + file[which], 0);
  const all = [...files, { file: 'all', before: sum('before'), after: sum('after') }];
  const sizes = all.map(({ file, before, after }) => {
    return `${file.padEnd(28)}${megabytes(before)} ${megabytes(after)}   x ${(after / before).toFixed(2)}`;
  });
  const losses = loss.map(({ prompt, latents, psnr }) => {
    const db = Number.isFinite(psnr) ? `${psnr.toFixed(1)} dB` : 'equal';
    return `${prompt.slice(0, PROMPT_WIDTH).padEnd(PROMPT_WIDTH)} ${percent(latents)} ${db.padStart(9)}`;
  });
  const head = `${'prompt'.padEnd(PROMPT_WIDTH)} ${'latents'.padStart(8)} ${'PSNR'.padStart(9)}`;
  return [
    `${'file'.padEnd(28)}${'before'.padStart(12)} ${'after'.padStart(12)}`,
    ...sizes,
    ...(losses.length > 0
      ? ['', `${precision} against the original in bf16, on the same noise:`, head, ...losses]
      : []),
    '',
    `${directory} is ready.`,
    verifyHint(directory),
  ].join('\n');
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(2)} MB`.padStart(12);
}

function percent(ratio: number): string {
  return `${(100 * ratio).toFixed(2)} %`.padStart(8);
}

/** JSON has no infinity. */
function replacer(_key: string, value: unknown): unknown {
  return value === Infinity ? null : value;
}
