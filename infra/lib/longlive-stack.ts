import { CfnOutput, Duration, Stack, type StackProps } from 'aws-cdk-lib';
import { Alarm, ComparisonOperator, TreatMissingData } from 'aws-cdk-lib/aws-cloudwatch';
import { GatewayVpcEndpointAwsService, Peer, Port, SecurityGroup, Vpc } from 'aws-cdk-lib/aws-ec2';
import {
  AwsLogDriverMode,
  ContainerImage,
  Ec2Service,
  Ec2TaskDefinition,
  LogDrivers,
  NetworkMode,
  PlacementConstraint,
  Secret as ContainerSecret,
} from 'aws-cdk-lib/aws-ecs';
import {
  ApplicationLoadBalancer,
  ApplicationProtocol,
  Protocol,
  SslPolicy,
  type ApplicationListener,
} from 'aws-cdk-lib/aws-elasticloadbalancingv2';
import { PolicyStatement } from 'aws-cdk-lib/aws-iam';
import { RetentionDays } from 'aws-cdk-lib/aws-logs';
import type { IBucket } from 'aws-cdk-lib/aws-s3';
import { Secret } from 'aws-cdk-lib/aws-secretsmanager';
import type { Construct } from 'constructs';
import { GpuWorkers, modelsOnHost } from './gpu-workers.js';
import { SessionBucket, STORE_PREFIXES } from './session-bucket.js';
import type { Settings } from './settings.js';

const port = 4000;
const balancerIdleSeconds = 4000;

/** Everything of one deployment: network, bucket, GPU workers, and a load balancer that keeps sockets open. */
export class LongLiveStack extends Stack {
  constructor(scope: Construct, id: string, props: StackProps & { settings: Settings }) {
    super(scope, id, props);
    const { settings } = props;

    const vpc = new Vpc(this, 'Vpc', { maxAzs: 2, natGateways: 1 });
    // Chunk traffic to the bucket stays inside the network and off the NAT bill.
    vpc.addGatewayEndpoint('S3', { service: GatewayVpcEndpointAwsService.S3 });

    const { bucket } = new SessionBucket(this, 'Sessions');
    const workers = new GpuWorkers(this, 'Workers', { vpc, bucket, settings });
    const service = this.service(workers, this.task(vpc, bucket, settings), settings);
    const balancer = this.balancer(vpc, workers, service, settings);

    new CfnOutput(this, 'Endpoint', { value: balancer.loadBalancerDnsName });
    new CfnOutput(this, 'BucketName', { value: bucket.bucketName });
  }

  private task(vpc: Vpc, bucket: IBucket, settings: Settings): Ec2TaskDefinition {
    const task = new Ec2TaskDefinition(this, 'Task', { networkMode: NetworkMode.AWS_VPC });
    const token = new Secret(this, 'ApiToken', {
      description: 'Bearer token of the LongLive API',
      generateSecretString: { excludePunctuation: true, passwordLength: 48 },
    });
    const signing = new Secret(this, 'SigningKey', {
      description: 'Key of the signed media URLs',
      generateSecretString: { excludePunctuation: true, passwordLength: 64 },
    });
    task.addVolume({ name: 'models', host: { sourcePath: modelsOnHost } });
    const container = task.addContainer('service', {
      image: ContainerImage.fromRegistry(settings.image),
      gpuCount: 1,
      memoryReservationMiB: 16_384,
      readonlyRootFilesystem: true,
      environment: {
        PORT: String(port),
        LONGLIVE_STORE: `s3://${bucket.bucketName}`,
        LONGLIVE_KEEP_DAYS: String(settings.retentionDays),
        LONGLIVE_MODELS: '/models',
        LONGLIVE_MODEL_CACHE: '/cache',
        LONGLIVE_MODEL: settings.model,
        LONGLIVE_DEVICE: 'cuda',
        LONGLIVE_PRECISION: 'bf16',
        // The balancer says whose request it is, and keeps idle connections longer than any of its own clients does.
        LONGLIVE_TRUSTED_PROXIES: vpc.vpcCidrBlock,
        LONGLIVE_KEEP_ALIVE_SECONDS: String(balancerIdleSeconds + 60),
        AWS_REGION: this.region,
      },
      secrets: {
        LONGLIVE_TOKEN: ContainerSecret.fromSecretsManager(token),
        LONGLIVE_SIGNING_KEY: ContainerSecret.fromSecretsManager(signing),
      },
      // SIGTERM lets the worker checkpoint its sessions before it goes.
      stopTimeout: Duration.seconds(110),
      portMappings: [{ containerPort: port }],
      logging: LogDrivers.awsLogs({
        streamPrefix: 'longlive',
        logRetention: RetentionDays.ONE_MONTH,
        mode: AwsLogDriverMode.NON_BLOCKING,
      }),
      healthCheck: {
        command: [
          'CMD',
          'node',
          '-e',
          `fetch('http://127.0.0.1:${port}/healthz').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))`,
        ],
        startPeriod: Duration.minutes(3),
        interval: Duration.seconds(15),
        retries: 3,
      },
    });
    container.addMountPoints({ sourceVolume: 'models', containerPath: '/models', readOnly: true });
    // What the root, which is read-only, has no place for; Docker's volumes belong to whom the image says.
    task.addVolume({ name: 'cache', host: {} });
    container.addMountPoints({ sourceVolume: 'cache', containerPath: '/cache', readOnly: false });
    task.addVolume({ name: 'tmp', host: {} });
    container.addMountPoints({ sourceVolume: 'tmp', containerPath: '/tmp', readOnly: false });

    task.addToTaskRolePolicy(
      new PolicyStatement({
        actions: ['s3:GetObject', 's3:PutObject', 's3:DeleteObject', 's3:AbortMultipartUpload'],
        resources: STORE_PREFIXES.map((prefix) => bucket.arnForObjects(`${prefix}*`)),
      }),
    );
    task.addToTaskRolePolicy(
      new PolicyStatement({
        actions: ['s3:ListBucket'],
        resources: [bucket.bucketArn],
        conditions: { StringLike: { 's3:prefix': STORE_PREFIXES.flatMap((prefix) => [prefix, `${prefix}*`]) } },
      }),
    );
    return task;
  }

  private service(workers: GpuWorkers, task: Ec2TaskDefinition, settings: Settings): Ec2Service {
    const service = new Ec2Service(this, 'Service', {
      cluster: workers.cluster,
      taskDefinition: task,
      desiredCount: settings.minWorkers,
      capacityProviderStrategies: [{ capacityProvider: workers.capacityProvider.capacityProviderName, weight: 1 }],
      securityGroups: [workers.securityGroup],
      placementConstraints: [PlacementConstraint.distinctInstances()],
      // A GPU holds one worker, so a new one can only start after the old one has gone.
      minHealthyPercent: 0,
      maxHealthyPercent: 100,
      circuitBreaker: { rollback: true },
    });
    if (settings.maxWorkers > settings.minWorkers) {
      service
        .autoScaleTaskCount({ minCapacity: settings.minWorkers, maxCapacity: settings.maxWorkers })
        .scaleOnCpuUtilization('Cpu', {
          targetUtilizationPercent: 60,
          scaleInCooldown: Duration.minutes(15),
          scaleOutCooldown: Duration.minutes(1),
        });
    }
    return service;
  }

  private balancer(vpc: Vpc, workers: GpuWorkers, service: Ec2Service, settings: Settings): ApplicationLoadBalancer {
    const securityGroup = new SecurityGroup(this, 'BalancerSecurityGroup', { vpc, description: 'LongLive balancer' });
    const balancer = new ApplicationLoadBalancer(this, 'Balancer', {
      vpc,
      internetFacing: settings.internetFacing,
      securityGroup,
      // A subscription is one socket that lives as long as the video.
      idleTimeout: Duration.seconds(balancerIdleSeconds),
      dropInvalidHeaderFields: true,
    });
    const from = settings.internetFacing ? Peer.anyIpv4() : Peer.ipv4(vpc.vpcCidrBlock);
    const listener = this.listener(balancer, settings);
    securityGroup.addIngressRule(from, Port.tcp(settings.certificateArn === undefined ? 80 : 443));
    workers.securityGroup.addIngressRule(securityGroup, Port.tcp(port), 'API and media');

    const target = listener.addTargets('Workers', {
      port,
      protocol: ApplicationProtocol.HTTP,
      targets: [service.loadBalancerTarget({ containerName: 'service', containerPort: port })],
      // Mutations and the stream of a session have to reach the worker that generates it.
      stickinessCookieDuration: Duration.hours(12),
      deregistrationDelay: Duration.seconds(90),
      healthCheck: {
        path: '/readyz',
        protocol: Protocol.HTTP,
        interval: Duration.seconds(10),
        healthyThresholdCount: 2,
      },
    });
    new Alarm(this, 'NoHealthyWorker', {
      metric: target.metrics.healthyHostCount({ period: Duration.minutes(1) }),
      threshold: 1,
      comparisonOperator: ComparisonOperator.LESS_THAN_THRESHOLD,
      evaluationPeriods: 5,
      treatMissingData: TreatMissingData.BREACHING,
    });
    return balancer;
  }

  private listener(balancer: ApplicationLoadBalancer, settings: Settings): ApplicationListener {
    if (settings.certificateArn === undefined) {
      return balancer.addListener('Http', { port: 80, protocol: ApplicationProtocol.HTTP, open: false });
    }
    return balancer.addListener('Https', {
      port: 443,
      protocol: ApplicationProtocol.HTTPS,
      sslPolicy: SslPolicy.RECOMMENDED_TLS,
      certificates: [{ certificateArn: settings.certificateArn }],
      open: false,
    });
  }
}
