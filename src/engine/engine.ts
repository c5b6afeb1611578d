import { accessSync, constants, existsSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { DomainError, invalid } from '../sessions/errors.js';
import type {
  Conditioning,
  Engine,
  Generation,
  GenerationOptions,
  LoraChoice,
  LoraInfo,
  ModelInfo,
} from '../sessions/ports.js';
import type { AdapterFile, AdapterLibrary } from '../packages/adapters.js';
import { loadAddon } from './addon-file.js';
import type { Addon, Device, DeviceReport, Precision } from './addon.js';
import { isEightBit } from './arithmetic.js';
import { lacksCublasLt, NO_CUBLASLT } from './cuda-libraries.js';
import { Catalog, type CatalogTimes, type Found } from '../packages/catalog.js';
import { machineMemory } from './machine-memory.js';
import { DeviceHealth, Model, type ModelOptions, type ModelSurroundings, type Rope } from './model.js';
import { ModelPool } from './model-pool.js';
import { PackageCache } from '../packages/package-cache.js';
import type { PackageSource, RemoteOptions } from '../packages/sources.js';
import { variantKey, variantOf, type WeightedAdapter } from '../packages/variants.js';

export interface EngineOptions extends RemoteOptions {
  /** Each a model package, a directory with several, `s3://bucket/prefix/` or `https://host/path/`. */
  models: string | readonly string[];
  /** Name of the default package; `pocket`, else the first, when absent. */
  model?: string;
  /** Directory with LoRA adapters. */
  loras?: string;
  /** Positions of frames, instead of what packages say. */
  rope?: Rope;
  device?: Device | 'auto';
  /** Which of several GPUs, from 0. */
  deviceIndex?: number;
  precision?: Precision | 'auto';
  /** Products of self-attention: the precision's own, or 8-bit ones on a GPU. Default `full`. */
  attention?: 'full' | 'int8';
  decoder?: 'full' | 'tiny' | 'auto';
  /** CPU threads, 0 for all. */
  threads?: number;
  /** Load the default model before anything is asked of it. Default true. */
  preload?: boolean;
  /** Device memory for models, in bytes; a share of what there is when absent. */
  modelMemoryBytes?: number;
  /** Where fetched packages and merged adapters are kept; default: in the user's cache. */
  cache?: PackageCache;
  /** How often and for how long places are looked at. */
  times?: CatalogTimes;
  /** Told of packages and adapters that cannot be used, and of models that run otherwise than one might expect. */
  warn?: (message: string) => void;
  addon?: Addon;
}

/** Of the device's memory; the rest is for the sessions and, on a CPU, for everything else. */
const MEMORY_SHARE = 0.6;
const CACHE_BYTES = 100e9;
/** Combinations of adapters that are remembered. */
const VARIANTS = 64;

/** Where packages are cached when nobody says. What lies in the temporary directory is each user's own. */
export function defaultCacheDirectory(): string {
  const cache = process.env['XDG_CACHE_HOME'] || userCache();
  return cache ? join(cache, 'longlive', 'models') : join(tmpdir(), `longlive-${process.getuid?.() ?? 0}`, 'models');
}

/** Nothing where there is no home to write to, as in containers with a read-only root or an unknown user. */
function userCache(): string | undefined {
  try {
    const home = homedir();
    const cache = join(home, '.cache');
    accessSync(existsSync(cache) ? cache : home, constants.W_OK);
    return cache;
  } catch {
    return undefined;
  }
}

/** The device models run on when nobody says: the GPU if there is one. Who names one of several GPUs wants that one. */
export function chooseDevice(devices: readonly DeviceReport[], wanted: Device | 'auto' = 'auto', index = 0): Device {
  if (wanted === 'auto' && index === 0)
    return devices.some((report) => report.device === 'cuda' && report.index === 0 && report.available)
      ? 'cuda'
      : 'cpu';
  const kind = wanted === 'auto' ? 'cuda' : wanted;
  const ofKind = devices.filter(({ device }) => device === kind);
  const report = ofKind.find((each) => each.index === index);
  if (report?.available) return kind;
  const why = index > 0 && ofKind[0]?.available ? `there are ${ofKind.length}, counted from 0` : ofKind[0]?.detail;
  const name = index > 0 ? `${kind} ${index}` : kind;
  throw new DomainError('MODEL_UNAVAILABLE', `Device ${name} cannot be used: ${why ?? 'not in this build'}.`);
}

/** The decoder models run with when nobody says: the one they were trained for, though the other one is lighter. */
export function chooseDecoder(wanted: 'full' | 'tiny' | 'auto' = 'auto'): 'full' | 'tiny' {
  return wanted === 'auto' ? 'full' : wanted;
}

/** The engine over the packages found; MODEL_UNAVAILABLE when there is none, or the default one cannot be loaded. */
export async function openEngine(options: EngineOptions): Promise<NativeEngine> {
  const addon = options.addon ?? loadAddon();
  const { deviceIndex = 0 } = options;
  const devices = addon.devices(); // Once: each is opened and tried for it.
  const device = chooseDevice(devices, options.device, deviceIndex);
  const report = devices.find((each) => each.device === device && each.index === deviceIndex);
  if (report && lacksCublasLt(report)) options.warn?.(NO_CUBLASLT);
  const addresses = typeof options.models === 'string' ? [options.models] : options.models;
  const cache = options.cache ?? new PackageCache({ directory: defaultCacheDirectory(), limitBytes: CACHE_BYTES });
  const catalog = new Catalog(addresses, cache, options, options.times);
  mustHaveDefault(await catalog.lookEverywhere(), addresses, options.model);
  const { precision = 'auto', attention = 'full', decoder, threads = 0, model, warn = () => undefined } = options;
  const engine = new NativeEngine({
    ...{ addon, catalog, model, cache, warn, rope: options.rope ?? 'package' },
    library: await openLibrary(options.loras),
    memoryBytes: options.modelMemoryBytes ?? MEMORY_SHARE * memoryOf(report),
    load: {
      ...{ device, deviceIndex, precision, threads, isa: '' },
      decoder: chooseDecoder(decoder),
      ...(attention !== 'full' && { attention }),
    },
  });
  if (options.preload ?? true) await engine.load();
  return engine;
}

/** Whoever has no adapters need not load what reads them. */
async function openLibrary(directory: string | undefined): Promise<AdapterLibrary> {
  if (directory === undefined) return { adapters: [], problems: [], misfit: () => undefined };
  const { findAdapters } = await import('../packages/adapters.js');
  return findAdapters(directory);
}

function memoryOf(report: DeviceReport | undefined): number {
  return !report || report.device === 'cpu' ? machineMemory() : report.totalMemory;
}

const USUAL = 'pocket';

function mustHaveDefault({ sources, problems }: Found, addresses: readonly string[], model: string | undefined): void {
  if (sources.some(({ name }) => model === undefined || name === model)) return;
  const what = model === undefined ? 'no usable model package' : `no model package "${model}"`;
  const why = problems.map(({ message }) => `\n  ${message}`).join('');
  throw new DomainError(
    'MODEL_UNAVAILABLE',
    `There is ${what} in ${addresses.join(', ')}; set "models" (LONGLIVE_MODELS) to a place that has one.${why}`,
  );
}

export interface EngineParts {
  addon: Addon;
  /** Looked at once. */
  catalog: Catalog;
  /** Name of the default package, when one was named. */
  model: string | undefined;
  library: AdapterLibrary;
  cache: PackageCache;
  memoryBytes: number;
  load: ModelOptions;
  rope: Rope;
  warn: (message: string) => void;
}

/** A model of its own, and those with adapters merged into it. */
interface Family {
  base: Model;
  variants: Map<string, Model>;
}

export class NativeEngine implements Engine, AsyncDisposable {
  /** By name, the default first. */
  private families = new Map<string, Family>();
  private readonly pool: ModelPool;
  private readonly surroundings: ModelSurroundings;
  private told: ReadonlySet<string> = new Set();

  constructor(private readonly parts: EngineParts) {
    const { addon, load, rope, warn, library, catalog } = parts;
    this.surroundings = { addon, load, rope, warn, health: new DeviceHealth() };
    this.pool = new ModelPool(parts.memoryBytes);
    for (const { message } of library.problems) warn(message);
    this.adopt(catalog.found);
    catalog.watch((found) => this.adopt(found));
  }

  models(): ModelInfo[] {
    return [...this.families.values()].map(({ base }) => base.info);
  }

  async refresh(name?: string): Promise<void> {
    const { catalog } = this.parts;
    const unknown = name !== undefined && !this.families.has(name);
    this.adopt(unknown ? await catalog.lookEverywhere() : await catalog.lookAround());
  }

  get fault(): string | undefined {
    return this.surroundings.health.fault?.message;
  }

  get refusedRecordings(): number {
    return this.surroundings.health.refusedRecordings;
  }

  check(name: string, options: GenerationOptions): void {
    const model = this.find(name, options.loras);
    model.check(options);
    this.pool.check(model);
  }

  unknownWords(name: string, { loras = [] }: Pick<GenerationOptions, 'loras'>, prompt: string): string[] | undefined {
    return loras.length === 0 ? this.families.get(name)?.base.unknownWords(prompt) : undefined;
  }

  /** Loads a model (the default one when none is named) before anything is asked of it. */
  async load(name = this.models()[0]?.name ?? ''): Promise<void> {
    await this.use(this.find(name), async () => undefined).then(({ leave }) => leave());
  }

  async preload(name: string, { loras }: GenerationOptions, prompt?: string): Promise<void> {
    const model = this.find(name, loras);
    const encoded = async () => {
      if (prompt !== undefined) await model.encode(prompt).catch(() => undefined);
    };
    await this.use(model, encoded).then(({ leave }) => leave());
  }

  async open(name: string, options: GenerationOptions): Promise<Generation> {
    const model = this.find(name, options.loras);
    return this.generation(model, () => model.open(options));
  }

  async restore(
    name: string,
    options: GenerationOptions,
    checkpoint: Uint8Array,
    conditioning: Conditioning,
  ): Promise<Generation> {
    const model = this.find(name, options.loras);
    return this.generation(model, () => model.restore(options, checkpoint, conditioning));
  }

  async close(): Promise<void> {
    this.parts.catalog.close();
    await Promise.all([...this.families.values()].flatMap(modelsOf).map((model) => model.dispose()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** What was not found any more but is loaded stays until it would have to be loaded again. */
  private adopt({ sources, problems }: Found): void {
    const messages = problems.map(({ message }) => message);
    for (const message of messages) if (!this.told.has(message)) this.parts.warn(message);
    this.told = new Set(messages);
    const before = this.families;
    const after = new Map<string, Family>();
    for (const source of sources) {
      const known = before.get(source.name);
      after.set(source.name, known && isSame(known.base.source, source) ? known : this.family(source));
    }
    for (const [name, family] of before) {
      if (after.get(name) === family) continue;
      if (!after.has(name) && family.base.state !== 'AVAILABLE') after.set(name, family);
      else for (const model of modelsOf(family)) this.pool.retire(model);
    }
    const first = this.parts.model ?? USUAL;
    this.families = new Map([...after].sort(([a], [b]) => Number(b === first) - Number(a === first)));
  }

  private family(source: PackageSource): Family {
    const { library } = this.parts;
    const fitting = library.adapters.filter((adapter) => library.misfit(adapter, source) === undefined).map(loraInfo);
    return { base: new Model(source, this.surroundings, fitting), variants: new Map() };
  }

  private async generation(model: Model, open: () => Promise<Generation>): Promise<Generation> {
    const { result, leave } = await this.use(model, open);
    return leaving(result, leave);
  }

  /** Loads the model and does the work; it stays in use until the caller leaves it. */
  private async use<T>(model: Model, work: () => Promise<T>): Promise<{ result: T; leave: () => void }> {
    const leave = this.pool.enter(model);
    try {
      await model.load().catch((error: unknown) => this.loadAlone(model, error));
      this.pool.trim();
      return { result: await work(), leave };
    } catch (error) {
      leave();
      throw error;
    }
  }

  /** What the budget allows may still be too much for the device: idle models are in the way then. */
  private async loadAlone(model: Model, error: unknown): Promise<void> {
    const tooLarge = error instanceof DomainError && error.code === 'AT_CAPACITY';
    if (!tooLarge || !this.pool.evictIdle()) throw error;
    await model.load();
  }

  private find(name: string, loras: readonly LoraChoice[] = []): Model {
    const family = this.families.get(name);
    if (!family) throw new DomainError('MODEL_UNAVAILABLE', `There is no model "${name}".`, { field: 'model' });
    return loras.length === 0 ? family.base : this.variant(family, loras);
  }

  private variant({ base, variants }: Family, loras: readonly LoraChoice[]): Model {
    const { addon, cache, warn } = this.parts;
    const eightBit = isEightBit(base.precision);
    const chosen = loras.map((lora, index) => this.adapter(base, lora, `loras[${index}].name`));
    const key = variantKey(base.source, chosen, eightBit);
    const addProduct: Addon['addProduct'] = (...product) => addon.addProduct(...product);
    const surroundings = { cache, addProduct, eightBit, warn };
    const known = variants.get(key) ?? new Model(variantOf(base.source, chosen, surroundings), this.surroundings);
    variants.delete(key);
    variants.set(key, known);
    const idle = [...variants].find(([, model]) => model.state === 'AVAILABLE' && model !== known);
    if (variants.size > VARIANTS && idle) variants.delete(idle[0]);
    return known;
  }

  private adapter(base: Model, { name, weight }: LoraChoice, field: string): WeightedAdapter {
    const { library } = this.parts;
    const adapter = library.adapters.find((candidate) => candidate.name === name.normalize('NFC'));
    if (!adapter) {
      const known = base.info.loras.map((lora) => lora.name).join(', ') || 'none';
      throw invalid(field, `There is no LoRA "${name}"; available for model "${base.name}": ${known}.`);
    }
    const why = library.misfit(adapter, base.source);
    if (why !== undefined) throw invalid(field, `LoRA "${name}" does not fit model "${base.name}": ${why}`);
    return { adapter, weight };
  }
}

function modelsOf({ base, variants }: Family): Model[] {
  return [base, ...variants.values()];
}

/** Whether what was loaded from one is what would be loaded from the other. */
function isSame(a: PackageSource, b: PackageSource): boolean {
  return a.digest === b.digest && a.address === b.address;
}

function loraInfo({ name, digest, bytes, pairs }: AdapterFile): LoraInfo {
  return { name, digest, bytes, matrices: pairs.size };
}

/** The generation, which leaves its model when it is disposed of. */
function leaving(generation: Generation, leave: () => void): Generation {
  const dispose = () => {
    generation.dispose();
    leave();
  };
  return {
    get block() {
      return generation.block;
    },
    get ended() {
      return generation.ended;
    },
    encodePrompt: (conditioning) => generation.encodePrompt(conditioning),
    setPrompt: (conditioning, mode) => generation.setPrompt(conditioning, mode),
    step: () => generation.step(),
    abandonBlock: () => generation.abandonBlock(),
    checkpoint: () => generation.checkpoint(),
    dispose,
    [Symbol.dispose]: dispose,
  };
}
