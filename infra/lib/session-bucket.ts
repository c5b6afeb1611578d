import { Duration, RemovalPolicy } from 'aws-cdk-lib';
import { BlockPublicAccess, Bucket, BucketEncryption, HttpMethods, ObjectOwnership } from 'aws-cdk-lib/aws-s3';
import { Construct } from 'constructs';

/** What the service keeps in its bucket (src/sessions/stored/keys.ts; a test compares). */
export const STORE_PREFIXES = [
  'sessions/',
  'unfinished/',
  'servers/',
  'exporting/',
  'deleting/',
  'by-date/',
  'deployment/',
];

/**
 * Sessions and model packages. Private, encrypted, TLS only; incomplete uploads are cleaned up. Old sessions are the service's to delete
 * (LONGLIVE_KEEP_DAYS): a rule of the bucket would take the media that forks still play, and leave lists of what is gone.
 */
export class SessionBucket extends Construct {
  readonly bucket: Bucket;

  constructor(scope: Construct, id: string) {
    super(scope, id);
    this.bucket = new Bucket(this, 'Bucket', {
      blockPublicAccess: BlockPublicAccess.BLOCK_ALL,
      encryption: BucketEncryption.S3_MANAGED,
      enforceSSL: true,
      objectOwnership: ObjectOwnership.BUCKET_OWNER_ENFORCED,
      removalPolicy: RemovalPolicy.RETAIN,
      lifecycleRules: [{ id: 'abort-incomplete-uploads', abortIncompleteMultipartUploadAfter: Duration.days(1) }],
      // Browsers fetch chunks and downloads from pre-signed URLs.
      cors: [
        {
          allowedMethods: [HttpMethods.GET, HttpMethods.HEAD],
          allowedOrigins: ['*'],
          allowedHeaders: ['Range'],
          exposedHeaders: ['Content-Length', 'Content-Range', 'ETag'],
          maxAge: 3600,
        },
      ],
    });
  }
}
