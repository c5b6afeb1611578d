/** Answers have a bound in bytes, whatever they are asked for by. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createSession, startTestServer, type TestServer } from '../../support/test-server.js';
import { TRANSPORTS } from '../../support/transports.js';

const LIMIT = 8000;
const PROMPT = 'a "fox" '.repeat(200).trim();
const REFUSED = {
  message: expect.stringContaining("The operation's answer exceeds the limit of 8000 bytes; ask for") as string,
  extensions: { code: 'OPERATION_LIMIT', limit: LIMIT },
};
let server: TestServer;
let id: string;
beforeAll(async () => {
  server = await startTestServer({ settings: { maxAnswerBytes: LIMIT }, chunkBytes: 3 * LIMIT });
  ({ id } = await createSession(server, { maxSeconds: 600, prompt: PROMPT }));
});
afterAll(() => server.close());

interface Answer {
  data?: unknown;
  errors?: { message: string }[];
}

async function ask(query: string): Promise<Answer> {
  const response = await fetch(`${server.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query }),
  });
  return (await response.json()) as Answer;
}

const aliased = (count: number, field: string) =>
  Array.from({ length: count }, (_, at) => `a${at}: ${field}`).join(' ');

test('a query whose answer is too large is refused, and a shorter page is answered', async () => {
  const prompts = (count: number) =>
    ask(`{ ${aliased(count, `session(id: "${id}") { ... on Session { promptReceipts { nodes { prompt } } } }`)} }`);
  // With what is escaped in them, five of them are too many.
  expect(await prompts(5)).toEqual({ errors: [expect.objectContaining(REFUSED)] });
  expect((await prompts(3)).errors).toBeUndefined();
});

test('of a change whose answer is too large is said that it has been done', async () => {
  const change = `switchPrompt(sessionId: "${id}", prompt: ${JSON.stringify(PROMPT)}) { ... on SwitchReceipt { prompt } }`;
  const { errors } = await ask(`mutation { ${aliased(6, change)} }`);
  expect(errors).toMatchObject([{ ...REFUSED, message: expect.stringContaining('do not repeat it') as string }]);
  const { data } = await ask(
    `{ session(id: "${id}") { ... on Session { promptReceipts(first: 100) { edges { cursor } } } } }`,
  );
  expect(data).toMatchObject({ session: { promptReceipts: { edges: { length: 7 } } } });
});

describe.each(TRANSPORTS)('an event over $name', (transport) => {
  test('may be as large as its media', async () => {
    for await (const event of transport.open(server.url, { id, media: 'INLINE' })) {
      if (event.__typename !== 'FrameChunk') continue;
      expect(String(event['data']).length).toBeGreaterThan(LIMIT);
      break;
    }
  });
});

test('an event may not have its media twice', async () => {
  const chunks = '... on FrameChunk { a: data b: data }';
  const query = `subscription { sessionStream(sessionId: "${id}", media: INLINE) { ${chunks} } }`;
  const stream = await fetch(`${server.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
    body: JSON.stringify({ query }),
  });
  let text = '';
  for await (const bytes of stream.body as unknown as AsyncIterable<Uint8Array>) {
    text += Buffer.from(bytes).toString();
    if (text.includes('"errors"') || text.length > 10 * LIMIT) break;
  }
  expect(text).toContain('OPERATION_LIMIT');
});
