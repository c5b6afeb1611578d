import { promisify } from 'node:util';
import { gzip } from 'node:zlib';

const EXAMPLE = `# A session from a prompt. Press play, choose an operation, copy the id.
mutation Create {
  createSession(input: { prompt: "a red fox runs through tall grass at sunset" }) {
    __typename
    ... on Session { id state playlistUrl }
    ... on Error { code message }
  }
}

# Its stream: variables { "id": "…" }
subscription Watch($id: ID!) {
  sessionStream(sessionId: $id, media: URL) {
    __typename
    ... on FrameChunk { cursor index startSeconds durationSeconds url }
    ... on PromptApplied { cursor prompt block seconds recacheMilliseconds }
    ... on StateChanged { cursor state }
    ... on SessionEnded { cursor state reason }
    ... on Error { code message }
  }
}

# A new prompt while it plays.
mutation Switch($id: ID!) {
  switchPrompt(sessionId: $id, prompt: "the fox jumps into a blue lake") {
    __typename
    ... on SwitchReceipt { id expectedBlock }
    ... on Error { code message }
  }
}
`;

let page: Promise<Buffer> | undefined;

/** The GraphiQL page, self-contained and gzipped. Made on first use: it is several megabytes that most runs never need. */
export function graphiqlPage(): Promise<Buffer> {
  page ??= render();
  return page;
}

async function render(): Promise<Buffer> {
  const { renderGraphiQL } = await import('@graphql-yoga/render-graphiql');
  const html = renderGraphiQL({
    title: 'LongLive · GraphiQL',
    defaultQuery: EXAMPLE,
    subscriptionsProtocol: 'SSE',
  });
  return promisify(gzip)(html);
}
