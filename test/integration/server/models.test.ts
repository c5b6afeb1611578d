import { afterAll, beforeAll, expect, test } from 'vitest';
import { FAKE_MODEL } from '../../support/fake-engine.js';
import { startTestServer, type TestServer } from '../../support/test-server.js';

const LORA = { name: 'ink', digest: 'i1', bytes: 5_000_000_000, matrices: 300 };
const OTHER = {
  ...FAKE_MODEL,
  name: 'other',
  state: 'AVAILABLE' as const,
  bytes: 14_000_000_000,
  loras: [],
  storedPrecision: null,
};

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({ models: [{ ...FAKE_MODEL, loras: [LORA] }, OTHER] });
});
afterAll(() => server.close());

test('models say what is needed to choose one', async () => {
  const { models } = await server.query<{ models: object[] }>(
    '{ models { name digest storedPrecision precision state bytes loras { name digest bytes matrices } } }',
  );
  expect(models).toEqual([
    {
      name: 'fake',
      digest: 'd1',
      storedPrecision: 'fp32',
      precision: 'fp32',
      state: 'LOADED',
      bytes: 1_000,
      loras: [LORA],
    },
    {
      ...{ name: 'other', digest: 'd1', storedPrecision: null, precision: 'fp32' },
      state: 'AVAILABLE',
      bytes: 14_000_000_000,
      loras: [],
    },
  ]);
});

const CREATE = `mutation ($input: CreateSessionInput!) {
  createSession(input: $input) {
    __typename
    ... on Session { modelName loras { name weight digest } }
    ... on InvalidInputError { field message }
  }
}`;

function create(input: object): Promise<{ createSession: object }> {
  return server.query(CREATE, { input: { prompt: 'a fox', maxSeconds: 1, pace: 'FASTEST', ...input } });
}

test('a session names its model and adapters', async () => {
  const { createSession } = await create({ model: 'fake', loras: [{ name: 'ink' }] });
  const loras = [{ name: 'ink', weight: 1, digest: 'i1' }];
  expect(createSession).toEqual({ __typename: 'Session', modelName: 'fake', loras });
});

test('an adapter that the model does not take is refused by its place', async () => {
  const { createSession } = await create({ model: 'other', loras: [{ name: 'ink', weight: 0.5 }] });
  expect(createSession).toMatchObject({ __typename: 'InvalidInputError', field: 'loras[0].name' });
});

test('a model that is added while the server runs is listed, and sessions may name it', async () => {
  server.engine.arriving.push({ ...FAKE_MODEL, name: 'named-first' });
  expect((await create({ model: 'named-first' })).createSession).toMatchObject({ modelName: 'named-first' });
  server.engine.arriving.push({ ...FAKE_MODEL, name: 'listed-first' });
  const { models } = await server.query<{ models: { name: string }[] }>('{ models { name } }');
  expect(models.map(({ name }) => name)).toEqual(['fake', 'other', 'named-first', 'listed-first']);
});
