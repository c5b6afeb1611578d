import { describe, expect, test, vi } from 'vitest';
import type { InvalidInputError } from '../src/index.js';
import { AtCapacityError, type AnyServiceError, createClient, NotFoundError, ServiceError } from '../src/index.js';
import { serviceError } from '../src/results.js';
import { latest } from '../src/latest.js';
import { after } from '../src/react.js';
import { createMock } from '../src/testing.js';
import { planAhead } from './support/planning.js';

const soon = () => new Promise((resolve) => setTimeout(resolve, 5));

describe('errors', () => {
  test('are of the class that the schema names, with what it carries', () => {
    const full = serviceError({
      __typename: 'AtCapacityError',
      code: 'AT_CAPACITY',
      message: 'Full.',
      retryAfterSeconds: 3,
    } as never);
    expect(full).toBeInstanceOf(AtCapacityError);
    expect(full).toMatchObject({
      name: 'AtCapacityError',
      code: 'AT_CAPACITY',
      message: 'Full.',
      retryAfterSeconds: 3,
    });
    const bad = serviceError({
      __typename: 'InvalidInputError',
      code: 'INVALID_INPUT',
      message: 'Empty.',
      field: 'prompt',
    } as never);
    expect((bad as InvalidInputError).field).toBe('prompt');
  });

  test('of a class that a later service has are still its errors', () => {
    expect(serviceError({ __typename: 'NewError', code: 'NEW', message: 'New.' })).toBeInstanceOf(ServiceError);
  });

  test('are told apart by their code, and no code is left out', () => {
    const say = (error: AnyServiceError): string => {
      switch (error.code) {
        case 'AT_CAPACITY':
        case 'RATE_LIMIT':
          return `in ${error.retryAfterSeconds} s`;
        case 'INVALID_INPUT':
          return error.field ?? 'input';
        case 'NOT_FOUND':
        case 'FORBIDDEN':
        case 'CONFLICT':
        case 'ENDED':
          return error.name;
        case 'MODEL_UNAVAILABLE':
        case 'ENCODER_UNAVAILABLE':
        case 'STORAGE':
        case 'ENGINE':
        case 'MEDIA':
        case 'POLICY':
        case 'SHUTTING_DOWN':
        case 'OWNED_ELSEWHERE':
          return error.message;
        default:
          return error satisfies never;
      }
    };
    expect(say(new NotFoundError({ code: 'NOT_FOUND', message: 'Gone.' }))).toBe('NotFoundError');
  });
});

describe('a session', () => {
  test('says what became of every prompt, also where chunks are taken slowly', async () => {
    const mock = createMock();
    await using live = mock.client();
    const session = await live.create({ prompt: 'a red fox' });
    const events = session.events();
    await events.next(); // One event, and no more are taken.
    for (let i = 0; i < 100; i++) mock.step(session.id);
    const [first, second] = [await session.switch('by day'), await session.switch('at night')];
    mock.step(session.id);
    await expect(first.applied).resolves.toEqual({ status: 'superseded', by: second.id });
    await expect(second.applied).resolves.toMatchObject({ status: 'applied', block: 100 });
    const third = await session.switch('in the snow');
    mock.end(session.id);
    await expect(third.applied).resolves.toEqual({ status: 'discarded' });
    expect(session.state).toMatchObject({ status: 'ended', as: 'COMPLETED' });
  });

  test('shows its state, and goes on by itself where the connection breaks', async () => {
    const mock = createMock();
    await using live = mock.client();
    const session = await live.create({ prompt: 'a red fox' });
    const seen: string[] = [];
    const leave = session.watch(() => {
      if (seen.at(-1) !== session.state.status) seen.push(session.state.status);
    });
    await soon();
    await session.pause();
    mock.cut();
    await soon();
    await new Promise((resolve) => setTimeout(resolve, 400));
    await session.resume();
    await session.stop();
    leave();
    expect(seen).toEqual(['live', 'paused', 'reconnecting', 'paused', 'live', 'ended']);
  });

  test('plans prompts for a time to come, moves and cancels them', async () => {
    const mock = createMock();
    await using live = mock.client();
    const session = await live.create({ prompt: 'a red fox' });
    for (let i = 0; i < 3; i++) mock.step(session.id);
    await planAhead(session, await mock.client().session(session.id), async () => {
      for (let i = 0; i < 6; i++) mock.step(session.id);
    });
  });

  test('of prompts planned for one block has the one that was planned or moved last', async () => {
    const mock = createMock();
    await using live = mock.client();
    const session = await live.create({ prompt: 'a red fox' });
    const one = await session.plan('one', { atBlock: 1 });
    const two = await session.plan('two', { atBlock: 2, idempotencyKey: 'two' });
    expect((await session.plan('two', { atBlock: 2, idempotencyKey: 'two' })).id).toBe(two.id);
    await session.move(one, { atBlock: 2 });
    for (let i = 0; i < 3; i++) mock.step(session.id);
    await expect(two.applied).resolves.toEqual({ status: 'superseded', by: one.id });
    const late = await session.plan('late', { atBlock: 9 });
    mock.end(session.id);
    await expect(late.applied).resolves.toEqual({ status: 'discarded' });
    await expect(session.plan('over', { atBlock: 9 })).rejects.toMatchObject({ code: 'ENDED' });
  });

  test('gives the same state as long as nothing changed', async () => {
    const session = await createMock().client().create({ prompt: 'a red fox' });
    expect(session.state).toBe(session.state);
  });

  test('throws what the service refuses', async () => {
    const live = createMock({ capacity: 1 }).client();
    await live.create({ prompt: 'a red fox' });
    await expect(live.create({ prompt: 'a blue robot' })).rejects.toMatchObject({
      code: 'AT_CAPACITY',
      retryAfterSeconds: 2,
    });
    await expect(live.session('none')).rejects.toThrow(NotFoundError);
  });

  test('waits in the line for room, and knows its place', async () => {
    const mock = createMock({ capacity: 1 });
    const live = mock.client();
    const first = await live.create({ prompt: 'a red fox' });
    const second = await live.create({ prompt: 'a blue robot', maxWaitSeconds: 60 });
    expect(second.state).toEqual({ status: 'queued', place: 1, waitSeconds: null });
    const places: (number | null)[] = [];
    const third = live.create({ prompt: 'a cat', patienceSeconds: 60, onWait: ({ place }) => places.push(place) });
    await soon();
    await second.stop();
    await soon();
    expect(places).toEqual([2, 1]);
    await first.stop();
    expect((await third).state).toEqual({ status: 'live' });
    const leaving = new AbortController();
    const fourth = live.create({ prompt: 'a dog', patienceSeconds: 60, signal: leaving.signal });
    const refused = expect(fourth).rejects.toThrow('left');
    await soon();
    leaving.abort(new Error('left'));
    await refused;
    await soon();
    expect([...mock.sessions.values()].at(-1)?.ended).toBe(true);
  });

  test('without a line waits for room as long as one likes, and asks for the same session', async () => {
    vi.useFakeTimers();
    try {
      const mock = createMock({ capacity: 1, maxQueued: 0 });
      const live = mock.client();
      const first = await live.create({ prompt: 'a red fox' });
      const waits: number[] = [];
      const onWait = ({ seconds }: { seconds: number | null }) => waits.push(seconds ?? 0);
      const second = live.create({ prompt: 'a blue robot', patienceSeconds: 60, onWait });
      await vi.advanceTimersByTimeAsync(5000);
      await first.stop();
      await vi.advanceTimersByTimeAsync(2000);
      expect((await second).facts.prompt).toBe('a blue robot');
      expect(waits).toEqual([2, 2, 2]);
      const asked = mock.asked
        .filter(({ name }) => name === 'CreateSession')
        .map(({ variables }) => variables['input']);
      expect(new Set(asked.slice(1).map((input) => (input as { idempotencyKey: string }).idempotencyKey)).size).toBe(1);
      const impatient = live.create({ prompt: 'a cat', patienceSeconds: 3, onWait }).catch((error: unknown) => error);
      await vi.advanceTimersByTimeAsync(4000);
      expect(await impatient).toBeInstanceOf(AtCapacityError);
      const leaving = new AbortController();
      const given = live.create({ prompt: 'a cat', patienceSeconds: 60, signal: leaving.signal });
      const refused = expect(given).rejects.toThrow('left');
      await vi.advanceTimersByTimeAsync(100);
      leaving.abort(new Error('left'));
      await refused;
    } finally {
      vi.useRealTimers();
    }
  });

  test('renders a film and says how far it is', async () => {
    const mock = createMock();
    const progress: number[] = [];
    const film = mock
      .client()
      .render({ prompt: 'a red fox', maxSeconds: 1.5, onProgress: ({ seconds }) => progress.push(seconds) });
    await soon();
    const [id] = [...mock.sessions.keys()] as [string];
    mock.step(id);
    mock.step(id);
    mock.end(id);
    const session = await film;
    expect(progress).toEqual([0.75, 1.5]);
    expect(session.facts.ended).toBe(true);
    expect(new TextDecoder().decode(await session.download())).toContain('video.mp4');
  });

  test('says how far somebody has seen', async () => {
    const mock = createMock();
    const session = await mock.client().create({ prompt: 'a red fox' });
    await expect(session.acknowledge({ viewer: 'v', seconds: 1.5, playing: false })).resolves.toBe(true);
    expect(mock.sessions.get(session.id)?.positions.get('v')).toMatchObject({ seconds: 1.5, playing: false });
    mock.refuseOnce(new Error('no network'));
    await expect(session.acknowledge({ viewer: 'v', seconds: 2 })).rejects.toThrow('no network');
  });

  test('closing ends what waits, and rejects nothing that nobody looks at', async () => {
    const mock = createMock();
    const live = mock.client();
    const session = await live.create({ prompt: 'a red fox' });
    const receipt = await session.switch('at night');
    void receipt.applied;
    const events = session.events();
    await events.next();
    await events.next();
    const waiting = events.next();
    live.close();
    await expect(waiting).rejects.toMatchObject({ name: 'AbortError' });
    await expect(receipt.applied).rejects.toMatchObject({ name: 'AbortError' });
  });
});

test('without an address there is nothing to talk to', () => {
  expect(() => createClient()).toThrow('url');
  for (const url of ['localhost', 'localhost:4000', 'ftp://localhost/', ''])
    expect(() => createClient({ url })).toThrow('Begin it with http:// or https://');
});

test('a token that no header carries is refused as one, at once', async () => {
  const asked: string[] = [];
  const fetch = async (url: string) => (asked.push(url), new Response());
  for (const token of ['…', 'a\nb']) {
    const live = createClient({ url: 'http://mock.invalid/', token, fetch, webSocket: false });
    await expect(live.service()).rejects.toMatchObject({
      code: 'UNAUTHORIZED',
      message: expect.stringContaining('such characters') as string,
    });
  }
  expect(asked).toEqual([]);
});

test('of prompts typed fast the newest is sent, one at a time', async () => {
  const sent: string[] = [];
  const send = latest(async (prompt: string) => {
    sent.push(prompt);
    await soon();
    if (prompt === 'bad') throw new Error('refused');
    return prompt.length;
  }, 10);
  const answers = ['a', 'a r', 'a re', 'a red'].map(send);
  await expect(Promise.all(answers)).resolves.toEqual([1, undefined, undefined, 5]);
  await expect(send('bad')).rejects.toThrow('refused');
  await expect(send('good')).resolves.toBe(4);
  expect(sent).toEqual(['a', 'a red', 'bad', 'good']);
});

test('the hook keeps what a page shows, and the same object where nothing changed', () => {
  const state = { status: 'live' } as const;
  const before = { state, prompts: [], seconds: 0 };
  expect(after(before, state, undefined)).toBe(before);
  const asked = after(before, state, { type: 'requested', receiptId: 'r', prompt: 'at night' } as never);
  expect(asked.prompts).toEqual([{ receiptId: 'r', prompt: 'at night', outcome: 'pending' }]);
  expect(after(asked, state, { type: 'ended' } as never).prompts[0]?.outcome).toBe('discarded');
});
