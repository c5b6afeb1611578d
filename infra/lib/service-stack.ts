import { CfnOutput, Duration, Stack, type StackProps } from 'aws-cdk-lib';
import { FlowLogDestination, GatewayVpcEndpointAwsService, SecurityGroup, Vpc } from 'aws-cdk-lib/aws-ec2';
import {
  CfnClusterCapacityProviderAssociations,
  Cluster,
  ContainerImage,
  Ec2TaskDefinition,
  NetworkMode,
} from 'aws-cdk-lib/aws-ecs';
import { ManagedPolicy, PolicyStatement, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import type { Construct } from 'constructs';
import { Alarms } from './alarms.js';
import { answer } from './answers.js';
import { Api } from './api.js';
import { Cache } from './cache.js';
import { answers, Common, PORT, STOP_SECONDS } from './container.js';
import type { Settings } from './settings.js';
import { allow, type StorageStack } from './storage-stack.js';
import { PACKAGE_GRANTS, STORE_GRANTS } from './store-access.js';
import { CACHE_ON_HOST, WorkerPool } from './workers.js';

/** Everything that runs: network, Valkey, API servers behind a CDN, and GPU workers, of which there are none until one is wanted. */
export class ServiceStack extends Stack {
  constructor(
    scope: Construct,
    id: string,
    private readonly props: StackProps & { settings: Settings; storage: StorageStack },
  ) {
    super(scope, id, props);
    const { settings, storage } = props;
    const vpc = this.network();
    const cache = new Cache(this, 'Cache', vpc);
    const common = new Common(this, { sessions: storage.sessions, cache, settings });
    const cluster = new Cluster(this, 'Cluster', { vpc });
    answer(
      cluster,
      'AwsSolutions-ECS4',
      'What scaling and alarms need, the service logs itself; Container Insights costs by the task.',
    );

    const api = new Api(this, { vpc, cluster, common, storage, settings });
    const workers = new SecurityGroup(this, 'WorkerSecurityGroup', {
      vpc,
      description: 'LongLive workers, which nobody calls',
    });
    for (const group of [api.securityGroup, workers]) cache.admit(group);
    this.workers(vpc, cluster, common, workers);
    new Alarms(this, { api: api.target, cache, settings });

    new CfnOutput(this, 'Url', { value: `https://${api.distribution.distributionDomainName}` });
  }

  private network(): Vpc {
    const { zones } = this.props.settings;
    const vpc = new Vpc(this, 'Vpc', { availabilityZones: zones, natGateways: zones.length });
    // What goes to and from the buckets stays off the NAT's bill.
    vpc.addGatewayEndpoint('S3', { service: GatewayVpcEndpointAwsService.S3 });
    vpc.addFlowLog('Flows', { destination: FlowLogDestination.toCloudWatchLogs() });
    return vpc;
  }

  private workers(vpc: Vpc, cluster: Cluster, common: Common, securityGroup: SecurityGroup): void {
    const { settings } = this.props;
    // By its attributes: what CDK would add to a cluster with hosts of its own, it adds after the services that need it.
    const { clusterName } = cluster;
    const withHosts = Cluster.fromClusterAttributes(this, 'Hosts', {
      clusterName,
      vpc,
      hasEc2Capacity: true,
      securityGroups: [],
    });
    const shared = {
      vpc,
      cluster: withHosts,
      task: this.workerTask(cluster, common),
      role: this.hostRole(),
      securityGroup,
      settings,
    };
    const spot =
      settings.maxSpotWorkers > 0
        ? new WorkerPool(this, 'Spot', { ...shared, spot: true, min: 0, max: settings.maxSpotWorkers })
        : undefined;
    const onDemand = new WorkerPool(this, 'OnDemand', {
      ...shared,
      spot: false,
      min: settings.minWorkers,
      max: settings.maxWorkers,
    });
    const pools = spot ? [spot, onDemand] : [onDemand];
    const association = new CfnClusterCapacityProviderAssociations(this, 'Capacity', {
      cluster: clusterName,
      capacityProviders: pools.map(({ capacityProvider }) => capacityProvider.capacityProviderName),
      defaultCapacityProviderStrategy: [],
    });
    for (const pool of pools) pool.startAfter(association);
    (spot ?? onDemand).followDemand();
    if (spot) onDemand.makeUpForMissing();
  }

  private workerTask(cluster: Cluster, common: Common): Ec2TaskDefinition {
    const { settings, storage } = this.props;
    const task = new Ec2TaskDefinition(this, 'WorkerTask', { networkMode: NetworkMode.AWS_VPC });
    const container = task.addContainer('worker', {
      image: ContainerImage.fromEcrRepository(storage.images, settings.workerImage),
      gpuCount: 1,
      memoryLimitMiB: settings.workerMemoryMiB,
      readonlyRootFilesystem: true,
      environment: {
        ...common.environment('worker'),
        LONGLIVE_MODELS: `s3://${storage.packages.bucketName}/models/${settings.model}/`,
        LONGLIVE_DEVICE: 'cuda',
        LONGLIVE_PRECISION: settings.precision,
      },
      secrets: common.secrets,
      // SIGTERM lets the worker hand its sessions over before it goes.
      stopTimeout: Duration.seconds(STOP_SECONDS),
      portMappings: [{ containerPort: PORT }],
      logging: common.logging('worker'),
      // Ten minutes until the first package is there and loaded, which happens before it listens.
      healthCheck: answers(300, 30, 10),
    });
    task.addVolume({ name: 'cache', host: { sourcePath: CACHE_ON_HOST } });
    for (const name of ['tmp', 'data']) task.addVolume({ name, host: {} });
    container.addMountPoints(
      ...['cache', 'tmp', 'data'].map((name) => ({ sourceVolume: name, containerPath: `/${name}`, readOnly: false })),
    );
    allow(task.taskRole, storage.sessions, STORE_GRANTS);
    allow(task.taskRole, storage.packages, PACKAGE_GRANTS);
    // A worker with live sessions says so; scaling in then ends another.
    task.addToTaskRolePolicy(
      new PolicyStatement({
        actions: ['ecs:GetTaskProtection', 'ecs:UpdateTaskProtection'],
        resources: [this.formatArn({ service: 'ecs', resource: 'task', resourceName: `${cluster.clusterName}/*` })],
      }),
    );
    answer(task, 'AwsSolutions-ECS2', 'What is secret comes from the secret store; the rest are settings.');
    return task;
  }

  /** The host's own; sessions and packages are the task's. */
  private hostRole(): Role {
    return new Role(this, 'HostRole', {
      assumedBy: new ServicePrincipal('ec2.amazonaws.com'),
      managedPolicies: [
        ManagedPolicy.fromAwsManagedPolicyName('service-role/AmazonEC2ContainerServiceforEC2Role'),
        ManagedPolicy.fromAwsManagedPolicyName('AmazonSSMManagedInstanceCore'),
      ],
    });
  }
}
