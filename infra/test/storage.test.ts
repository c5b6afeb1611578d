import { Match, type Template } from 'aws-cdk-lib/assertions';
import { beforeAll, describe, expect, it } from 'vitest';
import { all, deployment } from './deployment.js';

describe('the storage, which comes first and stays', () => {
  let storage: Template;
  beforeAll(() => {
    ({ storage } = deployment());
  });

  it('keeps its buckets private, encrypted and TLS only, and outlives the stack', () => {
    const buckets = Object.values(storage.findResources('AWS::S3::Bucket'));
    expect(buckets).toHaveLength(2);
    for (const { DeletionPolicy, Properties } of buckets) {
      expect(DeletionPolicy).toBe('Retain');
      expect(Object.values(Properties.PublicAccessBlockConfiguration)).toEqual([true, true, true, true]);
      expect(Properties.BucketEncryption).toBeDefined();
    }
    for (const { PolicyDocument } of all(storage, 'AWS::S3::BucketPolicy')) {
      expect(JSON.stringify(PolicyDocument)).toContain('"aws:SecureTransport":"false"');
    }
  });

  it('aborts incomplete uploads, and leaves deleting sessions to the service', () => {
    for (const { LifecycleConfiguration } of all(storage, 'AWS::S3::Bucket')) {
      expect(LifecycleConfiguration.Rules).toEqual([
        expect.objectContaining({ AbortIncompleteMultipartUpload: { DaysAfterInitiation: 1 } }),
      ]);
    }
  });

  it('has a repository whose tags nobody moves', () => {
    storage.hasResource('AWS::ECR::Repository', {
      DeletionPolicy: 'Retain',
      Properties: Match.objectLike({ ImageTagMutability: 'IMMUTABLE' }),
    });
  });

  it('holds nothing that computes', () => {
    for (const type of ['AWS::ECS::Service', 'AWS::AutoScaling::AutoScalingGroup']) storage.resourceCountIs(type, 0);
  });
});
