/** A process of its own that subscribes N times to one session and reports when each chunk arrived. */
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

export interface SubscriberTask {
  url: string;
  sessionId: string;
  media: 'INLINE' | 'URL';
  subscribers: number;
}

export interface Arrival {
  index: number;
  /** Milliseconds since the epoch, with a fraction. */
  at: number;
}

interface StreamEvent {
  sessionStream: { __typename: string; index?: number; data?: string; url?: string; message?: string };
}

const query = `subscription ($id: ID!, $media: MediaDelivery!) { sessionStream(sessionId: $id, media: $media) {
  __typename ... on FrameChunk { index data url } ... on Error { message } } }`;

async function subscribe({ url, sessionId, media }: SubscriberTask): Promise<Arrival[]> {
  const client = createClient({
    url: `${url.replace(/^http/, 'ws')}/graphql`,
    webSocketImpl: WebSocket,
    retryAttempts: 0,
  });
  const arrivals: Arrival[] = [];
  for await (const { data, errors } of client.iterate<StreamEvent>({ query, variables: { id: sessionId, media } })) {
    if (!data || errors) throw new Error(JSON.stringify(errors));
    const event = data.sessionStream;
    if (event.message) throw new Error(event.message);
    if (event.__typename !== 'FrameChunk' || event.index === undefined) continue;
    if (media === 'URL') await (await fetch(new URL(event.url ?? '', url))).arrayBuffer();
    else Buffer.from(event.data ?? '', 'base64');
    arrivals.push({ index: event.index, at: performance.timeOrigin + performance.now() });
  }
  await client.dispose();
  return arrivals;
}

process.once('message', (task: SubscriberTask) => {
  void Promise.all(Array.from({ length: task.subscribers }, () => subscribe(task))).then((all) => {
    process.send?.(all.flat(), () => process.disconnect());
  });
});
