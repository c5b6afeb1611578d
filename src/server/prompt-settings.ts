/** Who decides which prompts are allowed. */

import { z } from 'zod';

export const promptSettings = {
  promptPolicy: z
    .url({ protocol: /^https?$/, error: 'must be an address such as https://policy.example/prompts' })
    .optional()
    .describe('What is asked by POST whether a prompt is allowed, before anything is made of it; nobody if not set'),
  promptPolicyToken: z
    .string()
    .trim()
    .regex(/^[\x21-\x7e]+$/, 'must be printable ASCII without blanks')
    .optional()
    .describe('Bearer token that it is sent'),
  promptPolicySeconds: z.coerce
    .number()
    .min(0.1)
    .max(20)
    .default(2)
    .meta({ unit: 'seconds' })
    .describe('How long its answer is waited for'),
  promptPolicyFailure: z
    .enum(['refuse', 'allow'])
    .default('refuse')
    .describe('What becomes of a prompt when it gives no answer in time'),
  logPrompts: z.stringbool().or(z.boolean()).default(false).describe('Write prompts that it refuses into the log'),
};
