import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { App } from 'aws-cdk-lib';
import { Match, Template } from 'aws-cdk-lib/assertions';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LongLiveStack } from '../lib/longlive-stack.js';
import { readSettings } from '../lib/settings.js';
import { STORE_PREFIXES as SERVICE_PREFIXES } from '../../src/sessions/stored/keys.js';

const certificateArn = 'arn:aws:acm:eu-central-1:111111111111:certificate/0';

const outdir = mkdtempSync(join(tmpdir(), 'longlive-infra-'));
afterAll(() => rmSync(outdir, { recursive: true }));

function synthesise(context: Record<string, unknown> = {}): Template {
  const app = new App({ outdir: mkdtempSync(join(outdir, 'app-')) });
  return Template.fromStack(new LongLiveStack(app, 'Test', { settings: readSettings((key) => context[key]) }));
}

describe('the deployed stack', () => {
  let template: Template;
  beforeAll(() => {
    template = synthesise();
  });

  it('keeps the bucket private, encrypted and TLS only', () => {
    template.hasResourceProperties('AWS::S3::Bucket', {
      PublicAccessBlockConfiguration: {
        BlockPublicAcls: true,
        BlockPublicPolicy: true,
        IgnorePublicAcls: true,
        RestrictPublicBuckets: true,
      },
      BucketEncryption: Match.anyValue(),
    });
    template.hasResourceProperties('AWS::S3::BucketPolicy', {
      PolicyDocument: {
        Statement: Match.arrayWith([
          Match.objectLike({ Effect: 'Deny', Condition: { Bool: { 'aws:SecureTransport': 'false' } } }),
        ]),
      },
    });
    template.hasResource('AWS::S3::Bucket', { DeletionPolicy: 'Retain' });
  });

  it('aborts incomplete uploads, and leaves deleting sessions to the service', () => {
    const [bucket] = Object.values(template.findResources('AWS::S3::Bucket'));
    const { Rules } = bucket?.Properties.LifecycleConfiguration as { Rules: object[] };
    expect(Rules).toEqual([expect.objectContaining({ AbortIncompleteMultipartUpload: { DaysAfterInitiation: 1 } })]);
    expect(JSON.stringify(template.findResources('AWS::ECS::TaskDefinition'))).toContain(
      '{"Name":"LONGLIVE_KEEP_DAYS","Value":"30"}',
    );
  });

  it('gives every worker one GPU on a single-H100 instance', () => {
    template.hasResourceProperties('AWS::EC2::LaunchTemplate', {
      LaunchTemplateData: Match.objectLike({
        InstanceType: 'p5.4xlarge',
        MetadataOptions: { HttpTokens: 'required' },
      }),
    });
    template.hasResourceProperties('AWS::ECS::TaskDefinition', {
      ContainerDefinitions: [
        Match.objectLike({
          ResourceRequirements: [{ Type: 'GPU', Value: '1' }],
          ReadonlyRootFilesystem: true,
          StopTimeout: 110,
          MountPoints: Match.arrayWith([Match.objectLike({ ContainerPath: '/models', ReadOnly: true })]),
        }),
      ],
    });
  });

  it('takes secrets from the secret store, never from plain environment', () => {
    const tasks = template.findResources('AWS::ECS::TaskDefinition');
    const container = Object.values(tasks)[0]?.Properties.ContainerDefinitions[0] as {
      Environment: { Name: string }[];
      Secrets: { Name: string }[];
    };
    expect(container.Secrets.map((s) => s.Name).sort()).toEqual(['LONGLIVE_SIGNING_KEY', 'LONGLIVE_TOKEN']);
    expect(container.Environment.map((e) => e.Name)).not.toContain('LONGLIVE_TOKEN');
  });

  it('keeps sockets open and sends a client back to its worker', () => {
    template.hasResourceProperties('AWS::ElasticLoadBalancingV2::LoadBalancer', {
      LoadBalancerAttributes: Match.arrayWith([{ Key: 'idle_timeout.timeout_seconds', Value: '4000' }]),
    });
    template.hasResourceProperties('AWS::ElasticLoadBalancingV2::TargetGroup', {
      HealthCheckPath: '/readyz',
      TargetGroupAttributes: Match.arrayWith([{ Key: 'stickiness.enabled', Value: 'true' }]),
    });
  });

  it('lets the service touch session objects only, and grants no wildcard', () => {
    const statements = Object.values(template.findResources('AWS::IAM::Policy')).flatMap(
      (policy) =>
        policy.Properties.PolicyDocument.Statement as {
          Action: string | string[];
          Resource: unknown;
          Effect: string;
        }[],
    );
    const s3 = statements.filter((s) => [s.Action].flat().some((action) => action.startsWith('s3:')));
    expect(s3.length).toBeGreaterThan(0);
    for (const statement of s3) {
      expect([statement.Action].flat()).not.toContain('s3:*');
      expect(statement.Resource).not.toBe('*');
    }
    const writes = s3.filter((s) => [s.Action].flat().includes('s3:PutObject'));
    expect(writes).toHaveLength(1);
    for (const prefix of SERVICE_PREFIXES) expect(JSON.stringify(writes[0]?.Resource)).toContain(`/${prefix}*`);
    expect([writes[0]?.Resource].flat()).toHaveLength(SERVICE_PREFIXES.length);
    const lists = s3.filter((s) => [s.Action].flat().includes('s3:ListBucket'));
    for (const prefix of SERVICE_PREFIXES) expect(JSON.stringify(lists)).toContain(`"${prefix}*"`);
  });

  it('admits only the balancer to the workers', () => {
    template.hasResourceProperties('AWS::EC2::SecurityGroupIngress', {
      FromPort: 4000,
      ToPort: 4000,
      SourceSecurityGroupId: Match.anyValue(),
    });
  });

  it('alarms when no worker is healthy', () => {
    template.hasResourceProperties('AWS::CloudWatch::Alarm', { MetricName: 'HealthyHostCount', Threshold: 1 });
  });
});

describe('settings', () => {
  it('terminate TLS when a certificate is given', () => {
    synthesise({ certificateArn, internetFacing: 'true' }).hasResourceProperties(
      'AWS::ElasticLoadBalancingV2::Listener',
      { Port: 443, Protocol: 'HTTPS', Certificates: [{ CertificateArn: certificateArn }] },
    );
  });

  it('refuse an internet-facing balancer without a certificate', () => {
    expect(() => synthesise({ internetFacing: 'true' })).toThrow(/certificateArn/);
  });

  it('refuse impossible worker counts', () => {
    expect(() => synthesise({ minWorkers: '5', maxWorkers: '2' })).toThrow(/must not exceed/);
    expect(() => synthesise({ maxWorkers: 'many' })).toThrow(/maxWorkers must be an integer/);
  });

  it('keep sessions for ever when retention is 0', () => {
    const tasks = Object.values(synthesise({ retentionDays: '0' }).findResources('AWS::ECS::TaskDefinition'));
    expect(JSON.stringify(tasks)).toContain('{"Name":"LONGLIVE_KEEP_DAYS","Value":"0"}');
  });
});
