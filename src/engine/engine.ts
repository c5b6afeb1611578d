import { DomainError } from '../sessions/errors.js';
import type { Engine, Generation, GenerationOptions, ModelInfo } from '../sessions/ports.js';
import { loadAddon } from './addon-file.js';
import type { Addon, Device, Precision } from './addon.js';
import { Model } from './model.js';
import { findPackages, type ModelPackage, type PackageProblem } from './package.js';

export interface EngineOptions {
  /** A model package, or a directory with several. */
  models: string;
  /** Name of the default package; `pocket`, else the first, when absent. */
  model?: string;
  device?: Device | 'auto';
  precision?: Precision | 'auto';
  decoder?: 'full' | 'tiny' | 'auto';
  /** CPU threads, 0 for all. */
  threads?: number;
  /** Load the default model before anything is asked of it. Default true. */
  preload?: boolean;
  addon?: Addon;
}

/** The device models run on when nobody says: the GPU if there is one. */
export function chooseDevice(addon: Addon, wanted: Device | 'auto' = 'auto'): Device {
  const devices = addon.devices();
  if (wanted === 'auto')
    return devices.some(({ device, available }) => device === 'cuda' && available) ? 'cuda' : 'cpu';
  const report = devices.find(({ device }) => device === wanted);
  if (report?.available) return wanted;
  throw new DomainError(
    'MODEL_UNAVAILABLE',
    `Device ${wanted} cannot be used: ${report?.detail ?? 'not in this build'}.`,
  );
}

/** The engine over the packages found; MODEL_UNAVAILABLE when there is none, or the default one cannot be loaded. */
export async function openEngine(options: EngineOptions): Promise<NativeEngine> {
  const addon = options.addon ?? loadAddon();
  const device = chooseDevice(addon, options.device);
  const { packages, problems } = await findPackages(options.models);
  const ordered = defaultFirst(packages, problems, options);
  const { precision = 'auto', decoder = 'auto', threads = 0 } = options;
  const load = {
    device,
    precision: precision === 'auto' ? ('bf16' as const) : precision,
    decoder: decoder === 'auto' ? ('full' as const) : decoder,
    threads,
    isa: '',
  };
  const engine = new NativeEngine(
    ordered.map((source) => new Model(addon, source, load)),
    problems,
  );
  if (options.preload ?? true) await engine.load();
  return engine;
}

function defaultFirst(packages: ModelPackage[], problems: PackageProblem[], options: EngineOptions): ModelPackage[] {
  const wanted = options.model ?? (packages.some(({ manifest }) => manifest.name === 'pocket') ? 'pocket' : undefined);
  const first = wanted === undefined ? packages[0] : packages.find(({ manifest }) => manifest.name === wanted);
  if (first) return [first, ...packages.filter((other) => other !== first)];
  const what = options.model === undefined ? 'no usable model package' : `no model package "${options.model}"`;
  const why = problems.map(({ message }) => `\n  ${message}`).join('');
  throw new DomainError('MODEL_UNAVAILABLE', `There is ${what} in ${options.models}.${why}`);
}

export class NativeEngine implements Engine {
  private readonly byName: Map<string, Model>;

  constructor(
    models: Model[],
    /** Packages that were found and cannot be used. */
    readonly problems: readonly PackageProblem[],
  ) {
    this.byName = new Map(models.map((model) => [model.info.name, model]));
  }

  models(): ModelInfo[] {
    return [...this.byName.values()].map(({ info }) => info);
  }

  check(model: string, options: GenerationOptions): void {
    this.find(model).check(options);
  }

  /** Loads a model (the default one when none is named) before anything is asked of it. */
  async load(model = this.models()[0]?.name ?? ''): Promise<void> {
    await this.find(model).load();
  }

  async open(model: string, options: GenerationOptions): Promise<Generation> {
    return this.find(model).open(options);
  }

  async restore(
    model: string,
    options: GenerationOptions,
    checkpoint: Uint8Array,
    prompt: string,
  ): Promise<Generation> {
    return this.find(model).restore(options, checkpoint, prompt);
  }

  async close(): Promise<void> {
    await Promise.all([...this.byName.values()].map((model) => model.dispose()));
  }

  private find(name: string): Model {
    const model = this.byName.get(name);
    if (!model) throw new DomainError('MODEL_UNAVAILABLE', `There is no model "${name}".`, { field: 'model' });
    return model;
  }
}
