// node examples/apollo.mjs: a session with Apollo Client, for programs that use it already.
// It does not resume a stream by itself: keep the last cursor, and subscribe again with it. @longlive/client does.
import { ApolloClient, gql, HttpLink, InMemoryCache, split } from '@apollo/client';
import { GraphQLWsLink } from '@apollo/client/link/subscriptions';
import { getMainDefinition } from '@apollo/client/utilities';
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

const { LONGLIVE_URL: url = 'http://localhost:4000', LONGLIVE_TOKEN: token = '' } = process.env;
const authorization = `Bearer ${token}`;

const http = new HttpLink({ uri: `${url}/graphql`, headers: { authorization } });
const socket = createClient({
  url: `${url.replace('http', 'ws')}/graphql`,
  webSocketImpl: WebSocket,
  connectionParams: { authorization },
  retryAttempts: 0, // Repeating the operation as it was would replay the session.
});
const isSubscription = ({ query }) => getMainDefinition(query).operation === 'subscription';
const client = new ApolloClient({
  link: split(isSubscription, new GraphQLWsLink(socket), http),
  cache: new InMemoryCache(),
});

const { data } = await client.mutate({
  mutation: gql`
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
  `,
  variables: { input: { prompt: 'a red fox runs on the grass by day', maxSeconds: 3 } },
});
if (data.createSession.message) throw new Error(data.createSession.message);

const stream = client.subscribe({
  query: gql`
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
  `,
  variables: { id: data.createSession.id },
  fetchPolicy: 'no-cache',
});
await stream.forEach(({ data: { sessionStream } }) => console.log(JSON.stringify(sessionStream)));
await socket.dispose();
