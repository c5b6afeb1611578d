import type { IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { afterEach, expect, test } from 'vitest';
import { policyAt } from '../../../src/server/prompt-policy.js';
import { answering, type Listener } from '../../support/issuer.js';

const QUESTION = {
  occasion: 'switch',
  tenant: 'acme',
  subject: 'key:1',
  sessionId: 's',
  prompts: ['a fox', 'a cat'],
} as const;
const ALLOWED = { verdicts: [{ verdict: 'allow' }, { verdict: 'allow' }] };

const open: (() => void)[] = [];
afterEach(() => open.splice(0).forEach((close) => close()));

async function judged(listener: Listener, seconds = 10, token?: string) {
  const server = await answering(listener);
  open.push(() => server.close());
  return policyAt(server.url, seconds, token).judge(QUESTION);
}
const says = (answer: unknown) => judged((_, response) => response.end(JSON.stringify(answer)));

test('is sent the question as JSON, with its token, and believed', async () => {
  let seen: { request: IncomingMessage; body: unknown } | undefined;
  const verdicts = [
    { verdict: 'refuse', reason: 'No foxes.' },
    { verdict: 'rewrite', prompt: 'a dog' },
  ];
  const given = await judged(
    async (request, response) => {
      seen = { request, body: JSON.parse(await text(request)) };
      response.end(JSON.stringify({ verdicts }));
    },
    10,
    'token-of-the-policy',
  );
  expect(given).toEqual(verdicts);
  expect(seen?.body).toEqual(QUESTION);
  const { method, headers } = seen?.request ?? {};
  expect([method, headers?.['content-type'], headers?.authorization]).toEqual([
    'POST',
    'application/json',
    'Bearer token-of-the-policy',
  ]);
});

test('gives its reason in one line', async () => {
  const reason = 'No\n\u001b[31mfoxes\u2028here\u0000';
  const [first] = await says({ verdicts: [{ verdict: 'refuse', reason }, { verdict: 'allow' }] });
  expect(first).toEqual({ verdict: 'refuse', reason: 'No [31mfoxes here' });
});

test.each([
  ['nothing', null],
  ['fewer verdicts than prompts', { verdicts: [{ verdict: 'allow' }] }],
  ['more verdicts than prompts', { verdicts: [...ALLOWED.verdicts, { verdict: 'allow' }] }],
  ['another verdict', { verdicts: [{ verdict: 'maybe' }, { verdict: 'allow' }] }],
  ['a refusal without a reason', { verdicts: [{ verdict: 'refuse' }, { verdict: 'allow' }] }],
  ['a refusal with a blank reason', { verdicts: [{ verdict: 'refuse', reason: ' \n' }, { verdict: 'allow' }] }],
  ['a reason like a book', { verdicts: [{ verdict: 'refuse', reason: 'a'.repeat(301) }, { verdict: 'allow' }] }],
  ['an empty prompt instead', { verdicts: [{ verdict: 'rewrite', prompt: ' ' }, { verdict: 'allow' }] }],
  ['true', true],
])('answers nothing when it says %s', async (_what, answer) => {
  await expect(says(answer)).rejects.toThrow();
});

test('answers nothing where it is late, fails, is elsewhere, or sends too much', async () => {
  await expect(judged(() => undefined, 0.1)).rejects.toThrow(/timeout/i);
  await expect(judged((_, response) => void response.write('{'), 0.1)).rejects.toThrow(/timeout/i);
  await expect(judged((_, response) => response.writeHead(500).end(JSON.stringify(ALLOWED)))).rejects.toThrow(
    'status 500',
  );
  await expect(judged((_, response) => response.writeHead(302, { location: '/' }).end())).rejects.toThrow();
  await expect(judged((_, response) => response.end(' '.repeat(1_100_000)))).rejects.toThrow('too much');
  await expect(judged((_, response) => response.end('<html>'))).rejects.toThrow(SyntaxError);
  await expect(policyAt('http://127.0.0.1:9/', 1).judge(QUESTION)).rejects.toThrow();
});
