/** A policy for prompts that is asked over HTTP. */

import { z } from 'zod';
import { collectWithin } from '../files/body.js';
import { type Logger, type PromptPolicy, type PromptRules, type PromptVerdict } from '../sessions/index.js';
import type { ServerConfig } from './config.js';

const MOST_BYTES = 1024 * 1024;
const LONGEST_REASON = 300;
/** As of the domain, which says so where it is longer. */
const LONGEST_PROMPT = 10_000;

/** In one line, without what a terminal would obey. */
const reason = z
  .string()
  .transform((text) => text.replace(/[\p{C}\p{Zl}\p{Zp}]+/gu, ' ').trim())
  .pipe(z.string().min(1).max(LONGEST_REASON));

const verdict = z.discriminatedUnion('verdict', [
  z.object({ verdict: z.literal('allow') }),
  z.object({ verdict: z.literal('refuse'), reason }),
  z.object({ verdict: z.literal('rewrite'), prompt: z.string().trim().min(1).max(LONGEST_PROMPT) }),
]);

const answer = z.object({ verdicts: z.array(verdict) });

/** POSTs the question as JSON. Redirects are not followed; what is no answer in time is none. */
export function policyAt(url: string, seconds: number, token?: string): PromptPolicy {
  const headers = {
    'content-type': 'application/json',
    accept: 'application/json',
    ...(token !== undefined && { authorization: `Bearer ${token}` }),
  };
  return {
    judge: async (question): Promise<readonly PromptVerdict[]> => {
      const signal = AbortSignal.timeout(seconds * 1000);
      const request = { method: 'POST', headers, body: JSON.stringify(question), signal, redirect: 'error' } as const;
      const response = await fetch(url, request);
      const bytes = response.body && (await collectWithin(bytesOf(response.body), MOST_BYTES));
      if (response.status !== 200)
        throw new Error(`the policy for prompts answered with the status ${response.status}`);
      if (!bytes) throw new Error('the policy for prompts answered with nothing, or too much');
      const { verdicts } = answer.parse(JSON.parse(bytes.toString()));
      if (verdicts.length !== question.prompts.length)
        throw new Error(
          `the policy for prompts gave ${verdicts.length} verdicts on ${question.prompts.length} prompts`,
        );
      return verdicts;
    },
  };
}

/** Node's streams can be iterated over; the types of the web's do not say so. */
function bytesOf(body: ReadableStream<Uint8Array>): AsyncIterable<Uint8Array> {
  return body as unknown as AsyncIterable<Uint8Array>;
}

type Settings = Pick<
  ServerConfig,
  'promptPolicy' | 'promptPolicySeconds' | 'promptPolicyToken' | 'promptPolicyFailure' | 'logPrompts'
>;

/** Undefined where everything may be said. */
export function promptRules(settings: Settings, log: Logger): PromptRules | undefined {
  const { promptPolicy, promptPolicySeconds, promptPolicyToken, promptPolicyFailure, logPrompts } = settings;
  if (promptPolicy === undefined) return undefined;
  return {
    policy: policyAt(promptPolicy, promptPolicySeconds, promptPolicyToken),
    withoutAnswer: promptPolicyFailure,
    refused: (details) => log.info(details, 'a prompt was refused by the policy'),
    unanswered: (error) => log.warn({ error }, 'the policy for prompts gave no answer'),
    logPrompts,
  };
}
