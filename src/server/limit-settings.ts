/** How much callers may use. */

import { z } from 'zod';

/** 0 for no bound. */
const most = (fallback: number) => z.coerce.number().int().min(0).max(1e9).default(fallback);

export const limitSettings = {
  tenantSessions: most(0).describe(
    'Sessions that a tenant may have running at a time, on all servers together; 0 for no limit',
  ),
  tenantFastest: most(0).describe('The same for sessions of the pace FASTEST; 0 for no limit'),
  creationsPerMinute: most(600).describe('Sessions that a tenant may make per minute, forks included; 0 for no limit'),
  addressCreationsPerMinute: most(0).describe('The same from one address (or IPv6 network); 0 for no limit'),
  promptsPerSecond: most(100).describe(
    'Prompts that a tenant may send per second: switched, planned or moved; 0 for no limit',
  ),
  addressPromptsPerSecond: most(0).describe('The same from one address (or IPv6 network); 0 for no limit'),
  costPerMinute: most(0).describe(
    'Cost of all operations of a tenant per minute, counted as for maxCost; 0 for no limit',
  ),
  addressCostPerMinute: most(0).describe('The same from one address (or IPv6 network); 0 for no limit'),
  streamsPerCaller: most(0).describe('Streams that one credential may have open at a server; 0 for no limit'),
  failedLoginsPerMinute: most(60).describe(
    'Wrong credentials that an address may send per minute; beyond it they are answered 429, and its tokens are not looked at. 0 for no limit',
  ),
};

type LimitSettings = { [Name in keyof typeof limitSettings]: number };

/** As the domain has them. */
export function quotaRules(settings: LimitSettings) {
  return {
    tenant: {
      creations: settings.creationsPerMinute,
      prompts: settings.promptsPerSecond,
      cost: settings.costPerMinute,
    },
    address: {
      creations: settings.addressCreationsPerMinute,
      prompts: settings.addressPromptsPerSecond,
      cost: settings.addressCostPerMinute,
    },
    streams: settings.streamsPerCaller,
  };
}
