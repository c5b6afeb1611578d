import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { pictureOf } from '../../support/fake-media.js';
import { createSession, startTestServer, type TestServer, until } from '../../support/test-server.js';
import { collect, type Transport, TRANSPORTS, type WireEvent } from '../../support/transports.js';

const MAX_SECONDS = 30;
const CHUNKS = 41; // 9 + 40 x 12 frames at 16 fps: the first time 30 seconds are there.

let server: TestServer;

afterEach(() => server.close());

const chunksOf = (events: WireEvent[]) => events.filter(({ __typename }) => __typename === 'FrameChunk');
const cursors = (events: WireEvent[]) => events.map(({ cursor }) => cursor);
const subscribers = () => server.metric('longlive_subscriptions');

describe.each(TRANSPORTS)('the stream over $name', (transport: Transport) => {
  beforeEach(async () => {
    server = await startTestServer();
  });

  const open = (variables: Parameters<Transport['open']>[1]) => transport.open(server.url, variables);

  test('is the whole log in order, ends with SessionEnded and completes', async () => {
    const { id } = await createSession(server, { maxSeconds: MAX_SECONDS });
    const events = await collect(open({ id, media: 'INLINE' }));
    const chunks = chunksOf(events);
    expect(chunks.map(({ index }) => index)).toEqual(Array.from({ length: CHUNKS }, (_, index) => index));
    expect(events.at(-1)).toMatchObject({
      __typename: 'SessionEnded',
      state: 'COMPLETED',
      reason: 'DURATION_REACHED',
      chunks: CHUNKS,
    });
    expect(new Set(cursors(events)).size).toBe(events.length);
    const picture = pictureOf(Buffer.from(chunks[3]?.['data'] as string, 'base64'));
    expect(picture).toMatchObject({ block: 3, prompt: 'a red fox' });
  });

  test('brings the init segment with the first chunk of every subscription, in the form asked for', async () => {
    const { id } = await createSession(server, { maxSeconds: MAX_SECONDS });
    const inline = chunksOf(await collect(open({ id, media: 'INLINE' })));
    expect(inline[0]?.['init']).toMatchObject({
      codec: 'avc1.42c01e',
      data: Buffer.from('init').toString('base64'),
      url: null,
    });
    expect(inline[1]?.['init']).toBeNull();
    const [first] = chunksOf(await collect(open({ id, after: inline[4]?.cursor, media: 'URL' })));
    expect(first).toMatchObject({ index: 5, data: null });
    const { url } = first?.['init'] as { url: string };
    expect(await (await fetch(new URL(url, server.url))).text()).toBe('init');
    const none = chunksOf(await collect(open({ id, media: 'NONE' })));
    expect(none[0]).toMatchObject({ url: null, data: null, init: { url: null, data: null } });
  });

  test('announces only chunks that can be fetched', async () => {
    const { id } = await createSession(server, { maxSeconds: 6 });
    const stream = open({ id, media: 'URL' });
    for await (const event of stream) {
      if (event.__typename !== 'FrameChunk') continue;
      const response = await fetch(new URL(event['url'] as string, server.url));
      expect(response.status).toBe(200);
      expect(pictureOf(new Uint8Array(await response.arrayBuffer())).block).toBe(event['index']);
    }
  });

  test('resumes with the last cursor after any number of broken connections: exactly the rest', async () => {
    const { id } = await createSession(server, { maxSeconds: MAX_SECONDS });
    const pieces: WireEvent[] = [];
    while (pieces.at(-1)?.__typename !== 'SessionEnded') {
      const length = 1 + (pieces.length % 7);
      pieces.push(
        ...(await collect(
          open({ id, after: pieces.at(-1)?.cursor, media: 'NONE' }),
          (_event, all) => all.length >= length,
        )),
      );
    }
    const whole = await collect(open({ id, media: 'NONE' }));
    expect(cursors(pieces)).toEqual(cursors(whole));
    expect(chunksOf(pieces)).toHaveLength(CHUNKS);
    expect(await collect(open({ id, after: pieces.at(-1)?.cursor }))).toEqual([]);
  });

  test('joins at the live edge with a chunk that decoding can begin with', async () => {
    const { id } = await createSession(server, { maxSeconds: MAX_SECONDS });
    await collect(open({ id, media: 'NONE' }));
    const events = await collect(open({ id, from: 'LIVE', media: 'NONE' }));
    expect(chunksOf(events).map(({ index }) => index)).toEqual([CHUNKS - 1]);
  });

  test('says that it lives while nothing happens, with the cursor to resume from', async () => {
    const { id } = await createSession(server, { pace: 'REALTIME' });
    await server.query(`mutation ($id: ID!) { pauseSession(sessionId: $id) { __typename } }`, { id });
    let before: WireEvent | undefined;
    let beat: WireEvent | undefined;
    for await (const event of open({ id, media: 'NONE' })) {
      beat = event;
      if (event.__typename === 'Heartbeat' && event['state'] === 'PAUSED') break;
      before = event;
    }
    expect(beat).toMatchObject({ __typename: 'Heartbeat', cursor: before?.cursor });
  });

  test('carries receipts: requested, superseded, applied before the chunk of its block', async () => {
    const { id } = await createSession(server, { pace: 'REALTIME' });
    const stream = open({ id, media: 'INLINE' });
    const events = await collect(stream, (event) => event.__typename === 'FrameChunk');
    // While it rests, no block comes between the two.
    const session = (command: 'pauseSession' | 'resumeSession') =>
      server.query(`mutation ($id: ID!) { ${command}(sessionId: $id) { ... on Session { state } } }`, { id });
    await session('pauseSession');
    const receipts = [];
    for (const prompt of ['a blue bird', 'a green car']) {
      const { switchPrompt } = await server.query<{ switchPrompt: { id: string; accepted: boolean } }>(
        `mutation ($id: ID!, $prompt: String!) {
          switchPrompt(sessionId: $id, prompt: $prompt) { ... on SwitchReceipt { id accepted expectedBlock } ... on Error { message } }
        }`,
        { id, prompt },
      );
      receipts.push(switchPrompt);
    }
    const [loser, winner] = receipts;
    await session('resumeSession');
    const after = { id, after: events.at(-1)?.cursor, media: 'INLINE' as const };
    let applied = -1;
    const rest = await collect(open(after), (event) => {
      if (event['receiptId'] === winner?.id && event.__typename === 'PromptApplied') applied = event['block'] as number;
      return event.__typename === 'FrameChunk' && event['index'] === applied;
    });
    expect(rest).toContainEqual(
      expect.objectContaining({ __typename: 'PromptSuperseded', receiptId: loser?.id, supersededBy: winner?.id }),
    );
    const chunk = rest.at(-1);
    expect(pictureOf(Buffer.from(chunk?.['data'] as string, 'base64')).prompt).toBe('a green car');
  });

  test('answers an unknown session, a foreign cursor and a broken id with one typed error', async () => {
    const { id } = await createSession(server, { maxSeconds: 1 });
    const other = await createSession(server, { maxSeconds: 1 });
    const failure = async (variables: Parameters<typeof open>[0]) =>
      (await collect(open(variables))).map(({ __typename, code }) => ({ __typename, code }));
    expect(await failure({ id: 'Session:nobody' })).toEqual([{ __typename: 'NotFoundError', code: 'NOT_FOUND' }]);
    const invalid = [{ __typename: 'InvalidInputError', code: 'INVALID_INPUT' }];
    expect(await failure({ id: 'nonsense' })).toEqual(invalid);
    expect(await failure({ id, after: 'nonsense' })).toEqual(invalid);
    expect(await failure({ id, after: other.cursor })).toEqual(invalid);
  });

  test('forgets a subscriber that vanished, also while nothing happens', async () => {
    const { id } = await createSession(server, { pace: 'REALTIME' });
    await server.query(`mutation ($id: ID!) { pauseSession(sessionId: $id) { __typename } }`, { id });
    const streams = [1, 2, 3].map(() => open({ id, media: 'NONE' }));
    await Promise.all(streams.map((stream) => stream.next()));
    expect(await subscribers()).toBe(3);
    streams.forEach((stream) => stream.cut());
    await until(async () => (await subscribers()) === 0, 'no subscriber is left');
  });
});

describe.each(TRANSPORTS)('a subscriber that stops reading over $name', (transport: Transport) => {
  test('costs bounded memory, delays nobody, and gets everything when it reads again', async () => {
    server = await startTestServer({ chunkBytes: 300_000, policy: { ringEvents: 8, ringBytes: 2_000_000 } });
    const { id } = await createSession(server, { maxSeconds: 120 });
    const slow = transport.open(server.url, { id, media: 'INLINE' });
    const head = [(await slow.next()).value as WireEvent];
    slow.pause();
    const fast = await collect(transport.open(server.url, { id, media: 'INLINE' }));
    expect(chunksOf(fast)).toHaveLength(161);
    expect(fast.at(-1)?.__typename).toBe('SessionEnded');
    const handedOut = await server.metric('longlive_stream_events_total{type="FrameChunk"}');
    expect(handedOut - 161).toBeLessThan(60); // What fits into the buffers of the network, not the session.
    slow.resume();
    const all = [...head, ...(await collect(slow))];
    expect(cursors(all)).toEqual(cursors(fast));
  }, 60_000);
});

describe('limits and the end', () => {
  test('a session takes only so many subscribers', async () => {
    server = await startTestServer({ settings: { maxSubscribers: 2 } });
    const { id } = await createSession(server, { pace: 'REALTIME' });
    const [ws, sse] = TRANSPORTS as [Transport, Transport];
    const streams = [ws, sse].map((transport) => transport.open(server.url, { id }));
    await Promise.all(streams.map((stream) => stream.next()));
    const refused = await collect(ws.open(server.url, { id }));
    expect(refused).toMatchObject([{ __typename: 'AtCapacityError', code: 'AT_CAPACITY' }]);
    streams.forEach((stream) => stream.cut());
    await until(async () => (await subscribers()) === 0, 'both have left');
    expect((await collect(sse.open(server.url, { id }), () => true))[0]?.__typename).toBe('StateChanged');
  });

  test('closing the server pauses sessions and ends every stream; a later server goes on from the cursor', async () => {
    server = await startTestServer();
    const { id } = await createSession(server, { maxSeconds: 600, pace: 'REALTIME' });
    const seen = await Promise.all(
      TRANSPORTS.map(async (transport) => {
        const events: WireEvent[] = [];
        const reading = (async () => {
          for await (const event of transport.open(server.url, { id, media: 'NONE' })) events.push(event);
        })().catch(() => undefined);
        await until(() => chunksOf(events).length > 1, 'it plays');
        return { events, reading };
      }),
    );
    await server.close();
    await Promise.all(seen.map(({ reading }) => reading));
    for (const { events } of seen)
      expect(events.findLast(({ __typename }) => __typename === 'StateChanged')).toMatchObject({ state: 'PAUSED' });
    const { store } = server;
    server = await startTestServer({ store });
    await server.service.start();
    await server.query(`mutation ($id: ID!) { resumeSession(sessionId: $id) { __typename } }`, { id });
    const last = seen[0]?.events.filter(({ __typename }) => __typename !== 'Heartbeat').at(-1);
    const next = await collect(
      TRANSPORTS[0]!.open(server.url, { id, after: last?.cursor, media: 'NONE' }),
      (event) => event.__typename === 'FrameChunk',
    );
    expect(next.at(-1)?.['index']).toBe(chunksOf(seen[0]?.events ?? []).length);
  });
});

describe('over SSE, to what resumes by itself', () => {
  const DOCUMENT = `subscription ($id: ID!) {
    sessionStream(sessionId: $id, media: NONE) { __typename ... on SessionEvent { cursor } }
  }`;
  /** As `EventSource` does: GET, and the id of the last event that it was handed. */
  async function listen(id: string, lastEventId?: string, document = DOCUMENT) {
    const query = new URLSearchParams({ query: document, variables: JSON.stringify({ id }) });
    const response = await fetch(`${server.url}/graphql?${query.toString()}`, {
      headers: { accept: 'text/event-stream', ...(lastEventId !== undefined && { 'last-event-id': lastEventId }) },
    });
    const text = await response.text();
    return text
      .split('\n\n')
      .filter((block) => block.includes('event: next'))
      .map((block) => ({
        id: /^id: (.*)$/m.exec(block)?.[1],
        event: (JSON.parse(/^data: (.*)$/m.exec(block)?.[1] ?? '') as { data: { sessionStream: WireEvent } }).data
          .sessionStream,
      }));
  }

  beforeEach(async () => {
    server = await startTestServer();
  });

  test('every event has its cursor as id, and Last-Event-ID goes on behind it', async () => {
    const { id } = await createSession(server, { maxSeconds: 6 });
    const all = await listen(id);
    expect(all.at(-1)?.event.__typename).toBe('SessionEnded');
    expect(all.map((one) => one.id)).toEqual(all.map(({ event }) => event.cursor));
    const rest = await listen(id, all[3]?.id);
    expect(rest).toEqual(all.slice(4));
    expect(await listen(id, all.at(-1)?.id)).toEqual([]);
  });

  test('what was handed last goes before where the operation begins', async () => {
    const { id } = await createSession(server, { maxSeconds: 3 });
    const all = await listen(id);
    const live = DOCUMENT.replace('media: NONE', 'media: NONE, from: LIVE');
    expect(await listen(id, all[1]?.id, live)).toEqual(all.slice(2));
  });

  test('without the cursor there is no id, and another session’s is refused', async () => {
    const [one, two] = [await createSession(server, { maxSeconds: 3 }), await createSession(server, { maxSeconds: 3 })];
    const bare = await listen(one.id, undefined, DOCUMENT.replace('{ cursor }', '{ at }'));
    expect(bare.length).toBeGreaterThan(2);
    expect(bare.every(({ id }) => id === undefined)).toBe(true);
    const [error] = await listen(one.id, two.cursor);
    expect(error?.event).toMatchObject({ __typename: 'InvalidInputError' });
  });
});
