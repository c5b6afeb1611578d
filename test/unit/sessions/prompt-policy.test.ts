import { beforeEach, describe, expect, test } from 'vitest';
import {
  type CreateSessionInput,
  type DomainError,
  GuardedSessions,
  type Principal,
  PromptGate,
  type PromptQuestion,
  type PromptRules,
  type PromptVerdict,
  type Sessions,
} from '../../../src/sessions/index.js';

const ann: Principal = { tenant: 'acme', subject: 'key:1', scopes: new Set(['admin']) };

let questions: PromptQuestion[];
let made: { name: string; args: unknown[] }[];
let noted: object[];
let rules: PromptRules;

const verdictOn = (prompt: string): PromptVerdict => {
  if (prompt.includes('secret')) return { verdict: 'refuse', reason: 'No secrets, please.' };
  return prompt.includes('gun')
    ? { verdict: 'rewrite', prompt: prompt.replace('gun', 'flower') }
    : { verdict: 'allow' };
};

beforeEach(() => {
  [questions, made, noted] = [[], [], []];
  rules = {
    policy: { judge: async (question) => (questions.push(question), question.prompts.map(verdictOn)) },
    withoutAnswer: 'refuse',
    refused: (details) => noted.push(details),
    unanswered: (error) => noted.push(error as object),
    logPrompts: false,
  };
});

const sessions = () => {
  const inner = new Proxy({} as Sessions, {
    get:
      (_, name: string) =>
      async (...args: unknown[]) => (made.push({ name, args }), { id: 's', tenant: 'acme' }),
  });
  return new GuardedSessions(inner, ann, undefined, new PromptGate(rules, ann));
};
const refusal = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    ({ code, field, message }: DomainError) => ({ code, field, message }),
  );

/** Everything that brings a prompt, with where it stands in what is then made. */
const WAYS: [string, (prompt: string) => Promise<unknown>, string, (args: unknown[]) => unknown][] = [
  [
    'create',
    (prompt) => sessions().createSession({ prompt }),
    'prompt',
    ([input]) => (input as CreateSessionInput).prompt,
  ],
  [
    'create',
    (prompt) => sessions().createSession({ timeline: [{ prompt: 'a fox' }, { prompt, atSeconds: 9 }] }),
    'timeline[1].prompt',
    ([input]) => (input as CreateSessionInput).timeline?.[1]?.prompt,
  ],
  [
    'fork',
    (prompt) => sessions().forkSession('s', { prompt }),
    'prompt',
    ([, input]) => (input as { prompt: string }).prompt,
  ],
  [
    'switch',
    (prompt) => sessions().switchPrompt('s', { prompt, transition: { chunks: 4 } }),
    'prompt',
    ([, input]) => (input as { prompt: string }).prompt,
  ],
  [
    'plan',
    (prompt) => sessions().planPrompt('s', { prompt }),
    'prompt',
    ([, input]) => (input as { prompt: string }).prompt,
  ],
  [
    'move',
    (prompt) => sessions().movePrompt('s', 'r', { prompt }),
    'prompt',
    ([, , input]) => (input as { prompt: string }).prompt,
  ],
];

describe.each(WAYS)('a policy for prompts, asked at %s', (occasion, ask, field, promptIn) => {
  test('is asked before anything is made, once, and sees who asks', async () => {
    await ask(' a red fox ');
    const [question] = questions;
    expect(questions).toHaveLength(1);
    expect(question).toMatchObject({ occasion, tenant: 'acme', subject: 'key:1' });
    expect(question?.prompts.at(-1)).toBe('a red fox');
    expect(question?.sessionId).toBe(occasion === 'create' ? undefined : 's');
    expect(made).toHaveLength(1);
  });

  test('refuses with a reason for whoever wrote it, and nothing is made; the prompt is not noted', async () => {
    expect(await refusal(ask('a secret fox'))).toEqual({
      ...{ code: 'INVALID_INPUT', field },
      message: 'This prompt is not allowed here: No secrets, please.',
    });
    expect(made).toEqual([]);
    expect(noted).toHaveLength(1);
    expect(JSON.stringify(noted)).not.toContain('fox');
  });

  test('changes what is made', async () => {
    await ask('a fox with a gun');
    expect(promptIn(made[0]?.args ?? [])).toBe('a fox with a flower');
  });

  test('that gives no answer refuses, or lets pass, as it was set', async () => {
    rules.policy = { judge: () => Promise.reject(new Error('too late')) };
    expect(await refusal(ask('a fox'))).toMatchObject({ code: 'POLICY' });
    expect(made).toEqual([]);
    rules.withoutAnswer = 'allow';
    await ask('a fox');
    expect(promptIn(made[0]?.args ?? [])).toBe('a fox');
    expect(noted).toHaveLength(2);
  });
});

test('prompts that are refused are noted where that is switched on', async () => {
  rules.logPrompts = true;
  await refusal(sessions().createSession({ prompt: 'a secret fox' }));
  expect(noted).toEqual([
    { occasion: 'create', tenant: 'acme', subject: 'key:1', field: 'prompt', prompt: 'a secret fox' },
  ]);
});

test('what is no prompt is not asked about, and what has none asks nobody', async () => {
  for (const prompt of ['', ' ', 'a'.repeat(2_001), 7 as unknown as string])
    expect(await refusal(sessions().createSession({ prompt }))).toMatchObject({
      code: 'INVALID_INPUT',
      field: 'prompt',
    });
  await sessions().forkSession('s', { atChunk: 2 });
  await sessions().movePrompt('s', 'r', { atBlock: 9 });
  await sessions().createSession({ timeline: Array.from({ length: 201 }, () => ({ prompt: 'a' })) });
  expect(questions).toEqual([]);
});
