import { resolve } from 'node:path';
import { Command } from 'commander';
import { damages, findPackages, type ModelPackage } from '../engine/index.js';
import { loadConfig } from '../server/index.js';
import { EXIT, Failure } from './failure.js';
import { addSettings } from './settings.js';

/** `longlive models`: which packages there are, and whether they are whole. */
export function modelsCommand(): Command {
  const list = new Command('list').description('say which model packages there are').option('--json', 'as JSON');
  const verify = new Command('verify')
    .description('read packages whole and compare their checksums')
    .argument('[name...]', 'names of packages (default: all)');
  return new Command('models')
    .description('list and verify model packages')
    .addCommand(addSettings(list, ['models']).action(runList))
    .addCommand(addSettings(verify, ['models']).action(runVerify));
}

async function runList(flags: Record<string, unknown>): Promise<void> {
  const { packages, problems } = await findPackages(modelsPath(flags));
  if (flags.json) process.stdout.write(`${JSON.stringify(packages.map(describe), null, 2)}\n`);
  else for (const line of table(packages)) process.stdout.write(`${line}\n`);
  for (const { message } of problems) process.stderr.write(`${message}\n`);
}

async function runVerify(names: string[], flags: Record<string, unknown>): Promise<void> {
  const path = modelsPath(flags);
  const { packages, problems } = await findPackages(path);
  const chosen = names.length > 0 ? packages.filter(({ manifest }) => names.includes(manifest.name)) : packages;
  const unknown = names.filter((name) => !packages.some(({ manifest }) => manifest.name === name));
  const complaints = [
    ...(names.length === 0 ? problems.map(({ message }) => message) : []),
    ...unknown.map((name) => `There is no usable model package "${name}" in ${path}.`),
  ];
  for (const source of chosen) {
    const found = [];
    for await (const damage of damages(source)) found.push(`${source.manifest.name}: ${damage}`);
    if (found.length === 0) process.stdout.write(`${source.manifest.name}: every file matches its checksum\n`);
    complaints.push(...found);
  }
  if (complaints.length > 0) throw new Failure(EXIT.unavailable, complaints.join('\n'));
}

function modelsPath(flags: Record<string, unknown>): string {
  return resolve(loadConfig(process.env, flags).models);
}

function describe({ directory, manifest, config, digest }: ModelPackage): object {
  const { name, version, title, license, files } = manifest;
  return { name, version, title, license, bytes: bytesOf(files), ...config.video, digest, directory };
}

function table(packages: readonly ModelPackage[]): string[] {
  if (packages.length === 0) return ['There are no model packages; docs/models.md says how to get some.'];
  const rows = packages.map(({ manifest, config }) => [
    manifest.name,
    manifest.version,
    `${config.video.width}x${config.video.height}`,
    `${(bytesOf(manifest.files) / 1e9).toFixed(2)} GB`,
    manifest.license,
  ]);
  const widths = rows[0]?.map((_, i) => Math.max(...rows.map((row) => (row[i] as string).length))) ?? [];
  return rows.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}

function bytesOf(files: ModelPackage['manifest']['files']): number {
  return Object.values(files).reduce((sum, { bytes }) => sum + bytes, 0);
}
