import { totalmem } from 'node:os';
import { type Addon, arithmeticOf, type Device, type MemoryPlan } from '../engine/index.js';
import { explain } from './failure.js';

export interface MemoryFinding {
  topic: string;
  status: 'ok' | 'note';
  detail: string;
}

/** A package on this machine's disk. */
export interface PlannedPackage {
  name: string;
  directory: string;
  storedPrecision: string | null;
  hasTinyDecoder: boolean;
}

type Planner = Pick<Addon, 'devices' | 'planMemory'>;
type Settings = Pick<Parameters<Addon['planMemory']>[0], 'decoder' | 'precision'>;

/** What a package and one session of its own size take of each kind of device, and whether this machine has that. */
export async function memoryFindings(addon: Planner, source: PlannedPackage): Promise<MemoryFinding[]> {
  return Promise.all((['cpu', 'cuda'] as const).map((device) => finding(addon, source, device)));
}

async function finding(addon: Planner, source: PlannedPackage, device: Device): Promise<MemoryFinding> {
  const topic = `Memory ${source.name}, ${device}`;
  const room = roomOf(addon, device);
  const plan = (settings: Settings) =>
    addon.planMemory({ directory: source.directory, device, threads: 0, isa: '', ...settings });
  const usual: Settings = { decoder: 'full', precision: arithmeticOf('auto', source.storedPrecision, device) };
  try {
    const needed = await plan(usual);
    if (room === undefined)
      return { topic, status: 'note', detail: `${describe(needed)}; there is no such device here` };
    if (totalOf(needed) <= room) return { topic, status: 'ok', detail: `${describe(needed)} of ${gigabytes(room)}` };
    const others = await Promise.all(
      lighter(source, usual).map(async (settings) => ({ settings, bytes: totalOf(await plan(settings)) })),
    );
    const fitting = others.filter(({ bytes }) => bytes <= room);
    const advice = fitting
      .map(
        ({ settings, bytes }) =>
          `decoder ${settings.decoder} with precision ${settings.precision} (${gigabytes(bytes)})`,
      )
      .join(' or ');
    const what = advice ? `use ${advice}` : 'use a smaller package, or one with an 8-bit text encoder';
    return { topic, status: 'note', detail: `${describe(needed)}, and the device has ${gigabytes(room)}: ${what}` };
  } catch (error) {
    return { topic, status: 'note', detail: `Cannot be planned: ${explain(error).message}` };
  }
}

function roomOf(addon: Planner, device: Device): number | undefined {
  if (device === 'cpu') return totalmem();
  const report = addon.devices().find((entry) => entry.device === device);
  return report?.available ? report.totalMemory : undefined;
}

function lighter({ hasTinyDecoder }: PlannedPackage, { precision }: Settings): Settings[] {
  const narrow = precision === 'bf16' ? [precision, 'int8' as const] : [precision];
  const decoders = hasTinyDecoder ? (['full', 'tiny'] as const) : (['full'] as const);
  const all = narrow.flatMap((each) => decoders.map((decoder): Settings => ({ decoder, precision: each })));
  return all.slice(1);
}

function totalOf(plan: MemoryPlan): number {
  return Object.values<number>({ ...plan }).reduce((sum, bytes) => sum + bytes, 0);
}

function describe(plan: MemoryPlan): string {
  const weights = plan.textEncoder + plan.dit + plan.decoder;
  const rest = plan.pictures + plan.working + plan.reserve;
  return (
    `${gigabytes(totalOf(plan))}: weights ${gigabytes(weights)}, keys and values ${gigabytes(plan.keysAndValues)}, ` +
    `activations ${gigabytes(plan.activations)}, decoding ${gigabytes(plan.decoding)}, all else ${gigabytes(rest)}`
  );
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(bytes < 1e9 ? 2 : 1)} GB`;
}
