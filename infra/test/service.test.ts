import { Match, type Template } from 'aws-cdk-lib/assertions';
import { beforeAll, describe, expect, it } from 'vitest';
import { ACCESS, BY_DATE, KEY_USES, STORE_PREFIXES } from '../../src/sessions/stored/keys.js';
import { all, CONTEXT, deployment, nagFindings } from './deployment.js';

let service: Template;
beforeAll(() => {
  ({ service } = deployment());
});

interface Container {
  Name: string;
  Image: unknown;
  Memory: number;
  MemoryReservation?: number;
  StopTimeout: number;
  ReadonlyRootFilesystem: boolean;
  HealthCheck: { StartPeriod: number; Interval: number; Retries: number; Command: string[] };
  Environment: { Name: string; Value: unknown }[];
  Secrets: { Name: string }[];
  MountPoints: { ContainerPath: string; ReadOnly: boolean }[];
}

function container(name: string): Container {
  const containers = all(service, 'AWS::ECS::TaskDefinition').flatMap(
    (task) => task['ContainerDefinitions'] as Container[],
  );
  return containers.find(({ Name }) => Name === name) as Container;
}
const setting = (of: Container, name: string) => of.Environment.find(({ Name }) => Name === name)?.Value;
const workerServices = (template = service) =>
  all(template, 'AWS::ECS::Service').filter((each) => 'PlacementConstraints' in each);

describe('the first deployment', () => {
  it('begins with no worker, and later ones leave the number to the scaling', () => {
    expect(workerServices(deployment({ first: 'true' }).service).map(({ DesiredCount }) => DesiredCount)).toEqual([
      0, 0,
    ]);
    expect(all(service, 'AWS::ECS::Service').map((each) => each['DesiredCount'])).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
  });

  it('runs images by digest from its own repository, which the tasks may pull', () => {
    for (const [name, digest] of [
      ['worker', CONTEXT['workerImage']],
      ['api', CONTEXT['apiImage']],
    ] as const) {
      expect(JSON.stringify(container(name).Image)).toContain(`@${String(digest)}`);
      expect(JSON.stringify(container(name).Image)).toContain('Images');
    }
    expect(JSON.stringify(all(service, 'AWS::IAM::Policy'))).toContain('ecr:BatchGetImage');
  });

  it('gives a worker ten minutes to load its package', () => {
    const { StartPeriod, Interval, Retries } = container('worker').HealthCheck;
    expect(StartPeriod + Interval * Retries).toBe(600);
    expect(StartPeriod).toBe(300);
  });

  it('asks for hosts in the zones that were named, and in no others', () => {
    const zones = all(service, 'AWS::EC2::Subnet').map(({ AvailabilityZone }) => AvailabilityZone as string);
    expect([...new Set(zones)]).toEqual(['eu-central-1a', 'eu-central-1b']);
    service.resourceCountIs('AWS::EC2::NatGateway', 2);
  });

  it('ends a host on which anything of its start fails', () => {
    for (const { LaunchTemplateData } of all(service, 'AWS::EC2::LaunchTemplate')) {
      const script = JSON.stringify(LaunchTemplateData.UserData);
      expect(script.indexOf('trap')).toBeLessThan(script.indexOf('ECS_CLUSTER'));
      expect(script).toContain("trap 'shutdown -h now' ERR");
      expect(LaunchTemplateData.InstanceInitiatedShutdownBehavior).toBe('terminate');
    }
  });

  it('takes packages from the bucket itself, which the service checks, and keeps them on the disk of the instance', () => {
    const worker = container('worker');
    expect(JSON.stringify(setting(worker, 'LONGLIVE_MODELS'))).toContain('/models/longlive-1.3b/');
    expect(worker.MountPoints).toContainEqual(expect.objectContaining({ ContainerPath: '/cache', ReadOnly: false }));
    expect(JSON.stringify(all(service, 'AWS::EC2::LaunchTemplate'))).toContain('Instance Storage');
  });
});

describe('what runs', () => {
  it('has less time for its farewell than a spot notice gives, and less than its container has', () => {
    for (const name of ['worker', 'api']) {
      const shutdown = Number(setting(container(name), 'LONGLIVE_SHUTDOWN_SECONDS'));
      expect([shutdown, container(name).StopTimeout]).toEqual([75, 90]);
    }
    const [group] = all(service, 'AWS::ElasticLoadBalancingV2::TargetGroup');
    const delay = (group?.['TargetGroupAttributes'] as { Key: string; Value: string }[]).find(({ Key }) =>
      Key.startsWith('dereg'),
    );
    expect(Number(delay?.Value) + 90).toBeLessThan(120);
    expect(JSON.stringify(all(service, 'AWS::EC2::LaunchTemplate'))).toContain(
      'ECS_ENABLE_SPOT_INSTANCE_DRAINING=true',
    );
  });

  it('is not ended while it has live sessions', () => {
    for (const { AutoScalingGroupProvider } of all(service, 'AWS::ECS::CapacityProvider')) {
      expect(AutoScalingGroupProvider).toMatchObject({
        ManagedTerminationProtection: 'ENABLED',
        ManagedDraining: 'ENABLED',
      });
    }
    for (const group of all(service, 'AWS::AutoScaling::AutoScalingGroup')) {
      expect(group).toMatchObject({ NewInstancesProtectedFromScaleIn: true, MinSize: '0' });
    }
    expect(JSON.stringify(all(service, 'AWS::IAM::Policy'))).toContain('ecs:UpdateTaskProtection');
  });

  it('is never without anybody during a deployment', () => {
    for (const { DeploymentConfiguration } of all(service, 'AWS::ECS::Service')) {
      expect(DeploymentConfiguration).toMatchObject({ MinimumHealthyPercent: 100, MaximumPercent: 200 });
    }
  });

  it('stays on the machine image that was named', () => {
    for (const { LaunchTemplateData } of all(service, 'AWS::EC2::LaunchTemplate')) {
      expect(LaunchTemplateData).toMatchObject({
        ImageId: 'ami-0123456789abcdef0',
        InstanceType: 'p5.4xlarge',
        MetadataOptions: { HttpTokens: 'required', HttpPutResponseHopLimit: 1 },
      });
    }
  });

  it('is not taken away because the bucket is slow', () => {
    service.hasResourceProperties('AWS::ElasticLoadBalancingV2::TargetGroup', { HealthCheckPath: '/healthz' });
    for (const name of ['worker', 'api'])
      expect(JSON.stringify(container(name).HealthCheck.Command)).toContain('/healthz');
  });

  it('sends a client to any server, and keeps connections longer than the balancer does', () => {
    const [group] = all(service, 'AWS::ElasticLoadBalancingV2::TargetGroup');
    expect(JSON.stringify(group?.['TargetGroupAttributes'])).not.toContain('"Value":"lb_cookie"');
    expect(JSON.stringify(group?.['TargetGroupAttributes'])).not.toContain(
      '{"Key":"stickiness.enabled","Value":"true"}',
    );
    const [balancer] = all(service, 'AWS::ElasticLoadBalancingV2::LoadBalancer');
    const idle = (balancer?.['LoadBalancerAttributes'] as { Key: string; Value: string }[]).find(({ Key }) =>
      Key.startsWith('idle'),
    );
    expect(Number(idle?.Value)).toBe(120);
    expect(Number(setting(container('api'), 'LONGLIVE_KEEP_ALIVE_SECONDS'))).toBeGreaterThan(Number(idle?.Value));
  });

  it('has hard limits of memory, a root that nobody writes to, and places that it may write to', () => {
    for (const name of ['worker', 'api']) {
      const { Memory, MemoryReservation, ReadonlyRootFilesystem, MountPoints } = container(name);
      expect(Memory).toBeGreaterThan(0);
      expect(MemoryReservation).toBeUndefined();
      expect(ReadonlyRootFilesystem).toBe(true);
      expect(MountPoints.map(({ ContainerPath }) => ContainerPath)).toContain('/cache');
    }
  });

  it('waits for the capacity providers, and is gone before they are', () => {
    const [association] = Object.keys(service.findResources('AWS::ECS::ClusterCapacityProviderAssociations'));
    const dependants = Object.values(service.findResources('AWS::ECS::Service')).filter(
      ({ DependsOn, Properties }) =>
        'PlacementConstraints' in Properties && (DependsOn as string[]).includes(association as string),
    );
    expect(dependants).toHaveLength(2);
  });
});

describe('the number of workers', () => {
  const policies = (template: Template) => all(template, 'AWS::ApplicationAutoScaling::ScalingPolicy');

  it('follows what the API says is wanted, from none, and never the processor', () => {
    expect(setting(container('api'), 'LONGLIVE_CLOUDWATCH_NAMESPACE')).toBe('LongLive');
    service.hasResourceProperties('AWS::CloudWatch::Alarm', {
      MetricName: 'WantedWorkers',
      Period: 10,
      Threshold: 1,
      ComparisonOperator: 'GreaterThanOrEqualToThreshold',
      AlarmActions: Match.anyValue(),
    });
    const counts = all(service, 'AWS::ApplicationAutoScaling::ScalableTarget').map((each) => [
      each['MinCapacity'],
      each['MaxCapacity'],
    ]);
    expect(counts).toEqual(
      expect.arrayContaining([
        [0, 4],
        [2, 6],
      ]),
    );
  });

  it('is exactly what is wanted, up to the most that there may be, in as many steps as a policy may have', () => {
    for (const most of [1, 4, 50]) {
      const template = deployment({ maxSpotWorkers: String(most) }).service;
      const exact = policies(template).find(
        ({ StepScalingPolicyConfiguration: step }) =>
          step?.AdjustmentType === 'ExactCapacity' && step.StepAdjustments[0].MetricIntervalLowerBound === 0,
      );
      const steps = exact?.['StepScalingPolicyConfiguration'].StepAdjustments as Record<string, number>[];
      expect(steps.length).toBeLessThanOrEqual(20);
      for (let wanted = 1; wanted <= most + 3; wanted++) {
        const step = steps.find(
          ({ MetricIntervalLowerBound: low = -Infinity, MetricIntervalUpperBound: high = Infinity }) =>
            wanted - 1 >= low && wanted - 1 < high,
        );
        expect(step?.['ScalingAdjustment']).toBeGreaterThanOrEqual(Math.min(wanted, most));
        expect(step?.['ScalingAdjustment']).toBeLessThanOrEqual(most);
      }
    }
  });

  it('is made up for on demand where spot hosts do not come', () => {
    const templates = all(service, 'AWS::EC2::LaunchTemplate').map(
      ({ LaunchTemplateData }) => LaunchTemplateData.InstanceMarketOptions?.MarketType,
    );
    expect(templates).toEqual(['spot', undefined]);
    service.hasResourceProperties('AWS::CloudWatch::Alarm', {
      EvaluationPeriods: 8,
      Metrics: Match.arrayWith([Match.objectLike({ Expression: 'wanted - workers' })]),
    });
    expect(workerServices(deployment({ maxSpotWorkers: '0' }).service)).toHaveLength(1);
  });
});

describe('who may do what', () => {
  interface Statement {
    Action: string | string[];
    Resource: unknown;
    Condition?: object;
  }
  const statements = (policy: string): Statement[] => {
    const found = Object.entries(service.findResources('AWS::IAM::Policy')).filter(([id]) => id.includes(policy));
    return found.flatMap(([, { Properties }]) => Properties.PolicyDocument.Statement as Statement[]);
  };
  const doing = (policy: string, action: string) =>
    statements(policy).filter(({ Action }) => [Action].flat().includes(action));

  it.each(['ApiTaskTaskRole', 'WorkerTaskTaskRole'])(
    '%s: what the layout of the store says, and lists without a condition',
    (role) => {
      const [writes, ...more] = doing(role, 's3:PutObject');
      expect(more).toEqual([]);
      const written = [...STORE_PREFIXES.filter((prefix) => prefix !== ACCESS), KEY_USES];
      for (const prefix of written) expect(JSON.stringify(writes?.Resource)).toContain(`/${prefix}*`);
      expect([writes?.Resource].flat()).toHaveLength(written.length);
      expect(written).toContain(BY_DATE);
      expect(JSON.stringify(doing(role, 's3:DeleteObject'))).not.toContain(`/${ACCESS}`);
      for (const list of doing(role, 's3:ListBucket')) expect(list.Condition).toBeUndefined();
      for (const { Action, Resource } of statements(role)) {
        expect([Action].flat().join()).not.toContain('*');
        expect(Resource).not.toBe('*');
      }
    },
  );

  it('lets only workers read packages, and nobody write them', () => {
    expect(JSON.stringify(doing('WorkerTaskTaskRole', 's3:GetObject'))).toContain('/models/*');
    expect(JSON.stringify(statements('ApiTaskTaskRole'))).not.toContain('/models/*');
    expect(
      JSON.stringify(
        all(service, 'AWS::IAM::Policy')
          .flatMap((each) => each['PolicyDocument'].Statement)
          .filter(({ Action }: Statement) => [Action].flat().includes('s3:PutObject')),
      ),
    ).not.toContain('/models/*');
  });

  it('takes secrets from the secret store, never from plain environment', () => {
    for (const name of ['worker', 'api']) {
      const names = container(name)
        .Secrets.map(({ Name }) => Name)
        .sort();
      expect(names).toEqual(['LONGLIVE_REDIS', 'LONGLIVE_SIGNING_KEY', 'LONGLIVE_TOKEN']);
      for (const secret of names) expect(setting(container(name), secret)).toBeUndefined();
    }
  });

  it('lets nobody call a worker, only the balancer an API server, and nobody outside the balancer', () => {
    const rules = all(service, 'AWS::EC2::SecurityGroupIngress').map((rule) =>
      JSON.stringify([rule['GroupId'], rule['FromPort'], rule['SourceSecurityGroupId']]),
    );
    expect(rules.filter((rule) => rule.includes('4000'))).toHaveLength(1);
    expect(rules.filter((rule) => rule.includes('6379'))).toHaveLength(2);
    expect(rules.filter((rule) => rule.startsWith('[{"Fn::GetAtt":["WorkerSecurityGroup'))).toEqual([]);
    expect(JSON.stringify(all(service, 'AWS::EC2::SecurityGroup'))).not.toMatch(
      /"SecurityGroupIngress":\[[^\]]*0\.0\.0\.0/,
    );
    service.hasResourceProperties('AWS::ElasticLoadBalancingV2::LoadBalancer', { Scheme: 'internal' });
    service.hasResourceProperties('AWS::WAFv2::WebACLAssociation', Match.anyValue());
  });

  it('has a Valkey of two nodes with TLS and a password', () => {
    service.hasResourceProperties('AWS::ElastiCache::ReplicationGroup', {
      Engine: 'valkey',
      NumCacheClusters: 2,
      AutomaticFailoverEnabled: true,
      TransitEncryptionEnabled: true,
      AuthToken: Match.anyValue(),
    });
    expect(JSON.stringify(all(service, 'AWS::SecretsManager::Secret'))).toContain(
      'rediss://:{{resolve:secretsmanager:',
    );
  });
});

describe('the CDN', () => {
  it('keeps media for as long as the service says, and nothing else', () => {
    const [{ DistributionConfig: config }] = all(service, 'AWS::CloudFront::Distribution') as [Record<string, any>];
    expect(config['CacheBehaviors']).toHaveLength(1);
    expect(config['CacheBehaviors'][0]).toMatchObject({
      PathPattern: '/sessions/*',
      CachePolicyId: { Ref: expect.any(String) as string },
    });
    expect(config['DefaultCacheBehavior'].CachePolicyId).toBe('4135ea2d-6df8-44a3-9df3-4b5a84be39ad'); // Managed: caching disabled.
    service.hasResourceProperties('AWS::CloudFront::CachePolicy', {
      CachePolicyConfig: Match.objectLike({
        DefaultTTL: 0,
        MinTTL: 0,
        ParametersInCacheKeyAndForwardedToOrigin: Match.objectLike({
          QueryStringsConfig: { QueryStringBehavior: 'all' },
        }),
      }),
    });
    service.hasResourceProperties('AWS::CloudFront::VpcOrigin', Match.anyValue());
  });
});

describe('alarms', () => {
  it.each(['NoCapacity', 'NoDemandFigure', 'NoHealthyApi', 'ServerErrors', 'CacheMemory', 'CacheCpu'])(
    '%s acts',
    (name) => {
      const [alarm] = all(service, 'AWS::CloudWatch::Alarm').filter(({ AlarmDescription }) =>
        AlarmDescription?.includes(`${name}.`),
      );
      expect(alarm?.['AlarmActions']).toHaveLength(1);
      expect(JSON.stringify(alarm?.['AlarmActions'])).toContain('Topic');
    },
  );

  it('go to whom was named', () => {
    deployment({ alarmEmail: 'ops@example.com' }).service.hasResourceProperties('AWS::SNS::Subscription', {
      Endpoint: 'ops@example.com',
    });
  });
});

describe('cdk-nag', () => {
  /** What is not answered where it arises, because its name has references in it that CDK makes up. */
  const ANSWERED: [RegExp, string][] = [
    ...[...STORE_PREFIXES, KEY_USES].map((prefix): [RegExp, string] => [
      new RegExp(`TaskRole.*IAM5\\[Resource::.*Sessions.*/${prefix}\\*\\]`),
      'All keys under a prefix of the service.',
    ]),
    [/WorkerTask.TaskRole.*IAM5\[Resource::.*Packages.*\/(models|loras)\/\*\]/, 'All packages, read only.'],
    [
      /WorkerTask.TaskRole.*IAM5\[Resource::arn:.*:ecs:.*:task\/.*\/\*\]/,
      'A task knows its own number only when it runs.',
    ],
    [
      /ExecutionRole.*IAM5\[Resource::\*\]/,
      'AWS gives tokens for a registry for all of it (ecr:GetAuthorizationToken).',
    ],
    [
      /HostRole.*IAM4\[.*(AmazonEC2ContainerServiceforEC2Role|AmazonSSMManagedInstanceCore)\]/,
      "What AWS's own agents need is AWS's to say; tasks do not reach this role.",
    ],
  ];

  it('has nothing to say that is not answered, and every answer is to something', () => {
    const findings = nagFindings();
    expect(findings.filter((finding) => !ANSWERED.some(([pattern]) => pattern.test(finding)))).toEqual([]);
    for (const [pattern] of ANSWERED)
      expect(
        findings.some((finding) => pattern.test(finding)),
        String(pattern),
      ).toBe(true);
  });
});
