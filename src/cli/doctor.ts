import { access, constants, statfs } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { Command } from 'commander';
import { makeDirectory } from '../files/make-directory.js';
import {
  type Addon,
  type DeviceReport,
  lacksCublasLt,
  loadAddon,
  longestSeconds,
  machineMemory,
  NO_CUBLASLT,
  openEngine,
  openOpenH264,
  REFUSES_RECORDINGS,
} from '../engine/index.js';
import { damages, findSources, isRemote, type PackageSource } from '../packages/index.js';
import { ignoredVariables, loadConfig, type ServerConfig } from '../server/config.js';
import { checkExposure } from '../server/exposure.js';
import { DomainError, rehearse, systemClock } from '../sessions/index.js';
import { engineOptions, modelCache, openConfiguredStore, runningPrecision, storeOpener } from './backend.js';
import { probe } from '../storage/index.js';
import { EXIT, explain } from './failure.js';
import { memoryFindings } from './memory.js';
import { speedNotice } from './report.js';
import { addSettings } from './settings.js';
import { print } from './terminal.js';

export interface Finding {
  topic: string;
  status: 'ok' | 'note' | 'missing';
  detail: string;
}

const SETTINGS = [
  ...['models', 'model', 'modelCache', 'device', 'deviceIndex', 'precision', 'attention', 'decoder', 'rope', 'loras'],
  ...['threads', 'rehearsalSeconds', 'encoder', 'store', 's3Endpoint', 's3Region'],
];

/** `longlive doctor`: what this machine can run and what is missing; fails when it cannot serve. */
export function doctorCommand(): Command {
  const command = new Command('doctor')
    .description('report what this machine can run and what is missing')
    .option('--json', 'print the findings as JSON');
  return addSettings(command, SETTINGS).action(doctor);
}

async function doctor(flags: Record<string, unknown>): Promise<void> {
  const findings = await examine(loadConfig(process.env, flags));
  print(flags.json ? `${JSON.stringify(findings, null, 2)}\n` : `${table(findings)}\n`);
  if (findings.some(({ status }) => status === 'missing')) process.exitCode = EXIT.unavailable;
}

export async function examine(config: ServerConfig, load: () => Addon = loadAddon): Promise<Finding[]> {
  return [
    nodeFinding(),
    machineFinding(),
    ...coreFindings(config, load),
    ...(await modelFindings(config, load)),
    await storeFinding(config),
    ...(await cacheFindings(config)),
    ...(await speedFindings(config)),
    ...startFindings(config),
    ...ignoredVariables().map((detail): Finding => ({ topic: 'Settings', status: 'note', detail })),
  ];
}

/** Why `serve` would not start with these settings. Secrets that it would make are as good as there. */
function startFindings(config: ServerConfig): Finding[] {
  const { secrets, token = secrets, signingKey = secrets } = config;
  try {
    // API keys are not looked for: without any, and with nothing else, the message says so.
    checkExposure({ ...config, token, signingKey }, true);
    return [];
  } catch (error) {
    return [{ topic: 'Settings', status: 'missing', detail: explain(error).message }];
  }
}

function nodeFinding(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const fits = major > 20 || (major === 20 && minor >= 19);
  const detail = fits ? process.version : `${process.version}; at least v20.19 is needed`;
  return { topic: 'Node.js', status: fits ? 'ok' : 'missing', detail };
}

function machineFinding(): Finding {
  return {
    topic: 'Machine',
    status: 'ok',
    detail: `${availableParallelism()} cores, ${gigabytes(machineMemory())} of memory`,
  };
}

function coreFindings(config: ServerConfig, load: () => Addon): Finding[] {
  let addon: Addon;
  try {
    addon = load();
  } catch (error) {
    return [{ topic: 'Native core', status: 'missing', detail: explain(error).message }];
  }
  const cuda = addon.cudaBuilt ? 'with CUDA' : 'without CUDA';
  return [
    { topic: 'Native core', status: 'ok', detail: `version ${addon.version}, built ${cuda}` },
    ...addon.devices().map(deviceFinding),
    encoderFinding(addon, config),
  ];
}

function deviceFinding({ device, index, ...report }: DeviceReport): Finding {
  const { available, detail, isa, threads, refusedRecordings } = report;
  const totalMemory = device === 'cpu' ? Math.min(report.totalMemory, machineMemory()) : report.totalMemory;
  const slow = lacksCublasLt({ device, available, isa });
  const facts = [
    detail,
    isa,
    totalMemory > 0 ? gigabytes(totalMemory) : '',
    threads > 0 ? `${threads} threads` : '',
    refusedRecordings > 0 ? REFUSES_RECORDINGS : '',
    slow ? NO_CUBLASLT : '',
  ];
  return {
    topic: index > 0 ? `Device ${device} ${index}` : `Device ${device}`,
    status: available && refusedRecordings === 0 && !slow ? 'ok' : 'note',
    detail: facts.filter(Boolean).join(', '),
  };
}

function encoderFinding(addon: Addon, { encoder }: ServerConfig): Finding {
  try {
    const openh264 = openOpenH264(addon, 1);
    void openh264.close();
    return { topic: 'Encoder', status: 'ok', detail: `${encoder}; openh264 ${openh264.version} is here` };
  } catch (error) {
    const { message } = explain(error);
    return encoder === 'openh264'
      ? { topic: 'Encoder', status: 'missing', detail: message }
      : { topic: 'Encoder', status: 'ok', detail: 'minih264, which needs nothing' };
  }
}

async function modelFindings(config: ServerConfig, load: () => Addon): Promise<Finding[]> {
  const { sources, problems } = await findSources(config.models, modelCache(config), {
    openStore: storeOpener(config),
  });
  const findings = await Promise.all(sources.map((source) => packageFinding(source, config)));
  const usable = sources.filter(({ remote }, i) => !remote && findings[i]?.status === 'ok');
  for (const { message } of problems) findings.push({ topic: 'Model', status: 'note', detail: message });
  if (!findings.some(({ status }) => status === 'ok')) {
    const places = config.models.map((place) => (isRemote(place) ? place : resolve(place))).join(', ');
    findings.push({
      topic: 'Model',
      status: 'missing',
      detail: `No usable model package in ${places}. Add one with: longlive models add`,
    });
  }
  return [...findings, ...(await plans(usable, config, load))];
}

async function plans(sources: readonly PackageSource[], wanted: ServerConfig, load: () => Addon): Promise<Finding[]> {
  let addon: Addon;
  try {
    addon = load();
  } catch {
    return []; // said above
  }
  const planned = sources.map(({ manifest, address, config, storedPrecision }) => {
    const { name } = manifest;
    const hasTinyDecoder = Boolean(config.tinyVae);
    return memoryFindings(addon, { name, directory: address, storedPrecision, hasTinyDecoder }, wanted);
  });
  return (await Promise.all(planned)).flat();
}

async function packageFinding(source: PackageSource, settings: ServerConfig): Promise<Finding> {
  const { name, version, title } = source.manifest;
  const { width, height, fps } = source.config.video;
  const topic = `Model ${name}`;
  const stored = source.storedPrecision ?? 'unknown precision';
  const ends = longestSeconds(source.config, settings.rope);
  const end = ends === null ? '' : `, sessions end after ${Math.floor(ends)} s (--rope relative: never)`;
  const what = `${title} ${version}, ${width}x${height} at ${fps} frames/s, stored in ${stored}, runs in ${runningPrecision(source, settings)}${end}`;
  if (source.remote) return { topic, status: 'ok', detail: `${what}, fetched from ${source.address} when needed` };
  const damaged: string[] = [];
  for await (const damage of damages({ ...source, directory: source.address })) damaged.push(damage);
  if (damaged.length > 0) return { topic, status: 'note', detail: `Cannot be used: ${damaged.join(' ')}` };
  return { topic, status: 'ok', detail: `${what}, checksums match` };
}

/** Of the default model, where it lies here: nothing is downloaded for this. */
async function speedFindings(config: ServerConfig): Promise<Finding[]> {
  const limitSeconds = config.rehearsalSeconds;
  if (limitSeconds <= 0) return [];
  try {
    const models = config.models.filter((place) => !isRemote(place));
    await using engine = await openEngine({ ...engineOptions({ ...config, models }), preload: false });
    const [model] = engine.models();
    const rehearsal = model && (await rehearse(model, { engine, clock: systemClock, limitSeconds }));
    if (!rehearsal) return [];
    const { enough, text } = speedNotice(rehearsal);
    return [{ topic: 'Speed', status: enough ? 'ok' : 'note', detail: text }];
  } catch (error) {
    if (error instanceof DomainError && error.code === 'MODEL_UNAVAILABLE') return []; // said above
    return [{ topic: 'Speed', status: 'note', detail: `Could not be tried: ${explain(error).message}` }];
  }
}

async function storeFinding(config: ServerConfig): Promise<Finding> {
  try {
    const store = openConfiguredStore(config);
    await store.check();
    await probe(store);
    const free = await freeSpace(config.store);
    return { topic: 'Store', status: 'ok', detail: free ? `${config.store}, ${free} free` : config.store };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { topic: 'Store', status: 'missing', detail: `${config.store}: ${message}` };
  }
}

/** Merged adapters and packages from elsewhere need a place that can be written to. */
async function cacheFindings(config: ServerConfig): Promise<Finding[]> {
  const { directory } = modelCache(config);
  try {
    await makeDirectory(directory);
    await access(directory, constants.W_OK);
    return [];
  } catch (error) {
    const needed = config.loras !== undefined || config.models.some(isRemote);
    const why = error instanceof Error ? error.message : String(error);
    const detail = `${directory} cannot be written to (${why}); set --model-cache (LONGLIVE_MODEL_CACHE), otherwise sessions cannot use LoRAs or remote models.`;
    return [{ topic: 'Model cache', status: needed ? 'missing' : 'note', detail }];
  }
}

async function freeSpace(path: string): Promise<string | undefined> {
  const found = await statfs(path).catch(() => undefined);
  return found && gigabytes(found.bavail * found.bsize);
}

function gigabytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

function table(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ topic }) => topic.length));
  return findings
    .map(({ topic, status, detail }) => `${status.padEnd(7)} ${topic.padEnd(width)}  ${detail}`)
    .join('\n');
}
