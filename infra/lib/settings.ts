/** What a deployment may choose, given as `cdk deploy -c key=value`. */
export interface Settings {
  /** Image URI of the CUDA target of the Dockerfile. */
  image: string;
  /** One H100 per instance, one worker per instance. */
  instanceType: string;
  minWorkers: number;
  maxWorkers: number;
  /** ACM certificate for HTTPS. Without it the balancer only listens on port 80, for trials in a private network. */
  certificateArn: string | undefined;
  /** Whether the load balancer is reachable from the internet. */
  internetFacing: boolean;
  /** Days after which finished sessions are deleted; 0 keeps them. */
  retentionDays: number;
  /** Model package to serve, a folder under `models/` in the bucket. */
  model: string;
}

const defaults: Settings = {
  image: 'longlive-service:cuda',
  instanceType: 'p5.4xlarge',
  minWorkers: 1,
  maxWorkers: 4,
  certificateArn: undefined,
  internetFacing: false,
  retentionDays: 30,
  model: 'longlive-1.3b',
};

function integer(key: string, value: unknown, minimum: number): number {
  const number = Number(value);
  if (!Number.isInteger(number) || number < minimum) {
    throw new Error(`${key} must be an integer of at least ${minimum}, got ${JSON.stringify(value)}.`);
  }
  return number;
}

/** Reads the settings from CDK context; `lookup` returns undefined for keys that were not given. */
export function readSettings(lookup: (key: string) => unknown): Settings {
  const text = (key: keyof Settings): string => {
    const value = lookup(key);
    return typeof value === 'string' && value !== '' ? value : String(defaults[key]);
  };
  const count = (key: 'minWorkers' | 'maxWorkers' | 'retentionDays', minimum: number): number =>
    integer(key, lookup(key) ?? defaults[key], minimum);

  const settings: Settings = {
    image: text('image'),
    instanceType: text('instanceType'),
    minWorkers: count('minWorkers', 0),
    maxWorkers: count('maxWorkers', 1),
    certificateArn: (lookup('certificateArn') as string | undefined) ?? defaults.certificateArn,
    internetFacing: String(lookup('internetFacing') ?? defaults.internetFacing) === 'true',
    retentionDays: count('retentionDays', 0),
    model: text('model'),
  };
  if (settings.minWorkers > settings.maxWorkers) {
    throw new Error(`minWorkers (${settings.minWorkers}) must not exceed maxWorkers (${settings.maxWorkers}).`);
  }
  if (settings.internetFacing && settings.certificateArn === undefined) {
    throw new Error('An internet-facing deployment needs certificateArn: the API token must not travel in clear text.');
  }
  return settings;
}
