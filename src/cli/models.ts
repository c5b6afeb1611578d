import { stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline/promises';
import cliProgress from 'cli-progress';
import { Command } from 'commander';
import { parseSetting, settingNames } from '../import/index.js';
import {
  bytesOf,
  configurePackage,
  damages,
  fetchError,
  findSources,
  installPackage,
  isRemote,
  openFolder,
  type PackageProblem,
  type PackageSource,
  pinnedName,
  readFolder,
  readPackage,
  type RemoteOptions,
  removePackage,
} from '../packages/index.js';
import { loadConfig, type ServerConfig } from '../server/config.js';
import { modelCache, runningPrecision, storeOpener } from './backend.js';
import { EXIT, Failure } from './failure.js';
import { wholeNumber } from './numbers.js';
import { addSettings } from './settings.js';
import { BLOCKS } from './verification/cases.js';
import { verifyFilms, type VerifyFlags } from './verification/command.js';
import { PACKAGE_NAME } from '../import/package-name.js';
import { complain, print, printable } from './terminal.js';

const SETTINGS = ['models', 'modelCache', 'modelCacheGigabytes', 's3Endpoint', 's3Region'];
/** How packages are calculated with when they are verified. */
const RUNNING = ['device', 'deviceIndex', 'precision', 'attention', 'decoder', 'rope', 'threads'];
const SERVICE_TIMEOUT_MS = 10_000;

/** `longlive models`: which packages there are, whether they are whole, how they come and go. */
export function modelsCommand(): Command {
  const list = new Command('list')
    .description('list the model packages')
    .option('--service <url>', 'ask this running service what it has loaded')
    .option('--json', 'as JSON');
  const add = new Command('add')
    .description('copy or download a package into the models directory; only complete, verified packages are added')
    .argument('<source>', 'a directory, s3://bucket/prefix/ or https://host/path/')
    .option('--name <name>', 'store it under another name; NAME@VERSION puts it beside another version')
    .option('--keep-old', 'keep a package of that name that is there as NAME@VERSION, for the sessions made with it')
    .option('--quiet', 'do not show a progress bar');
  const verify = new Command('verify')
    .description(
      'compare the checksums of packages; of those that are named, generate films too, judge them and write a report',
    )
    .argument('[name...]', 'names of packages (default: the checksums of all)')
    .option('--files', 'only compare checksums')
    .option('--report <file>', 'where the page goes, its figures beside it as .json (default: verify-NAME.html)')
    .option(
      '--reference <file>',
      'pictures of the reference implementation to compare with (bench/reference_frames.py)',
    )
    .option('--blocks <number>', 'blocks of every film', wholeNumber(1, 1000), BLOCKS);
  const configure = new Command('configure')
    .description('change how a package is sampled, such as rope=relative, and renew its manifest')
    .argument('<name>', 'name of the package')
    .argument('[setting...]', `KEY=VALUE: ${settingNames().join(', ')}; without any, accept config.json as edited`);
  const remove = new Command('remove')
    .description('delete a package from the models directory')
    .argument('<name>', 'name of the package')
    .option('--yes', 'do not ask');
  return new Command('models')
    .description('list, add, verify, configure and remove model packages')
    .addCommand(addSettings(list, [...SETTINGS, 'device', 'precision', 'token']).action(runList))
    .addCommand(addSettings(add, SETTINGS).action(runAdd))
    .addCommand(addSettings(verify, [...SETTINGS, ...RUNNING]).action(runVerify))
    .addCommand(addSettings(configure, ['models']).action(runConfigure))
    .addCommand(addSettings(remove, ['models']).action(runRemove));
}

// -- list

interface Listed {
  name: string;
  version: string;
  title: string;
  license: string;
  width: number;
  height: number;
  bytes: number;
  /** Of most weights of the video network in the package. */
  storedPrecision: string | null;
  /** What it is, or would be, calculated with. */
  precision: string;
  digest: string;
  source: string;
  /** On this machine. */
  local: boolean;
  /** By the service that was asked. */
  state: string | null;
}

async function runList(flags: Record<string, unknown> & { service?: string }): Promise<void> {
  const config = loadConfig(process.env, flags);
  const { sources, problems } = await find(config);
  const running = flags.service === undefined ? undefined : await modelsOf(flags.service, config.token);
  const rows = await Promise.all(sources.map((source) => describe(source, config, running)));
  print(flags.json ? `${JSON.stringify(rows, null, 2)}\n` : `${table(rows)}\n`);
  for (const { message } of problems) complain(`${message}\n`);
}

function find(config: ServerConfig): ReturnType<typeof findSources> {
  return findSources(config.models, modelCache(config), remoteOptions(config));
}

function remoteOptions(config: ServerConfig): RemoteOptions {
  return { openStore: storeOpener(config) };
}

async function describe(
  source: PackageSource,
  config: ServerConfig,
  running: ReadonlyMap<string, Running> | undefined,
): Promise<Listed> {
  const { manifest, digest, address } = source;
  const [name, version, title, license] = [source.name, manifest.version, manifest.title, manifest.license].map(
    printable,
  ) as [string, string, string, string];
  const { width, height } = source.config.video;
  const directory = await directoryOf(source, config);
  const there = running?.get(digest);
  const local = directory !== undefined;
  return {
    name,
    version,
    title,
    license,
    width,
    height,
    bytes: bytesOf(manifest),
    storedPrecision: source.storedPrecision,
    precision: there?.precision ?? runningPrecision(source, config),
    digest,
    source: address,
    local,
    state: there?.state ?? null,
  };
}

/** Where a package is on this machine, if it is. */
async function directoryOf(
  { remote, address, digest }: PackageSource,
  config: ServerConfig,
): Promise<string | undefined> {
  if (!remote) return address;
  const cache = modelCache(config);
  return (await cache.has(digest)) ? join(cache.directory, digest) : undefined;
}

interface Running {
  digest: string;
  state: string;
  precision: string;
}

/** What a running service says of its models, by digest. */
async function modelsOf(url: string, token: string | undefined): Promise<Map<string, Running>> {
  try {
    const response = await fetch(new URL('/graphql', url), {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) },
      body: JSON.stringify({ query: '{ models { digest state precision } }' }),
      signal: AbortSignal.timeout(SERVICE_TIMEOUT_MS),
    });
    if (!response.ok) throw new Error(`it answered ${response.status}`);
    const { data } = (await response.json()) as { data: { models: Running[] } };
    return new Map(data.models.map((model) => [model.digest, model]));
  } catch (error) {
    throw new Failure(
      EXIT.unavailable,
      `${url} did not answer: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

function table(rows: readonly Listed[]): string {
  if (rows.length === 0) return 'No model packages found; see docs/models.md for how to get them.';
  const cells = rows.map(
    ({ name, version, width, height, bytes, storedPrecision, precision, license, local, state }) => [
      ...[name, version, `${width}x${height}`, `${(bytes / 1e9).toFixed(2)} GB`],
      ...[precisionCell(storedPrecision, precision), license],
      state?.toLowerCase() ?? (local ? 'here' : 'elsewhere'),
    ],
  );
  const widths = cells[0]?.map((_, i) => Math.max(...cells.map((row) => (row[i] as string).length))) ?? [];
  const lines = cells.map((row) => row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  '));
  return lines.map((line) => line.trimEnd()).join('\n');
}

function precisionCell(stored: string | null, running: string): string {
  if (stored === running) return stored;
  return [stored, `runs in ${running}`].filter(Boolean).join(', ');
}

// -- add

interface AddFlags extends Record<string, unknown> {
  name?: string;
  keepOld?: boolean;
}

async function runAdd(source: string, flags: AddFlags): Promise<void> {
  const config = loadConfig(process.env, flags);
  const directory = await modelsDirectory(config);
  const bar = flags.quiet === true || !process.stderr.isTTY ? undefined : progressBar();
  try {
    const found = await readFolder(folderOf(source, config));
    const name = flags.name ?? found.manifest.name;
    const pinned = pinnedName(found.manifest);
    if (!PACKAGE_NAME.test(name) && name !== pinned) {
      throw new Failure(
        EXIT.usage,
        `"${name}" cannot be the name of a model; use a-z, 0-9, dot, dash, underscore, or ${pinned}.`,
      );
    }
    const place = join(directory, name);
    const keepOldAt = await placeOfOld(place, flags.keepOld === true);
    bar?.start(bytesOf(found.manifest), 0);
    const onProgress = ({ fetchedBytes }: { fetchedBytes: number }) => bar?.update(fetchedBytes);
    await installPackage(found, place, { onProgress, ...(keepOldAt !== undefined && { keepOldAt }) });
    const { title, version, license } = found.manifest;
    print(`${printable(place)}: ${printable(title)} ${printable(version)}, licence: ${printable(license)}\n`);
  } catch (error) {
    throw isExpected(error) ? fetchError(error) : new Failure(EXIT.unavailable, messageOf(error));
  } finally {
    bar?.stop();
  }
}

/** Where a package goes whose place another one takes; undefined when there is none. */
async function placeOfOld(place: string, keep: boolean): Promise<string | undefined> {
  if (!(await exists(place))) return undefined;
  const name = basename(place);
  if (!keep) {
    throw new Failure(
      EXIT.usage,
      `${place} exists already; choose another --name, keep it beside the new one with --keep-old, or run: longlive models remove ${name}`,
    );
  }
  const kept = join(dirname(place), pinnedName((await readPackage(place)).manifest));
  if (!(await exists(kept))) return kept;
  throw new Failure(EXIT.usage, `${kept} exists already; what is at ${place} cannot be kept there.`);
}

function isExpected(error: unknown): boolean {
  return error instanceof Failure || fetchError(error) !== error;
}

function folderOf(source: string, config: ServerConfig) {
  try {
    return openFolder(source, remoteOptions(config));
  } catch (error) {
    throw new Failure(EXIT.usage, messageOf(error));
  }
}

function progressBar(): cliProgress.SingleBar {
  return new cliProgress.SingleBar(
    { format: '{bar} {percentage} % | {eta} s', stream: process.stderr, hideCursor: true },
    cliProgress.Presets.shades_classic,
  );
}

/** Where packages are added and removed: the first directory of `models`. */
async function modelsDirectory(config: ServerConfig): Promise<string> {
  const local = config.models.find((place) => !isRemote(place));
  if (local === undefined)
    throw new Failure(EXIT.usage, 'No directory in --models can hold a package; name a local directory with --models.');
  const directory = resolve(local);
  if (!(await exists(join(directory, 'manifest.json')))) return directory;
  throw new Failure(EXIT.usage, `${directory} is a model package; name a directory of packages with --models.`);
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

// -- verify

async function runVerify(names: string[], flags: VerifyFlags): Promise<void> {
  const config = loadConfig(process.env, flags);
  const { sources, problems } = await find(config);
  const chosen = names.length > 0 ? sources.filter(({ name }) => names.includes(name)) : sources;
  const unknown = names.filter((name) => !sources.some((source) => source.name === name));
  const complaints = [
    ...(names.length === 0 ? problems.map(({ message }) => message) : []),
    ...unknown.map((name) => unusable(name, config.models, problems)),
  ];
  for (const source of chosen) complaints.push(...(await verify(source, config)));
  if (complaints.length > 0) throw new Failure(EXIT.unavailable, complaints.join('\n'));
  if (names.length > 0 && !flags.files) await verifyFilms(names, config, flags);
}

/** What stands at its place and cannot be read is probably what was meant. */
function unusable(name: string, places: readonly string[], problems: readonly PackageProblem[]): string {
  const own = problems.filter(({ directory }) => basename(directory) === name).map(({ message }) => message);
  if (own.length > 0) return own.join('\n');
  return `No usable model package "${name}" in ${places.join(', ')}; see: longlive models list`;
}

async function verify(source: PackageSource, config: ServerConfig): Promise<string[]> {
  const { name } = source;
  const directory = await directoryOf(source, config);
  if (directory === undefined) {
    print(`${name}: not downloaded from ${printable(source.address)} yet; files are verified when they are\n`);
    return [];
  }
  const found: string[] = [];
  for await (const damage of damages({ ...source, directory })) {
    const edited = damage.startsWith('config.json') ? ` If you edited it: longlive models configure ${name}` : '';
    found.push(`${name}: ${damage}${edited}`);
  }
  if (found.length === 0) print(`${name}: every file matches its checksum\n`);
  return found;
}

// -- configure

async function runConfigure(name: string, texts: string[], flags: Record<string, unknown>): Promise<void> {
  const config = loadConfig(process.env, flags);
  const settings = texts.map(parseSetting);
  const { sources, problems } = await findSources(
    config.models.filter((place) => !isRemote(place)),
    modelCache(config),
  );
  const found = sources.find((source) => source.name === name && !source.remote);
  if (!found && problems.some(({ directory }) => basename(directory) === name))
    throw new Failure(EXIT.unavailable, unusable(name, config.models, problems));
  if (!found) {
    throw new Failure(
      EXIT.usage,
      `No model package "${name}" in the local directories of --models (${config.models.join(', ')}). To copy a remote package: longlive models add`,
    );
  }
  const { changes, digest, renewed } = await configurePackage(found.address, settings);
  const lines = changes.map(
    ({ key, before, after }) => `${key}: ${JSON.stringify(before)} -> ${JSON.stringify(after)}`,
  );
  if (renewed) lines.push('config.json was edited; the manifest now matches it');
  const end =
    lines.length > 0
      ? `${printable(found.address)}: manifest updated, digest ${digest}`
      : `${printable(found.address)}: nothing to change`;
  print(`${[...lines, end].join('\n')}\n`);
}

// -- remove

async function runRemove(name: string, flags: Record<string, unknown>): Promise<void> {
  const config = loadConfig(process.env, flags);
  const directory = await modelsDirectory(config);
  const { sources } = await findSources([directory], modelCache(config));
  const found = sources.find((source) => source.name === name);
  if (!found) throw new Failure(EXIT.usage, `No model package "${name}" in ${directory}.`);
  if (flags.yes !== true && !(await confirmed(`Delete ${printable(found.address)}?`))) {
    throw new Failure(EXIT.usage, `Nothing was deleted. To delete ${printable(found.address)}, add --yes.`);
  }
  await removePackage(found.address);
  print(`${printable(found.address)}: deleted\n`);
}

/** Only a person at a terminal can be asked. */
async function confirmed(question: string): Promise<boolean> {
  if (!process.stdin.isTTY) return false;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await terminal.question(`${question} [y/N] `)).trim());
  } finally {
    terminal.close();
  }
}
