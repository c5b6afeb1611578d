import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { answering } from '../../support/issuer.js';
import { startTestServer, type TestServer } from '../../support/test-server.js';

let policy: Awaited<ReturnType<typeof answering>>;
let server: TestServer;
let asked: { occasion: string; prompts: string[] }[];
let down: boolean;

beforeEach(async () => {
  [asked, down] = [[], false];
  policy = await answering(async (request, response) => {
    const question = JSON.parse(await text(request)) as (typeof asked)[number];
    asked.push(question);
    if (down) return void response.writeHead(503).end();
    const verdicts = question.prompts.map((prompt) =>
      prompt.includes('gun')
        ? { verdict: 'refuse', reason: 'No guns in this house.' }
        : { verdict: 'rewrite', prompt: prompt.replace('knife', 'spoon') },
    );
    response.end(JSON.stringify({ verdicts }));
  });
});
afterEach(async () => {
  await server.close();
  policy.close();
});
const start = async (settings = {}) =>
  void (server = await startTestServer({ settings: { promptPolicy: policy.url, ...settings } }));

interface Answer {
  __typename: string;
  id?: string;
  prompt?: string;
  code?: string;
  message?: string;
  field?: string;
}
const ERROR = '... on Error { code message } ... on InvalidInputError { field }';
const create = async (input: object) =>
  (
    await server.query<{ it: Answer }>(
      `mutation ($input: CreateSessionInput!) { it: createSession(input: $input) { __typename ... on Session { id prompt } ${ERROR} } }`,
      { input: { pace: 'REALTIME', ...input } },
    )
  ).it;
const change = async (id: string | undefined, prompt: string) =>
  (
    await server.query<{ it: Answer }>(
      `mutation ($id: ID!, $prompt: String!) { it: switchPrompt(sessionId: $id, prompt: $prompt) { __typename ... on SwitchReceipt { prompt } ${ERROR} } }`,
      { id, prompt },
    )
  ).it;

test('a refused prompt is answered with the reason and where it stands; no session is made of it', async () => {
  await start();
  expect(await create({ prompt: 'a fox with a gun' })).toEqual({
    ...{ __typename: 'InvalidInputError', code: 'INVALID_INPUT', field: 'prompt' },
    message: 'This prompt is not allowed here: No guns in this house.',
  });
  const timeline = [{ prompt: 'a fox' }, { prompt: 'a gun', atSeconds: 5 }];
  expect(await create({ timeline })).toMatchObject({ field: 'timeline[1].prompt' });
  expect(
    server.store.objects.size === 0 || [...server.store.objects.keys()].every((key) => !key.startsWith('sessions/')),
  ).toBe(true);
  const { id } = await create({ prompt: 'a fox' });
  expect(await change(id, 'a gun')).toMatchObject({ __typename: 'InvalidInputError', field: 'prompt' });
  expect(asked.map(({ occasion }) => occasion)).toEqual(['create', 'create', 'create', 'switch']);
});

test('what it writes instead is what is made', async () => {
  await start();
  const { id, prompt } = await create({ prompt: 'a fox with a knife' });
  expect(prompt).toBe('a fox with a spoon');
  expect(await change(id, 'a bear with a knife')).toMatchObject({ prompt: 'a bear with a spoon' });
  expect(
    JSON.stringify([...server.store.objects.values()].map(({ bytes }) => Buffer.from(bytes).toString())),
  ).not.toContain('knife');
});

test('while it does not answer prompts are refused, or pass where that was chosen', async () => {
  down = true;
  await start();
  expect(await create({ prompt: 'a fox' })).toMatchObject({ __typename: 'UnavailableError', code: 'POLICY' });
  await server.close();
  await start({ promptPolicyFailure: 'allow' });
  expect(await create({ prompt: 'a fox with a gun' })).toMatchObject({
    __typename: 'Session',
    prompt: 'a fox with a gun',
  });
});
