import { Duration } from 'aws-cdk-lib';
import { AwsLogDriverMode, type HealthCheck, LogDrivers, Secret as ContainerSecret } from 'aws-cdk-lib/aws-ecs';
import { LogGroup, RetentionDays } from 'aws-cdk-lib/aws-logs';
import type { IBucket } from 'aws-cdk-lib/aws-s3';
import { Secret } from 'aws-cdk-lib/aws-secretsmanager';
import { Construct } from 'constructs';
import { answer } from './answers.js';
import type { Cache } from './cache.js';
import type { Settings } from './settings.js';

export const PORT = 4000;

/** CloudWatch namespace of what scaling goes by. */
export const NAMESPACE = 'LongLive';

/** Out of a spot notice's 120 s: sessions are handed over first, then connections end, then the container is killed. */
export const SHUTDOWN_SECONDS = 75;
export const STOP_SECONDS = 90;

/** What API servers and workers have in common. */
export class Common extends Construct {
  readonly secrets: Record<string, ContainerSecret>;
  private readonly log: LogGroup;

  constructor(
    scope: Construct,
    private readonly props: { sessions: IBucket; cache: Cache; settings: Settings },
  ) {
    super(scope, 'Common');
    this.log = new LogGroup(this, 'Log', { retention: RetentionDays.ONE_MONTH });
    this.secrets = {
      LONGLIVE_TOKEN: this.secret('ApiToken', 'Bearer token of the LongLive API', 48),
      LONGLIVE_SIGNING_KEY: this.secret('SigningKey', 'Key of the signed media URLs', 64),
      LONGLIVE_REDIS: ContainerSecret.fromSecretsManager(props.cache.url),
    };
  }

  environment(role: 'api' | 'worker'): Record<string, string> {
    const { sessions, settings } = this.props;
    return {
      PORT: String(PORT),
      LONGLIVE_ROLE: role,
      LONGLIVE_STORE: `s3://${sessions.bucketName}`,
      LONGLIVE_KEEP_DAYS: String(settings.retentionDays),
      LONGLIVE_MODEL_CACHE: '/cache',
      LONGLIVE_SHUTDOWN_SECONDS: String(SHUTDOWN_SECONDS),
      AWS_REGION: settings.region,
    };
  }

  logging(streamPrefix: string) {
    return LogDrivers.awsLogs({ streamPrefix, logGroup: this.log, mode: AwsLogDriverMode.NON_BLOCKING });
  }

  private secret(id: string, description: string, passwordLength: number): ContainerSecret {
    const secret = new Secret(this, id, {
      description,
      generateSecretString: { excludePunctuation: true, passwordLength },
    });
    answer(
      secret,
      'AwsSolutions-SMG4',
      'Whoever has it must be given the new one at the same time; docs/aws.md says how.',
    );
    return ContainerSecret.fromSecretsManager(secret);
  }
}

/** Whether the process answers; what it depends on is the same for all of them, and no reason to replace one. */
export function answers(startSeconds: number, intervalSeconds: number, retries: number): HealthCheck {
  const ask = `fetch('http://127.0.0.1:${PORT}/healthz').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))`;
  return {
    command: ['CMD', 'node', '-e', ask],
    startPeriod: Duration.seconds(startSeconds),
    interval: Duration.seconds(intervalSeconds),
    retries,
  };
}
