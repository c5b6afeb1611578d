import { Duration } from 'aws-cdk-lib';
import { MathExpression, Metric } from 'aws-cdk-lib/aws-cloudwatch';
import { NAMESPACE } from './container.js';

/** What the API servers log every ten seconds; each knows of all workers, so the greatest is right. */
function figure(metricName: string, period: Duration, statistic = 'Maximum'): Metric {
  return new Metric({ namespace: NAMESPACE, metricName, period, statistic });
}

export function wantedWorkers(period = Duration.minutes(1)): Metric {
  return figure('WantedWorkers', period);
}

/** That the figure was given at all. */
export function saidHowMany(): Metric {
  return figure('WantedWorkers', Duration.minutes(1), 'SampleCount');
}

/** Workers that are wanted and not there; below zero, those that are there and not wanted. */
export function missingWorkers(): MathExpression {
  const usingMetrics = { wanted: wantedWorkers(), workers: figure('Workers', Duration.minutes(1)) };
  return new MathExpression({ expression: 'wanted - workers', usingMetrics, period: Duration.minutes(1) });
}
