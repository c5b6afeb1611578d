// node examples/urql.mjs: a session with urql, for programs that use it already.
// It does not resume a stream by itself: keep the last cursor, and subscribe again with it. @longlive/client does.
import { Client, fetchExchange, gql, subscriptionExchange } from '@urql/core';
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

const { LONGLIVE_URL: url = 'http://localhost:4000', LONGLIVE_TOKEN: token = '' } = process.env;
const authorization = `Bearer ${token}`;

const socket = createClient({
  url: `${url.replace('http', 'ws')}/graphql`,
  webSocketImpl: WebSocket,
  connectionParams: { authorization },
  retryAttempts: 0, // Repeating the operation as it was would replay the session.
});
const forwardSubscription = ({ query = '', variables }) => ({
  subscribe: (sink) => ({ unsubscribe: socket.subscribe({ query, variables }, sink) }),
});
const client = new Client({
  url: `${url}/graphql`,
  fetchOptions: { headers: { authorization } },
  preferGetMethod: false,
  exchanges: [fetchExchange, subscriptionExchange({ forwardSubscription })],
});

const CREATE = gql`
  mutation ($input: CreateSessionInput!) {
    createSession(input: $input) {
      ... on Session {
        id
      }
      ... on Error {
        code
        message
      }
    }
  }
`;
const FOLLOW = gql`
  subscription ($id: ID!, $after: Cursor) {
    sessionStream(sessionId: $id, after: $after) {
      ... on SessionEvent {
        cursor
      }
      ... on FrameChunk {
        index
        url
      }
      ... on SessionEnded {
        state
      }
    }
  }
`;

const input = { prompt: 'a red fox runs on the grass by day', maxSeconds: 3 };
const { data, error } = await client.mutation(CREATE, { input });
if (error || data.createSession.message) throw error ?? new Error(data.createSession.message);

await new Promise((resolve, reject) => {
  const { unsubscribe } = client.subscription(FOLLOW, { id: data.createSession.id }).subscribe((result) => {
    if (result.error) return reject(result.error);
    const event = result.data.sessionStream;
    console.log(JSON.stringify(event));
    if (event.state === undefined) return;
    unsubscribe();
    resolve();
  });
});
await socket.dispose();
