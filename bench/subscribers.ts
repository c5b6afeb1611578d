/** A process of its own that subscribes N times to one session and reports when each chunk arrived. */
import { type Client, createClient } from 'graphql-ws';
import WebSocket from 'ws';

export interface SubscriberTask {
  url: string;
  sessionId: string;
  media: 'INLINE' | 'URL';
  subscribers: number;
  /** Where they come from. */
  localAddress?: string;
}

export interface Arrival {
  index: number;
  /** Milliseconds since the epoch, with a fraction. */
  at: number;
  /** When it was published, in milliseconds since the epoch. */
  published: number;
}

/** Sent when all of them watch, before what they have seen. */
export const CONNECTED = 'connected';

interface StreamEvent {
  sessionStream: { __typename: string; index?: number; at?: string; data?: string; url?: string; message?: string };
}

const query = `subscription ($id: ID!, $media: MediaDelivery!) { sessionStream(sessionId: $id, media: $media) {
  __typename ... on FrameChunk { index at data url } ... on Error { message } } }`;

/** Resolves when it has logged in: a server takes only so many of an address that have not. */
async function connected({ url, localAddress }: SubscriberTask): Promise<Client> {
  class From extends WebSocket {
    constructor(address: string, protocols: string[]) {
      super(address, protocols, { localAddress });
    }
  }
  return new Promise((resolve, reject) => {
    const client = createClient({
      url: `${url.replace(/^http/, 'ws')}/graphql`,
      webSocketImpl: localAddress === undefined ? WebSocket : From,
      retryAttempts: 0,
      lazy: false,
      onNonLazyError: reject,
      on: { connected: () => resolve(client) },
    });
  });
}

async function subscribe(client: Client, { url, sessionId, media }: SubscriberTask): Promise<Arrival[]> {
  const arrivals: Arrival[] = [];
  for await (const { data, errors } of client.iterate<StreamEvent>({ query, variables: { id: sessionId, media } })) {
    if (!data || errors) throw new Error(JSON.stringify(errors));
    const event = data.sessionStream;
    if (event.message) throw new Error(event.message);
    if (event.__typename !== 'FrameChunk' || event.index === undefined) continue;
    if (media === 'URL') await (await fetch(new URL(event.url ?? '', url))).arrayBuffer();
    else Buffer.from(event.data ?? '', 'base64');
    const published = Date.parse(event.at ?? '');
    arrivals.push({ index: event.index, at: performance.timeOrigin + performance.now(), published });
  }
  await client.dispose();
  return arrivals;
}

async function watchAll(task: SubscriberTask): Promise<Arrival[]> {
  const watching: Promise<Arrival[]>[] = [];
  for (let i = 0; i < task.subscribers; i++) watching.push(subscribe(await connected(task), task));
  process.send?.(CONNECTED);
  return (await Promise.all(watching)).flat();
}

process.once('message', (task: SubscriberTask) => {
  void watchAll(task).then((all) => process.send?.(all, () => process.disconnect()));
});
