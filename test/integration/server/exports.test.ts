import { afterAll, beforeAll, expect, it } from 'vitest';
import { createSession, startTestServer, type TestServer, until } from '../../support/test-server.js';

/** Exports over the real API: begun, followed, downloaded by a signed link, deleted with their session. */

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server.close());

interface Export {
  id: string;
  state: string;
  progress: number;
  message?: string;
  code?: string;
  files: { kind: string; url: string; bytes: number }[];
}

const FIELDS =
  '... on Export { id state progress fromChunk toChunk files { kind url bytes } } ... on Error { code message }';

it('a part of a session is made, downloaded, and goes with the session', async () => {
  const { id } = await createSession(server, { maxSeconds: 5 });
  const session = async () =>
    (
      await server.query<{ session: { ended: boolean } }>(
        `query ($id: ID!) { session(id: $id) { ... on Session { ended } } }`,
        { id },
      )
    ).session;
  await until(async () => (await session()).ended, 'the session has ended');
  const begin = `mutation ($id: ID!) { exportSession(sessionId: $id, fromSeconds: 1, toSeconds: 3) { ${FIELDS} } }`;
  const { exportSession: begun } = await server.query<{ exportSession: Export }>(begin, { id });
  expect(begun.message).toBeUndefined();
  const find = async () =>
    (await server.query<{ export: Export }>(`query ($id: ID!) { export(id: $id) { ${FIELDS} } }`, { id: begun.id }))
      .export;
  await until(async () => (await find()).state === 'DONE', 'the export is done');
  const made = await find();
  expect(made).toMatchObject({ progress: 1, fromChunk: 1, toChunk: 5 });
  expect(made.files.map(({ kind }) => kind)).toEqual(['MP4', 'TIMELINE']);
  for (const { url, bytes } of made.files) {
    const answer = await fetch(new URL(url, server.url));
    expect([answer.status, (await answer.arrayBuffer()).byteLength]).toEqual([200, bytes]);
  }
  const [file] = made.files;
  expect((await fetch(new URL(file!.url.replace(/s=.{3}/, 's=xxx'), server.url))).status).toBe(403);
  const { node } = await server.query<{ node: { id: string } }>('query ($id: ID!) { node(id: $id) { id } }', {
    id: begun.id,
  });
  expect(node.id).toBe(begun.id);

  const remove =
    'mutation ($id: ID!) { deleteSession(sessionId: $id) { ... on DeletedSession { sessionId } ... on Error { code } } }';
  for (let i = 0; i < 2; i++) expect(await server.query(remove, { id })).toEqual({ deleteSession: { sessionId: id } });
  expect(await find()).toMatchObject({ code: 'NOT_FOUND' });
  await until(async () => (await fetch(new URL(file!.url, server.url))).status === 404, 'its files are gone');
  expect(await server.query(remove, { id: `Session:${'0'.repeat(26)}` })).toEqual({
    deleteSession: { code: 'NOT_FOUND' },
  });
  expect((await server.query<{ exportSession: Export }>(begin, { id })).exportSession.code).toBe('NOT_FOUND');
});
