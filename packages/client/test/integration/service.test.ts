import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import WebSocket from 'ws';
import { startPaintingServer } from '../../../../test/support/painting-server.js';
import { ServiceProcess } from '../../../../test/support/service-process.js';
import { createClient, type LiveClient, type Session, type SessionEvent, UnauthorizedError } from '../../src/index.js';
import { planAhead } from '../support/planning.js';
import { WildProxy } from '../support/wild-proxy.js';

let store: string;
let service: ServiceProcess;
let proxy: WildProxy;

const start = (settings: Record<string, string | number> = {}) =>
  ServiceProcess.start({ store: `file://${store}`, settings: { IDLE_SECONDS: 0, LEASE_SECONDS: 3, ...settings } });

beforeAll(async () => {
  store = mkdtempSync(join(tmpdir(), 'longlive-client-'));
  service = await start();
});
afterAll(async () => {
  await service?.stop();
  rmSync(store, { recursive: true, force: true });
});
beforeEach(async () => {
  proxy = await WildProxy.start(service.url);
});
afterEach(() => proxy.stop());

const PROMPT = 'a red fox';

const indexes = (events: readonly SessionEvent[]): number[] =>
  events.flatMap((event) => (event.type === 'chunk' ? [event.index] : []));

const counted = (length: number): number[] => Array.from({ length }, (_, index) => index);

async function toEnd(
  session: Session,
  each: (event: SessionEvent) => unknown = () => undefined,
): Promise<SessionEvent[]> {
  const all: SessionEvent[] = [];
  for await (const event of session.events()) {
    all.push(event);
    await each(event);
  }
  return all;
}

for (const [transport, webSocket] of [
  ['a WebSocket', WebSocket],
  ['SSE', undefined],
] as const) {
  describe(`over ${transport}`, () => {
    let live: LiveClient;
    beforeEach(() => {
      live = createClient({ url: proxy.url, webSocket });
    });
    afterEach(() => live.close());

    test('renders a film, with prompts that take effect, and downloads it', async () => {
      const seconds: number[] = [];
      const timeline = [{ prompt: PROMPT }, { prompt: 'a blue robot', atSeconds: 1.5 }];
      const film = await live.render({
        timeline,
        maxSeconds: 3,
        seed: '7',
        onProgress: (at) => seconds.push(at.seconds),
      });
      expect(film.facts).toMatchObject({ ended: true, state: 'COMPLETED', seed: '7' });
      expect(seconds.at(-1)).toBeGreaterThanOrEqual(3);
      const bytes = await film.download();
      expect(String.fromCharCode(...bytes.subarray(4, 8))).toBe('ftyp');
      const part = await film.download({ fromSeconds: 0, toSeconds: 1 });
      expect(part.length).toBeLessThan(bytes.length);
      expect(proxy.webSockets > 0).toBe(webSocket !== undefined);
    });

    test('every chunk comes once though connections are cut in the middle of frames', async () => {
      const session = await live.create({ prompt: PROMPT, pace: 'FASTEST', maxSeconds: 8 });
      proxy.cutAfter = 2000;
      const events = await toEnd(session);
      proxy.cutAfter = Infinity;
      expect(proxy.cuts).toBeGreaterThan(0);
      expect(indexes(events)).toEqual(counted((await session.refresh()).chunks));
    });

    test('two sessions at once each have their own prompts; a fork goes its own way', async () => {
      const [one, two] = await Promise.all([
        live.create({ prompt: PROMPT, pace: 'FASTEST' }),
        live.create({ prompt: 'a blue robot', pace: 'FASTEST' }),
      ]);
      const [first, second] = await Promise.all([one.switch('by day'), two.switch('at night')]);
      await expect(Promise.all([first.applied, second.applied])).resolves.toMatchObject([
        { status: 'applied' },
        { status: 'applied' },
      ]);
      await one.pause();
      expect(one.state).toMatchObject({ status: 'paused', reason: 'REQUESTED' });
      const branch = await one.fork({ atSeconds: 0.1, prompt: 'in the snow', pace: 'FASTEST' });
      expect(branch.facts.parent).toMatchObject({ sessionId: one.id });
      const last = await two.switch('too late', { when: 'AT_BLOCK', atBlock: 10_000 });
      await Promise.all([one, two, branch].map((session) => session.stop()));
      await expect(last.applied).resolves.toEqual({ status: 'discarded' });
      await expect(two.switch('over')).rejects.toMatchObject({ code: 'ENDED' });
    });

    test('plans prompts for a time to come, moves and cancels them', async () => {
      const session = await live.create({ prompt: PROMPT, pace: 'FASTEST' });
      const events = session.events({ media: 'NONE' });
      for await (const event of events) if (event.type === 'chunk') break;
      await session.pause();
      await using other = createClient({ url: proxy.url });
      await planAhead(session, await other.session(session.id), () => session.resume());
      await session.stop();
    });
  });
}

test('does what its first example says', async () => {
  const leaving = new AbortController();
  const live = createClient({ url: proxy.url, token: async () => 'any', signal: leaving.signal });
  const session = await live.create({ prompt: PROMPT, seed: 7, pace: 'FASTEST', maxSeconds: 60 });
  const receipt = await session.switch('now at night');
  const outcome = await receipt.applied;
  expect(outcome.status).toBe('applied');
  let after: string | undefined;
  const types = new Set<string>();
  for await (const event of session.events()) {
    types.add(event.type);
    after = event.cursor;
    if (event.type === 'chunk' && event.index === 4) break;
  }
  expect([...types].sort()).toEqual(['applied', 'chunk', 'requested', 'state']);
  for await (const event of session.events(after === undefined ? {} : { after })) {
    expect(event.cursor).not.toBe(after);
    if (event.type === 'chunk') {
      expect(event.index).toBe(5);
      break;
    }
  }
  const branch = await session.fork({ atSeconds: 1, prompt: 'in the snow' });
  expect(branch.facts).toMatchObject({ seed: '7', parent: { sessionId: session.id } });
  await session.pause();
  await session.resume();
  await session.stop();
  await branch.stop();
  expect(session.state.status).toBe('ended');
  expect(String.fromCharCode(...(await session.download()).subarray(4, 8))).toBe('ftyp');
  const progress: number[] = [];
  const timeline = [{ prompt: PROMPT }, { prompt: 'at night', atSeconds: 1 }];
  const film = await live.render({ timeline, maxSeconds: 2, onProgress: ({ seconds }) => progress.push(seconds) });
  expect(film.facts.state).toBe('COMPLETED');
  expect(progress.length).toBeGreaterThan(1);
  leaving.abort();
  await expect(live.service()).rejects.toMatchObject({ name: 'AbortError' });
}, 60_000);

test('where WebSockets are refused, events come over SSE', async () => {
  proxy.refuseWebSockets = true;
  await using live = createClient({ url: proxy.url, webSocket: WebSocket });
  const session = await live.create({ prompt: PROMPT, pace: 'FASTEST', maxSeconds: 2 });
  const events = await toEnd(session);
  expect(indexes(events)).toEqual(counted((await session.refresh()).chunks));
  expect(proxy.webSockets).toBe(0);
});

test('through a proxy that drops, delays and cuts WebSocket frames every chunk comes once', async () => {
  proxy.dropOneIn = 12;
  proxy.delayMilliseconds = 40;
  proxy.cutAfter = 4000;
  await using live = createClient({ url: proxy.url, webSocket: WebSocket });
  const session = await live.create({ prompt: PROMPT, pace: 'FASTEST', maxSeconds: 15 });
  const events = await toEnd(session);
  expect(Math.min(proxy.dropped, proxy.cuts)).toBeGreaterThan(0);
  expect(indexes(events)).toEqual(counted((await session.refresh()).chunks));
}, 120_000);

test('30 s without network are noticed, and nothing is missing afterwards', async () => {
  await using live = createClient({ url: proxy.url, webSocket: WebSocket });
  const session = await live.create({ prompt: PROMPT, maxSeconds: 40 });
  const states = new Set<string>();
  session.watch(() => states.add(session.state.status));
  let dark: Promise<void> | undefined;
  const events = await toEnd(session, (event) => {
    if (event.type === 'chunk' && event.index === 2) dark ??= nothingFor(30_000);
  });
  await dark;
  expect(states).toContain('reconnecting');
  expect(indexes(events)).toEqual(counted((await session.refresh()).chunks));
}, 120_000);

test('where generation is half as fast as playback every chunk comes once, later', async () => {
  const slow = await startPaintingServer({}, {}, undefined, undefined, 'all', 250);
  try {
    await using live = createClient({ url: slow.url, webSocket: WebSocket });
    const session = await live.create({ prompt: PROMPT, maxSeconds: 4 });
    const states = new Set<string>();
    session.watch(() => states.add(session.state.status));
    const events = await toEnd(session);
    const chunks = events.filter((event) => event.type === 'chunk');
    const sum = (numbers: number[]) => numbers.reduce((one, other) => one + other, 0);
    expect(sum(chunks.map((chunk) => chunk.generateMilliseconds))).toBeGreaterThan(
      1000 * sum(chunks.map((chunk) => chunk.durationSeconds)),
    );
    expect(indexes(events)).toEqual(counted((await session.refresh()).chunks));
    expect(states).not.toContain('reconnecting');
  } finally {
    await slow.close();
  }
}, 60_000);

async function nothingFor(milliseconds: number): Promise<void> {
  proxy.dark = true;
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
  proxy.dark = false;
}

test('two clients of one session see the same, prompts of the other too', async () => {
  await using one = createClient({ url: proxy.url, webSocket: WebSocket });
  await using two = createClient({ url: proxy.url });
  const mine = await one.create({ prompt: PROMPT, pace: 'FASTEST' });
  const theirs = await two.session(mine.id);
  const [first, second] = [toEnd(mine), toEnd(theirs)];
  const receipt = await theirs.switch('a blue robot');
  await receipt.applied;
  await mine.stop();
  const [seen, also] = await Promise.all([first, second]);
  expect(also.map(({ cursor }) => cursor)).toEqual(seen.map(({ cursor }) => cursor));
  expect(seen).toContainEqual(expect.objectContaining({ type: 'applied', receiptId: receipt.id }));
  await expect.poll(() => mine.state.status).toBe('ended');
});

test('a service that is killed and started again goes on for its watchers', async () => {
  await using live = createClient({ url: proxy.url, webSocket: WebSocket });
  const session = await live.create({ prompt: PROMPT, maxSeconds: 6 });
  const states: string[] = [];
  session.watch(() => states.at(-1) !== session.state.status && states.push(session.state.status));
  let killed: Promise<void> | undefined;
  const events = await toEnd(session, async (event) => {
    if (event.type === 'chunk' && event.index === 1) killed ??= again();
    if (event.type === 'state' && event.state === 'PAUSED') await session.resume();
  });
  await killed;
  expect(indexes(events)).toEqual(counted((await session.refresh()).chunks));
  expect(states).toContain('reconnecting');
  expect(session.state).toMatchObject({ status: 'ended', as: 'COMPLETED' });
}, 120_000);

async function again(settings: Record<string, string | number> = {}): Promise<void> {
  await service.stop();
  proxy.cut();
  service = await start(settings);
  proxy.leadTo(service.url);
}

test('a token that is refused in the middle is asked for anew, and not used twice in vain', async () => {
  await again({ TOKEN: 'old' });
  let token = 'old';
  let asked = 0;
  await using live = createClient({ url: proxy.url, webSocket: WebSocket, token: async () => (asked++, token) });
  const session = await live.create({ prompt: PROMPT, maxSeconds: 3 });
  const events = session.events();
  await events.next();
  token = 'new';
  const before = asked;
  await again({ TOKEN: 'new' });
  const rest: SessionEvent[] = [];
  for await (const event of events) {
    rest.push(event);
    if (event.type === 'state' && event.state === 'PAUSED') await session.resume();
  }
  expect(rest.at(-1)?.type).toBe('ended');
  expect(asked).toBe(before + 1);
  await using stranger = createClient({ url: proxy.url, token: 'wrong' });
  await expect(stranger.create({ prompt: PROMPT })).rejects.toThrow(UnauthorizedError);
}, 120_000);
