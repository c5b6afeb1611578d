import { setTimeout as delay } from 'node:timers/promises';
import type { Clock } from './ports.js';

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  async sleep(milliseconds, signal) {
    if (signal?.aborted) return;
    await delay(milliseconds, undefined, signal ? { signal } : {}).catch(() => undefined);
  },
};
