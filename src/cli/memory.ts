import {
  type Addon,
  arithmeticOf,
  chooseDecoder,
  type Device,
  type EngineOptions,
  isEightBit,
  machineMemory,
  type MemoryPlan,
} from '../engine/index.js';
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

/** What `serve` would be told. */
export type Wanted = Pick<EngineOptions, 'deviceIndex' | 'decoder' | 'precision' | 'attention' | 'rope'>;

type Planner = Pick<Addon, 'devices' | 'planMemory'>;
type Settings = Pick<Parameters<Addon['planMemory']>[0], 'decoder' | 'precision' | 'attention'>;

/**
 * What a package and one session of its own size take of each kind of device as it would run there, and with the other
 * decoder if the package has one; and whether this machine has that.
 */
export async function memoryFindings(
  addon: Planner,
  source: PlannedPackage,
  wanted: Wanted = {},
): Promise<MemoryFinding[]> {
  const chosen = chooseDecoder(wanted.decoder);
  const decoders = [chosen, ...decodersOf(source).filter((decoder) => decoder !== chosen)];
  const settings = (['cpu', 'cuda'] as const).flatMap((device) => {
    const precision = arithmeticOf(wanted.precision ?? 'auto', source.storedPrecision, device);
    const { attention } = wanted;
    return decoders.map((decoder) => ({ device, settings: { decoder, precision, ...(attention && { attention }) } }));
  });
  const { deviceIndex = 0 } = wanted;
  const rooms = { cpu: roomOf(addon, 'cpu', 0), cuda: roomOf(addon, 'cuda', deviceIndex) };
  const { rope = 'package' } = wanted;
  return Promise.all(settings.map((each) => finding(addon, source, { ...each, rope }, rooms[each.device])));
}

async function finding(
  addon: Planner,
  source: PlannedPackage,
  { device, settings, rope }: { device: Device; settings: Settings; rope: NonNullable<Wanted['rope']> },
  room: number | undefined,
): Promise<MemoryFinding> {
  const topic = `Memory ${source.name}, ${device}, decoder ${settings.decoder}`;
  const plan = (chosen: Settings) =>
    addon.planMemory({ directory: source.directory, device, threads: 0, isa: '', ...chosen }, { rope });
  try {
    const needed = await plan(settings);
    const what = `${arithmetic(settings)}, ${describe(needed)}`;
    if (room === undefined) return { topic, status: 'note', detail: `${what}; there is no such device here` };
    if (totalOf(needed) <= room) return { topic, status: 'ok', detail: `${what} of ${gigabytes(room)}` };
    const others = await Promise.all(
      othersThan(settings, source).map(async (other) => ({ settings: other, bytes: totalOf(await plan(other)) })),
    );
    const fitting = others.filter(({ bytes }) => bytes <= room);
    const advice = fitting
      .map(
        ({ settings, bytes }) =>
          `decoder ${settings.decoder} with precision ${settings.precision} (${gigabytes(bytes)})`,
      )
      .join(' or ');
    const remedy = advice ? `use ${advice}` : 'use a smaller package, or one with an 8-bit text encoder';
    return { topic, status: 'note', detail: `${what}, and the device has ${gigabytes(room)}: ${remedy}` };
  } catch (error) {
    return { topic, status: 'note', detail: `Cannot be planned: ${explain(error).message}` };
  }
}

function roomOf(addon: Planner, device: Device, index: number): number | undefined {
  if (device === 'cpu') return machineMemory();
  const report = addon.devices().find((entry) => entry.device === device && entry.index === index);
  return report?.available ? report.totalMemory : undefined;
}

function decodersOf({ hasTinyDecoder }: PlannedPackage): Settings['decoder'][] {
  return hasTinyDecoder ? ['full', 'tiny'] : ['full'];
}

/** What may take less. */
function othersThan(settings: Settings, source: PlannedPackage): Settings[] {
  const { decoder, precision } = settings;
  const precisions = isEightBit(precision) ? [precision] : [precision, 'int8' as const];
  return precisions
    .flatMap((each) => decodersOf(source).map((other) => ({ ...settings, decoder: other, precision: each })))
    .filter((other) => other.decoder !== decoder || other.precision !== precision);
}

function arithmetic({ precision, attention = 'full' }: Settings): string {
  return attention === 'full' ? precision : `${precision} with ${attention} attention`;
}

function totalOf(plan: MemoryPlan): number {
  return Object.values<number>({ ...plan }).reduce((sum, bytes) => sum + bytes, 0);
}

function describe(plan: MemoryPlan): string {
  const weights = plan.textEncoder + plan.dit + plan.decoder;
  const rest = plan.pictures + plan.working + plan.reserve;
  return (
    `${gigabytes(totalOf(plan))}: weights ${gigabytes(weights)}, keys and values ${gigabytes(plan.keysAndValues)}, ` +
    `activations ${gigabytes(plan.activations)}, decoding ${gigabytes(plan.decoding)}, everything else ${gigabytes(rest)}`
  );
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(bytes < 1e9 ? 2 : 1)} GB`;
}
