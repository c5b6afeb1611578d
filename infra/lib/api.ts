import { Duration } from 'aws-cdk-lib';
import {
  AllowedMethods,
  CachePolicy,
  CacheQueryStringBehavior,
  Distribution,
  OriginProtocolPolicy,
  OriginRequestPolicy,
  ViewerProtocolPolicy,
} from 'aws-cdk-lib/aws-cloudfront';
import { VpcOrigin } from 'aws-cdk-lib/aws-cloudfront-origins';
import { Peer, Port, SecurityGroup, type IVpc } from 'aws-cdk-lib/aws-ec2';
import { type Cluster, ContainerImage, FargateService, FargateTaskDefinition } from 'aws-cdk-lib/aws-ecs';
import {
  ApplicationLoadBalancer,
  ApplicationProtocol,
  type ApplicationTargetGroup,
  Protocol,
} from 'aws-cdk-lib/aws-elasticloadbalancingv2';
import { CfnWebACL, CfnWebACLAssociation } from 'aws-cdk-lib/aws-wafv2';
import { Construct } from 'constructs';
import { answer } from './answers.js';
import { answers, type Common, NAMESPACE, PORT, STOP_SECONDS } from './container.js';
import type { Settings } from './settings.js';
import { allow, type StorageStack } from './storage-stack.js';
import { STORE_GRANTS } from './store-access.js';

/** Beats of an idle stream come every 10 s. */
const BALANCER_IDLE_SECONDS = 120;

/** Requests of one address in five minutes; a player that loads each chunk of 0.75 s makes 400. */
const REQUESTS = 6_000;

export interface ApiProps {
  vpc: IVpc;
  cluster: Cluster;
  common: Common;
  storage: StorageStack;
  settings: Settings;
}

/** Those who serve clients: any for any session, so nothing is sticky. In front of them a CDN, which keeps media. */
export class Api extends Construct {
  readonly securityGroup: SecurityGroup;
  readonly distribution: Distribution;
  readonly target: ApplicationTargetGroup;

  constructor(
    scope: Construct,
    private readonly props: ApiProps,
  ) {
    super(scope, 'Api');
    const { vpc, cluster, settings } = props;
    this.securityGroup = new SecurityGroup(this, 'SecurityGroup', { vpc, description: 'LongLive API' });
    const balancer = this.balancer();
    this.distribution = this.cdn(balancer);
    const service = new FargateService(this, 'Service', {
      cluster,
      taskDefinition: this.task(),
      securityGroups: [this.securityGroup],
      minHealthyPercent: 100,
      maxHealthyPercent: 200,
      circuitBreaker: { rollback: true },
      healthCheckGracePeriod: Duration.seconds(60),
      // The number is the scaling's, also when the service is updated.
    });
    const scaling = service.autoScaleTaskCount({ minCapacity: settings.minApis, maxCapacity: settings.maxApis });
    scaling.scaleOnCpuUtilization('Cpu', { targetUtilizationPercent: 60, scaleInCooldown: Duration.minutes(5) });
    const listener = balancer.addListener('Http', { port: 80, protocol: ApplicationProtocol.HTTP, open: false });
    this.target = listener.addTargets('Servers', {
      port: PORT,
      protocol: ApplicationProtocol.HTTP,
      targets: [service.loadBalancerTarget({ containerName: 'api', containerPort: PORT })],
      deregistrationDelay: Duration.seconds(20),
      // Not /readyz: that asks the bucket, which is the same for all, and a slow one must not take all of them away.
      healthCheck: {
        path: '/healthz',
        protocol: Protocol.HTTP,
        interval: Duration.seconds(10),
        timeout: Duration.seconds(5),
        healthyThresholdCount: 2,
        unhealthyThresholdCount: 3,
      },
    });
  }

  private task(): FargateTaskDefinition {
    const { common, storage, settings, vpc } = this.props;
    const task = new FargateTaskDefinition(this, 'Task', { cpu: 1024, memoryLimitMiB: 2048 });
    for (const name of ['cache', 'data']) task.addVolume({ name });
    const container = task.addContainer('api', {
      image: ContainerImage.fromEcrRepository(storage.images, settings.apiImage),
      memoryLimitMiB: 2048,
      readonlyRootFilesystem: true,
      environment: {
        ...common.environment('api'),
        LONGLIVE_PUBLIC_URL: `https://${this.distribution.distributionDomainName}`,
        LONGLIVE_TRUSTED_PROXIES: vpc.vpcCidrBlock,
        // Longer than the balancer keeps an idle connection, so that it never sends into one that has just been closed.
        LONGLIVE_KEEP_ALIVE_SECONDS: String(BALANCER_IDLE_SECONDS + 10),
        // Of Fargate's volumes only those that the image declares belong to its user.
        TMPDIR: '/cache',
        LONGLIVE_CLOUDWATCH_NAMESPACE: NAMESPACE,
      },
      secrets: common.secrets,
      stopTimeout: Duration.seconds(STOP_SECONDS),
      portMappings: [{ containerPort: PORT }],
      logging: common.logging('api'),
      healthCheck: answers(60, 15, 3),
    });
    container.addMountPoints(
      ...['cache', 'data'].map((name) => ({ sourceVolume: name, containerPath: `/${name}`, readOnly: false })),
    );
    allow(task.taskRole, storage.sessions, STORE_GRANTS);
    answer(task, 'AwsSolutions-ECS2', 'What is secret comes from the secret store; the rest are settings.');
    return task;
  }

  private balancer(): ApplicationLoadBalancer {
    const { vpc } = this.props;
    const securityGroup = new SecurityGroup(this, 'BalancerSecurityGroup', { vpc, description: 'LongLive balancer' });
    securityGroup.addIngressRule(Peer.ipv4(vpc.vpcCidrBlock), Port.tcp(80), 'The CDN, from inside the network');
    this.securityGroup.addIngressRule(securityGroup, Port.tcp(PORT), 'API and media');
    const balancer = new ApplicationLoadBalancer(this, 'Balancer', {
      vpc,
      internetFacing: false,
      securityGroup,
      idleTimeout: Duration.seconds(BALANCER_IDLE_SECONDS),
      dropInvalidHeaderFields: true,
    });
    new CfnWebACLAssociation(this, 'Guarded', { resourceArn: balancer.loadBalancerArn, webAclArn: this.firewall() });
    answer(
      balancer,
      'AwsSolutions-ELB2',
      'The service logs each request with its id and time; a second log would hold the signatures of media URLs.',
    );
    answer(
      securityGroup,
      'AwsSolutions-EC23',
      'From the range of this network only; the rule cannot read a range that is a reference.',
    );
    answer(securityGroup, 'CdkNagValidationFailure', 'The range is a reference, which rules cannot read.');
    return balancer;
  }

  /** At the balancer, in the region of the rest; the CDN tells it who asks. */
  private firewall(): string {
    const visible = (metricName: string) => ({
      sampledRequestsEnabled: true,
      cloudWatchMetricsEnabled: true,
      metricName,
    });
    const managed = (name: string, priority: number) => ({
      name,
      priority,
      overrideAction: { none: {} },
      statement: { managedRuleGroupStatement: { vendorName: 'AWS', name } },
      visibilityConfig: visible(name),
    });
    const acl = new CfnWebACL(this, 'Firewall', {
      scope: 'REGIONAL',
      defaultAction: { allow: {} },
      visibilityConfig: visible('LongLive'),
      rules: [
        managed('AWSManagedRulesAmazonIpReputationList', 0),
        managed('AWSManagedRulesKnownBadInputsRuleSet', 1),
        {
          name: 'Rate',
          priority: 2,
          action: { block: {} },
          statement: {
            rateBasedStatement: {
              limit: REQUESTS,
              aggregateKeyType: 'FORWARDED_IP',
              forwardedIpConfig: { headerName: 'X-Forwarded-For', fallbackBehavior: 'NO_MATCH' },
            },
          },
          visibilityConfig: visible('Rate'),
        },
      ],
    });
    return acl.attrArn;
  }

  private cdn(balancer: ApplicationLoadBalancer): Distribution {
    const origin = VpcOrigin.withApplicationLoadBalancer(balancer, {
      protocolPolicy: OriginProtocolPolicy.HTTP_ONLY,
      readTimeout: Duration.seconds(60),
      keepaliveTimeout: Duration.seconds(60),
    });
    const common = {
      origin,
      viewerProtocolPolicy: ViewerProtocolPolicy.REDIRECT_TO_HTTPS,
      originRequestPolicy: OriginRequestPolicy.ALL_VIEWER,
    };
    const distribution = new Distribution(this, 'Cdn', {
      comment: 'LongLive',
      defaultBehavior: {
        ...common,
        allowedMethods: AllowedMethods.ALLOW_ALL,
        cachePolicy: CachePolicy.CACHING_DISABLED,
      },
      additionalBehaviors: {
        // For as long as the service says: chunks until their URL expires, playlists not at all. The signature is in the query.
        '/sessions/*': {
          ...common,
          cachePolicy: new CachePolicy(this, 'Media', {
            minTtl: Duration.seconds(0),
            defaultTtl: Duration.seconds(0),
            maxTtl: Duration.days(1),
            queryStringBehavior: CacheQueryStringBehavior.all(),
            enableAcceptEncodingGzip: true,
          }),
        },
      },
    });
    answer(distribution, 'AwsSolutions-CFR1', 'Who may watch is said by a signature, not by a country.');
    answer(
      distribution,
      'AwsSolutions-CFR2',
      'The firewall is at the balancer, which nothing but this distribution reaches.',
    );
    answer(distribution, 'AwsSolutions-CFR3', 'A log of the CDN would hold the signatures of media URLs.');
    answer(
      distribution,
      'AwsSolutions-CFR4',
      "CloudFront's own certificate allows no higher minimum; give the distribution a domain and a certificate for TLS 1.2 alone.",
    );
    return distribution;
  }
}
