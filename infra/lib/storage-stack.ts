import { CfnOutput, Duration, RemovalPolicy, Stack, type StackProps } from 'aws-cdk-lib';
import { Repository, TagMutability } from 'aws-cdk-lib/aws-ecr';
import { Grant, type IRole } from 'aws-cdk-lib/aws-iam';
import {
  BlockPublicAccess,
  Bucket,
  BucketEncryption,
  HttpMethods,
  type IBucket,
  ObjectOwnership,
} from 'aws-cdk-lib/aws-s3';
import type { Construct } from 'constructs';
import { answer } from './answers.js';
import type { Grant as StoreGrant } from './store-access.js';

/** What is there before anything runs, and stays when the rest is taken away: sessions, model packages, images. */
export class StorageStack extends Stack {
  readonly sessions: Bucket;
  readonly packages: Bucket;
  readonly images: Repository;

  constructor(scope: Construct, id: string, props?: StackProps) {
    super(scope, id, { ...props, terminationProtection: true });
    this.sessions = this.bucket('Sessions', true);
    this.packages = this.bucket('Packages', false);
    this.images = new Repository(this, 'Images', {
      imageTagMutability: TagMutability.IMMUTABLE,
      imageScanOnPush: true,
      removalPolicy: RemovalPolicy.RETAIN,
    });
    new CfnOutput(this, 'SessionsBucket', { value: this.sessions.bucketName });
    new CfnOutput(this, 'PackagesBucket', { value: this.packages.bucketName });
    new CfnOutput(this, 'Repository', { value: this.images.repositoryUri });
  }

  /**
   * Private, encrypted, TLS only; incomplete uploads are cleaned up. Old sessions are the service's to delete (LONGLIVE_KEEP_DAYS):
   * a rule of the bucket would take the media that forks still play, and leave lists of what is gone.
   */
  private bucket(id: string, downloads: boolean): Bucket {
    const bucket = new Bucket(this, id, {
      blockPublicAccess: BlockPublicAccess.BLOCK_ALL,
      encryption: BucketEncryption.S3_MANAGED,
      enforceSSL: true,
      objectOwnership: ObjectOwnership.BUCKET_OWNER_ENFORCED,
      removalPolicy: RemovalPolicy.RETAIN,
      lifecycleRules: [{ id: 'abort-incomplete-uploads', abortIncompleteMultipartUploadAfter: Duration.days(1) }],
      ...(downloads && { cors: [DOWNLOADS] }),
    });
    answer(
      bucket,
      'AwsSolutions-S1',
      'Only the service reads here, and logs each request with its id; turn server access logs on where an audit asks for them.',
    );
    return bucket;
  }
}

/** Browsers fetch finished videos from pre-signed URLs. */
const DOWNLOADS = {
  allowedMethods: [HttpMethods.GET, HttpMethods.HEAD],
  allowedOrigins: ['*'],
  allowedHeaders: ['Range'],
  exposedHeaders: ['Content-Length', 'Content-Range', 'ETag'],
  maxAge: 3600,
};

export function allow(role: IRole, bucket: IBucket, grants: StoreGrant[]): void {
  for (const { actions, keys } of grants) {
    const resources = keys ? keys.map((key) => bucket.arnForObjects(key)) : [bucket.bucketArn];
    Grant.addToPrincipal({ grantee: role, actions, resourceArns: resources });
  }
}
