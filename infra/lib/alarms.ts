import { Duration } from 'aws-cdk-lib';
import { Alarm, ComparisonOperator, type IMetric, Metric, TreatMissingData } from 'aws-cdk-lib/aws-cloudwatch';
import { SnsAction } from 'aws-cdk-lib/aws-cloudwatch-actions';
import { type ApplicationTargetGroup, HttpCodeTarget } from 'aws-cdk-lib/aws-elasticloadbalancingv2';
import { Topic } from 'aws-cdk-lib/aws-sns';
import { EmailSubscription } from 'aws-cdk-lib/aws-sns-subscriptions';
import { Construct } from 'constructs';
import type { Cache } from './cache.js';
import { missingWorkers, saidHowMany } from './demand.js';
import type { Settings } from './settings.js';

const { GREATER_THAN_OR_EQUAL_TO_THRESHOLD: atLeast, LESS_THAN_THRESHOLD: below } = ComparisonOperator;

/** What somebody must hear of; docs/operations.md says of each what to do. */
export class Alarms extends Construct {
  private readonly topic: Topic;

  constructor(
    scope: Construct,
    { api, cache, settings }: { api: ApplicationTargetGroup; cache: Cache; settings: Settings },
  ) {
    super(scope, 'Alarms');
    this.topic = new Topic(this, 'Topic', { enforceSSL: true });
    if (settings.alarmEmail !== undefined) this.topic.addSubscription(new EmailSubscription(settings.alarmEmail));
    const { BREACHING, NOT_BREACHING } = TreatMissingData;
    this.alarm('NoCapacity', missingWorkers(), atLeast, 1, 15, NOT_BREACHING);
    this.alarm('NoDemandFigure', saidHowMany(), below, 1, 3, BREACHING);
    const period = Duration.minutes(1);
    this.alarm('NoHealthyApi', api.metrics.healthyHostCount({ period, statistic: 'Minimum' }), below, 1, 2, BREACHING);
    const failures = api.metrics.httpCodeTarget(HttpCodeTarget.TARGET_5XX_COUNT, { period, statistic: 'Sum' });
    this.alarm('ServerErrors', failures, atLeast, 20, 3, NOT_BREACHING);
    const valkey = (metricName: string) =>
      new Metric({
        namespace: 'AWS/ElastiCache',
        metricName,
        dimensionsMap: { ReplicationGroupId: cache.group.ref },
        period,
        statistic: 'Maximum',
      });
    this.alarm('CacheMemory', valkey('DatabaseMemoryUsagePercentage'), atLeast, 80, 5, NOT_BREACHING);
    this.alarm('CacheCpu', valkey('EngineCPUUtilization'), atLeast, 80, 5, NOT_BREACHING);
  }

  private alarm(
    id: string,
    metric: IMetric,
    comparisonOperator: ComparisonOperator,
    threshold: number,
    evaluationPeriods: number,
    treatMissingData: TreatMissingData,
  ): void {
    const alarm = new Alarm(this, id, {
      ...{ metric, comparisonOperator, threshold, evaluationPeriods, treatMissingData },
      alarmDescription: `LongLive: ${id}. What it means and what to do: docs/operations.md`,
    });
    alarm.addAlarmAction(new SnsAction(this.topic));
    alarm.addOkAction(new SnsAction(this.topic));
  }
}
