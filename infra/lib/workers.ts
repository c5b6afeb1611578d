import { Duration } from 'aws-cdk-lib';
import {
  AdjustmentType,
  MetricAggregationType,
  ScalableTarget,
  ServiceNamespace,
  StepScalingAction,
} from 'aws-cdk-lib/aws-applicationautoscaling';
import { AutoScalingGroup, GroupMetrics } from 'aws-cdk-lib/aws-autoscaling';
import { Alarm, ComparisonOperator, type IMetric, TreatMissingData } from 'aws-cdk-lib/aws-cloudwatch';
import { ApplicationScalingAction } from 'aws-cdk-lib/aws-cloudwatch-actions';
import {
  BlockDeviceVolume,
  EbsDeviceVolumeType,
  InstanceInitiatedShutdownBehavior,
  InstanceType,
  LaunchTemplate,
  LaunchTemplateHttpTokens,
  MachineImage,
  type SecurityGroup,
  SpotRequestType,
  UserData,
  type IVpc,
} from 'aws-cdk-lib/aws-ec2';
import {
  AsgCapacityProvider,
  type Ec2TaskDefinition,
  Ec2Service,
  type ICluster,
  PlacementConstraint,
} from 'aws-cdk-lib/aws-ecs';
import type { Role } from 'aws-cdk-lib/aws-iam';
import { Construct } from 'constructs';
import { answer } from './answers.js';
import { missingWorkers, wantedWorkers } from './demand.js';
import type { Settings } from './settings.js';

/** Where a worker keeps packages, on the instance's own disk where it has one. */
export const CACHE_ON_HOST = '/mnt/longlive';

/** The user of the image that computes. */
const WORKER_UID = 1001;

/** Adjustments that one policy may have. */
const MOST_STEPS = 20;

export interface PoolProps {
  vpc: IVpc;
  cluster: ICluster;
  task: Ec2TaskDefinition;
  role: Role;
  securityGroup: SecurityGroup;
  settings: Settings;
  spot: boolean;
  min: number;
  max: number;
}

/** Hosts of one kind, spot or on-demand, each with one GPU and one worker; a service of its own, because strategies do not fail over. */
export class WorkerPool extends Construct {
  readonly capacityProvider: AsgCapacityProvider;
  private readonly service: Ec2Service;

  constructor(
    scope: Construct,
    id: string,
    private readonly props: PoolProps,
  ) {
    super(scope, id);
    const { cluster, task, securityGroup, settings, min } = props;
    this.capacityProvider = new AsgCapacityProvider(this, 'Capacity', {
      autoScalingGroup: this.hosts(),
      enableManagedTerminationProtection: true,
      enableManagedDraining: true,
    });
    this.service = new Ec2Service(this, 'Service', {
      cluster,
      taskDefinition: task,
      // Otherwise left to the scaling, also when the service is updated; a service that is new would begin with one.
      ...(settings.first && { desiredCount: min }),
      capacityProviderStrategies: [{ capacityProvider: this.capacityProvider.capacityProviderName, weight: 1 }],
      securityGroups: [securityGroup],
      placementConstraints: [PlacementConstraint.distinctInstances()],
      // A new worker comes before an old one goes, on a host of its own: no deployment without somebody who generates.
      minHealthyPercent: 100,
      maxHealthyPercent: 200,
      circuitBreaker: { rollback: true },
    });
  }

  /** The capacity provider must be the cluster's first, and stay so until the service is gone. */
  startAfter(association: Construct): void {
    this.service.node.addDependency(association);
  }

  /** As many as are wanted: up within a minute, down when the service has not wanted them for a quarter of an hour. */
  followDemand(): void {
    const { min, max } = this.props;
    const target = this.scalable();
    const size = Math.ceil((max + 1) / MOST_STEPS);
    const up = this.action('Wanted', target, AdjustmentType.EXACT_CAPACITY);
    for (let from = 1; from <= max; from += size) {
      const last = from + size > max;
      const adjustment = Math.min(max, Math.max(min, from + size - 1));
      up.addAdjustment({ adjustment, lowerBound: from - 1, ...(!last && { upperBound: from + size - 1 }) });
    }
    const down = this.action('Unwanted', target, AdjustmentType.EXACT_CAPACITY);
    down.addAdjustment({ adjustment: min, upperBound: 0 });
    const each = { metric: wantedWorkers(Duration.seconds(10)), threshold: 1, evaluationPeriods: 1 };
    this.when('Wanted', { ...each, comparisonOperator: ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD }, up);
    this.when('Unwanted', { ...each, comparisonOperator: ComparisonOperator.LESS_THAN_THRESHOLD }, down);
  }

  /** Only what others do not give: one more for each that is missing for longer than a spot host takes to come. */
  makeUpForMissing(): void {
    const { max } = this.props;
    const target = this.scalable();
    const up = this.action('Missing', target, AdjustmentType.CHANGE_IN_CAPACITY, Duration.minutes(10));
    up.addAdjustment({ adjustment: 1, lowerBound: 0, ...(max > 1 && { upperBound: 1 }) });
    if (max > 1) up.addAdjustment({ adjustment: 2, lowerBound: 1 });
    const down = this.action('Surplus', target, AdjustmentType.CHANGE_IN_CAPACITY, Duration.minutes(15));
    down.addAdjustment({ adjustment: -1, upperBound: 0 });
    const atLeastOne = { threshold: 1, comparisonOperator: ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD };
    this.when('Missing', { ...atLeastOne, metric: missingWorkers(), evaluationPeriods: 8 }, up);
    const surplus = { metric: missingWorkers(), threshold: -1, evaluationPeriods: 15 };
    this.when('Surplus', { ...surplus, comparisonOperator: ComparisonOperator.LESS_THAN_OR_EQUAL_TO_THRESHOLD }, down);
  }

  private scalable(): ScalableTarget {
    const { min, max, cluster } = this.props;
    return new ScalableTarget(this, 'Count', {
      serviceNamespace: ServiceNamespace.ECS,
      scalableDimension: 'ecs:service:DesiredCount',
      resourceId: `service/${cluster.clusterName}/${this.service.serviceName}`,
      minCapacity: min,
      maxCapacity: max,
    });
  }

  private action(
    id: string,
    scalingTarget: ScalableTarget,
    adjustmentType: AdjustmentType,
    cooldown?: Duration,
  ): StepScalingAction {
    return new StepScalingAction(this, `${id}Action`, {
      scalingTarget,
      adjustmentType,
      metricAggregationType: MetricAggregationType.MAXIMUM,
      ...(cooldown && { cooldown }),
    });
  }

  private when(
    id: string,
    props: { metric: IMetric; threshold: number; evaluationPeriods: number; comparisonOperator: ComparisonOperator },
    action: StepScalingAction,
  ): void {
    const alarm = new Alarm(this, id, {
      ...props,
      treatMissingData: TreatMissingData.IGNORE,
      alarmDescription: 'Scales workers; no reason to worry',
    });
    alarm.addAlarmAction(new ApplicationScalingAction(action));
  }

  private hosts(): AutoScalingGroup {
    const { vpc, role, securityGroup, settings, spot, max } = this.props;
    const template = new LaunchTemplate(this, 'Template', {
      instanceType: new InstanceType(settings.instanceType),
      machineImage: MachineImage.genericLinux({ [settings.region]: settings.ami }),
      securityGroup,
      role,
      httpTokens: LaunchTemplateHttpTokens.REQUIRED,
      httpPutResponseHopLimit: 1,
      instanceInitiatedShutdownBehavior: InstanceInitiatedShutdownBehavior.TERMINATE,
      userData: this.userData(),
      ...(spot && { spotOptions: { requestType: SpotRequestType.ONE_TIME } }),
      blockDevices: [
        {
          deviceName: '/dev/xvda',
          volume: BlockDeviceVolume.ebs(200, {
            volumeType: EbsDeviceVolumeType.GP3,
            encrypted: true,
            iops: 6000,
            throughput: 500,
          }),
        },
      ],
    });
    const group = new AutoScalingGroup(this, 'Hosts', {
      vpc,
      vpcSubnets: { subnets: vpc.privateSubnets },
      launchTemplate: template,
      minCapacity: 0,
      maxCapacity: 2 * max,
      // ECS takes the protection off hosts without a task.
      newInstancesProtectedFromScaleIn: true,
      groupMetrics: [GroupMetrics.all()],
      defaultInstanceWarmup: Duration.minutes(5),
    });
    answer(
      group,
      'AwsSolutions-AS3',
      'Hosts come and go with what is wanted; what is worth an alarm is that they do not come.',
    );
    return group;
  }

  /** What fails ends the host, which would otherwise cost money and never do anything. */
  private userData(): UserData {
    const data = UserData.forLinux();
    data.addCommands(
      'set -euo pipefail',
      "trap 'shutdown -h now' ERR",
      `mkdir -p ${CACHE_ON_HOST}`,
      "disk=$(lsblk -dpno NAME,MODEL | awk '/Instance Storage/ { print $1; exit }')",
      `if [ -n "$disk" ]; then mkfs.xfs -q -f "$disk"; mount -o noatime "$disk" ${CACHE_ON_HOST}; fi`,
      `chown ${WORKER_UID}:${WORKER_UID} ${CACHE_ON_HOST}`,
      `cat >> /etc/ecs/ecs.config <<'END'`,
      `ECS_CLUSTER=${this.props.cluster.clusterName}`,
      'ECS_ENABLE_GPU_SUPPORT=true',
      'ECS_AWSVPC_BLOCK_IMDS=true',
      'ECS_ENABLE_SPOT_INSTANCE_DRAINING=true',
      'ECS_CONTAINER_STOP_TIMEOUT=90s',
      'END',
    );
    return data;
  }
}
