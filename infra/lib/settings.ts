/** What a deployment chooses, given as `cdk deploy -c key=value`. What has no default here has none that could be right. */
export interface Settings {
  /** Availability zones that offer the instance type, of one region: `aws ec2 describe-instance-type-offerings` names them. */
  zones: string[];
  region: string;
  /** ECS-optimised GPU image. Pinned, because a newer one replaces every GPU host: deploy it when nobody minds. */
  ami: string;
  /** Digests of the Dockerfile's targets in the repository of the storage stack. */
  workerImage: string;
  apiImage: string;
  /** With one GPU, of which one worker has all. */
  instanceType: string;
  /** Hard limit of a worker; the host keeps the rest. */
  workerMemoryMiB: number;
  /** On-demand workers: at least, and at most. */
  minWorkers: number;
  maxWorkers: number;
  /** Spot workers at most; 0 for none. On-demand workers then only make up for spot ones that do not come. */
  maxSpotWorkers: number;
  minApis: number;
  maxApis: number;
  /** Model package to serve, a folder under `models/` in the bucket of packages. */
  model: string;
  precision: string;
  /** Days after which finished sessions are deleted; 0 keeps them. */
  retentionDays: number;
  /** Where alarms go; to the topic only if not given. */
  alarmEmail: string | undefined;
  /** The first deployment of the service: no worker until somebody wants one. */
  first: boolean;
}

const NUMBERS = {
  workerMemoryMiB: { fallback: 65_536, least: 4_096 },
  minWorkers: { fallback: 0, least: 0 },
  maxWorkers: { fallback: 4, least: 1 },
  maxSpotWorkers: { fallback: 4, least: 0 },
  minApis: { fallback: 2, least: 2 },
  maxApis: { fallback: 6, least: 2 },
  retentionDays: { fallback: 30, least: 0 },
} as const;

type Lookup = (key: string) => unknown;

/** Reads the settings from CDK context; `lookup` returns undefined for keys that were not given. */
export function readSettings(lookup: Lookup): Settings {
  const number = (key: keyof typeof NUMBERS) => integer(key, lookup(key) ?? NUMBERS[key].fallback, NUMBERS[key].least);
  const zones = needed(lookup, 'zones', /^[a-z]+(-[a-z]+)+-\d[a-z](,[a-z]+(-[a-z]+)+-\d[a-z])+$/, ZONES).split(',');
  const region = (zones[0] as string).slice(0, -1);
  if (zones.some((zone) => zone.slice(0, -1) !== region)) throw new Error(`zones must be of one region, got ${zones}.`);
  const settings: Settings = {
    zones,
    region,
    ami: needed(lookup, 'ami', /^ami-[0-9a-f]{8}([0-9a-f]{9})?$/, AMI),
    workerImage: needed(lookup, 'workerImage', DIGEST, IMAGE),
    apiImage: needed(lookup, 'apiImage', DIGEST, IMAGE),
    instanceType: given(lookup, 'instanceType') ?? 'p5.4xlarge',
    workerMemoryMiB: number('workerMemoryMiB'),
    minWorkers: number('minWorkers'),
    maxWorkers: number('maxWorkers'),
    maxSpotWorkers: number('maxSpotWorkers'),
    minApis: number('minApis'),
    maxApis: number('maxApis'),
    model: given(lookup, 'model') ?? 'longlive-1.3b',
    precision: given(lookup, 'precision') ?? 'auto',
    retentionDays: number('retentionDays'),
    alarmEmail: given(lookup, 'alarmEmail'),
    first: given(lookup, 'first') === 'true',
  };
  ordered(settings, 'minWorkers', 'maxWorkers');
  ordered(settings, 'minApis', 'maxApis');
  return settings;
}

const DIGEST = /^sha256:[0-9a-f]{64}$/;
const IMAGE = 'the digest of a pushed image, sha256:…; see docs/aws.md';
const AMI = 'the identifier of an ECS-optimised GPU image, ami-…; see docs/aws.md';
const ZONES = 'two or more zones that offer the instance type, such as us-east-1a,us-east-1c; see docs/aws.md';

function given(lookup: Lookup, key: keyof Settings): string | undefined {
  const value = lookup(key);
  return value === undefined || value === '' ? undefined : String(value);
}

function needed(lookup: Lookup, key: keyof Settings, form: RegExp, what: string): string {
  const value = given(lookup, key) ?? '';
  if (!form.test(value)) throw new Error(`${key} must be ${what}; got ${JSON.stringify(value)}.`);
  return value;
}

function integer(key: string, value: unknown, minimum: number): number {
  const number = Number(value);
  if (!Number.isInteger(number) || number < minimum) {
    throw new Error(`${key} must be an integer of at least ${minimum}, got ${JSON.stringify(value)}.`);
  }
  return number;
}

function ordered(settings: Settings, least: 'minWorkers' | 'minApis', most: 'maxWorkers' | 'maxApis'): void {
  if (settings[least] > settings[most]) {
    throw new Error(`${least} (${settings[least]}) must not exceed ${most} (${settings[most]}).`);
  }
}
