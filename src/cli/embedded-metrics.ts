/** What AWS scales workers by: CloudWatch reads such lines out of the log, so nothing has to be called or allowed. */

import type { Logger } from 'pino';
import type { Demand, Sessions } from '../sessions/index.js';

const SECONDS = 10;

/** Every ten seconds until the signal, zeros included: a figure that is missing would say nothing. */
export function logDemand(
  sessions: Pick<Sessions, 'status'>,
  namespace: string,
  log: Pick<Logger, 'info'>,
  signal: AbortSignal,
): void {
  const timer = setInterval(() => {
    const { demand } = sessions.status();
    if (demand) log.info(embedded(demand, namespace, Date.now()), 'demand for workers');
  }, SECONDS * 1000).unref();
  signal.addEventListener('abort', () => clearInterval(timer), { once: true });
}

/** The embedded metric format; whatever else is in the line is no harm to it. */
export function embedded({ wanted, workers, waiting, live }: Demand, namespace: string, at: number): object {
  const values = { WantedWorkers: wanted, Workers: workers, WaitingSessions: waiting, LiveSessions: live };
  const Metrics = Object.keys(values).map((Name) => ({ Name, Unit: 'Count', StorageResolution: 1 }));
  return {
    _aws: { Timestamp: at, CloudWatchMetrics: [{ Namespace: namespace, Dimensions: [[]], Metrics }] },
    ...values,
  };
}
