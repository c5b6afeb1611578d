import { SecretValue } from 'aws-cdk-lib';
import { Port, SecurityGroup, type IVpc } from 'aws-cdk-lib/aws-ec2';
import { CfnReplicationGroup, CfnSubnetGroup } from 'aws-cdk-lib/aws-elasticache';
import { Secret } from 'aws-cdk-lib/aws-secretsmanager';
import { Construct } from 'constructs';
import { answer } from './answers.js';

const PORT = 6379;

/** What servers say to each other. Everything in it may be lost: no backups, and a replica only for the time of a fail-over. */
export class Cache extends Construct {
  /** `rediss://…` with its password. */
  readonly url: Secret;
  readonly group: CfnReplicationGroup;
  private readonly securityGroup: SecurityGroup;

  constructor(scope: Construct, id: string, vpc: IVpc) {
    super(scope, id);
    this.securityGroup = new SecurityGroup(this, 'SecurityGroup', {
      vpc,
      description: 'LongLive Valkey',
      allowAllOutbound: false,
    });
    const subnets = new CfnSubnetGroup(this, 'Subnets', {
      description: 'LongLive Valkey',
      subnetIds: vpc.privateSubnets.map(({ subnetId }) => subnetId),
    });
    const password = new Secret(this, 'Password', {
      description: 'Password of the LongLive Valkey',
      generateSecretString: { excludePunctuation: true, passwordLength: 48 },
    });
    this.group = new CfnReplicationGroup(this, 'Group', {
      replicationGroupDescription: 'LongLive',
      engine: 'valkey',
      engineVersion: '8.0',
      cacheNodeType: 'cache.t4g.small',
      // One shard: commands of several keys, and streams that one connection reads, do not go over shards.
      numCacheClusters: 2,
      automaticFailoverEnabled: true,
      multiAzEnabled: true,
      transitEncryptionEnabled: true,
      atRestEncryptionEnabled: true,
      authToken: password.secretValue.unsafeUnwrap(),
      cacheSubnetGroupName: subnets.ref,
      securityGroupIds: [this.securityGroup.securityGroupId],
      port: PORT,
      snapshotRetentionLimit: 0,
    });
    const address = this.group.attrPrimaryEndPointAddress;
    this.url = new Secret(this, 'Url', {
      description: 'Address of the LongLive Valkey, with its password',
      secretStringValue: SecretValue.unsafePlainText(
        `rediss://:${password.secretValue.unsafeUnwrap()}@${address}:${PORT}`,
      ),
    });
    for (const secret of [password, this.url]) {
      answer(
        secret,
        'AwsSolutions-SMG4',
        'Rotating it takes new tasks; docs/aws.md says how. It opens Valkey from inside this network only.',
      );
    }
    answer(this.group, 'AwsSolutions-AEC5', 'The port is no secret: TLS, a password and a security group guard it.');
  }

  admit(peer: SecurityGroup): void {
    this.securityGroup.addIngressRule(peer, Port.tcp(PORT), 'Valkey');
  }
}
