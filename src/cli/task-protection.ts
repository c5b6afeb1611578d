/** On ECS, a worker that has live sessions says so, so that scaling in ends others first, or nobody. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Sessions } from '../sessions/index.js';

const LOOK_SECONDS = 10;

/** A worker that hangs is not protected for ever. */
const EXPIRES_MINUTES = 30;

const RENEW_SECONDS = (EXPIRES_MINUTES * 60) / 3;

const TIMEOUT_SECONDS = 5;

export interface TaskProtectionParts {
  sessions: Pick<Sessions, 'status'>;
  /** `ECS_AGENT_URI`, which ECS sets in every container. */
  agent: string;
  log: Pick<Logger, 'warn'>;
  signal: AbortSignal;
  lookSeconds?: number;
}

/** Until the signal. What fails is tried again at the next look; the log hears of it once. */
export async function protectTask({ sessions, agent, log, signal, ...options }: TaskProtectionParts): Promise<void> {
  const { lookSeconds = LOOK_SECONDS } = options;
  let said: { busy: boolean; at: number } = { busy: false, at: -Infinity };
  let failing = false;
  while (!signal.aborted) {
    const busy = sessions.status().devices.some((device) => device.realtimeSessions + device.fastestSessions > 0);
    const age = (performance.now() - said.at) / 1000;
    if (busy !== said.busy || (busy && age >= RENEW_SECONDS)) {
      try {
        await say(agent, busy, signal);
        said = { busy, at: performance.now() };
        failing = false;
      } catch (error) {
        if (!failing && !signal.aborted) log.warn({ error }, 'ECS was not told whether this task may be ended');
        failing = true;
      }
    }
    await delay(lookSeconds * 1000, undefined, { signal, ref: false }).catch(() => undefined);
  }
}

async function say(agent: string, busy: boolean, signal: AbortSignal): Promise<void> {
  const response = await fetch(`${agent}/task-protection/v1/state`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ProtectionEnabled: busy, ...(busy && { ExpiresInMinutes: EXPIRES_MINUTES }) }),
    signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_SECONDS * 1000)]),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`the ECS agent answered ${response.status}: ${text.slice(0, 500)}`);
}
