import { Duration, Stack } from 'aws-cdk-lib';
import { AutoScalingGroup, UpdatePolicy } from 'aws-cdk-lib/aws-autoscaling';
import {
  BlockDeviceVolume,
  EbsDeviceVolumeType,
  InstanceType,
  LaunchTemplate,
  LaunchTemplateHttpTokens,
  SecurityGroup,
  UserData,
  type IVpc,
} from 'aws-cdk-lib/aws-ec2';
import { AmiHardwareType, AsgCapacityProvider, Cluster, EcsOptimizedImage } from 'aws-cdk-lib/aws-ecs';
import { ManagedPolicy, PolicyStatement, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import type { IBucket } from 'aws-cdk-lib/aws-s3';
import { Construct } from 'constructs';
import type { Settings } from './settings.js';

export const modelsOnHost = '/opt/longlive/models';

/** GPU instances that an ECS cluster fills with one worker each. They fetch the model package once, at boot. */
export class GpuWorkers extends Construct {
  readonly cluster: Cluster;
  readonly capacityProvider: AsgCapacityProvider;
  readonly securityGroup: SecurityGroup;
  readonly role: Role;

  constructor(scope: Construct, id: string, props: { vpc: IVpc; bucket: IBucket; settings: Settings }) {
    super(scope, id);
    const { vpc, bucket, settings } = props;

    this.securityGroup = new SecurityGroup(this, 'SecurityGroup', { vpc, description: 'LongLive workers' });
    this.role = this.instanceRole(bucket, settings.model);

    const template = new LaunchTemplate(this, 'Template', {
      instanceType: new InstanceType(settings.instanceType),
      machineImage: EcsOptimizedImage.amazonLinux2023(AmiHardwareType.GPU),
      securityGroup: this.securityGroup,
      role: this.role,
      httpTokens: LaunchTemplateHttpTokens.REQUIRED,
      userData: this.fetchModel(bucket, settings.model),
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
    const group = new AutoScalingGroup(this, 'Group', {
      vpc,
      launchTemplate: template,
      minCapacity: settings.minWorkers,
      maxCapacity: settings.maxWorkers,
      updatePolicy: UpdatePolicy.rollingUpdate({ minInstancesInService: 0 }),
      // A worker checkpoints its sessions when it is told to stop; give it the time.
      defaultInstanceWarmup: Duration.minutes(5),
    });

    this.cluster = new Cluster(this, 'Cluster', { vpc });
    this.capacityProvider = new AsgCapacityProvider(this, 'Capacity', {
      autoScalingGroup: group,
      enableManagedTerminationProtection: false,
      enableManagedDraining: true,
    });
    this.cluster.addAsgCapacityProvider(this.capacityProvider);
  }

  private instanceRole(bucket: IBucket, model: string): Role {
    const role = new Role(this, 'InstanceRole', {
      assumedBy: new ServicePrincipal('ec2.amazonaws.com'),
      managedPolicies: [
        ManagedPolicy.fromAwsManagedPolicyName('service-role/AmazonEC2ContainerServiceforEC2Role'),
        ManagedPolicy.fromAwsManagedPolicyName('AmazonSSMManagedInstanceCore'),
      ],
    });
    role.addToPolicy(
      new PolicyStatement({ actions: ['s3:GetObject'], resources: [bucket.arnForObjects(`models/${model}/*`)] }),
    );
    role.addToPolicy(
      new PolicyStatement({
        actions: ['s3:ListBucket'],
        resources: [bucket.bucketArn],
        conditions: { StringLike: { 's3:prefix': [`models/${model}/*`, `models/${model}/`] } },
      }),
    );
    return role;
  }

  private fetchModel(bucket: IBucket, model: string): UserData {
    const data = UserData.forLinux();
    data.addCommands(
      'set -euo pipefail',
      `mkdir -p ${modelsOnHost}/${model}`,
      `aws configure set default.s3.max_concurrent_requests 64`,
      `aws s3 sync --only-show-errors --region ${Stack.of(this).region} s3://${bucket.bucketName}/models/${model}/ ${modelsOnHost}/${model}/`,
      `chmod -R a+rX ${modelsOnHost}`,
    );
    return data;
  }
}
