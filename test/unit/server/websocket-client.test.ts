import { EventEmitter } from 'node:events';
import { expect, test, vi } from 'vitest';
import { type ClientLimits, WebSocketClient } from '../../../src/server/websocket-client.js';

type Parameters = ConstructorParameters<typeof WebSocketClient>;

test('a client that goes on sending is told goodbye once, and holds no more listeners for it', async () => {
  vi.useFakeTimers();
  const close = vi.fn();
  const terminate = vi.fn();
  const webSocket = Object.assign(new EventEmitter(), { OPEN: 1, readyState: 1, bufferedAmount: 0, close, terminate });
  const socket = Object.assign(new EventEmitter(), { setTimeout: () => undefined });
  const limits = {
    maxLoginBytes: 16,
    maxBodyBytes: 64,
    maxUnsentBytes: 64,
    stallSeconds: 60,
    written: () => undefined,
  } as unknown as ClientLimits;
  const client = new WebSocketClient(webSocket as unknown as Parameters[0], socket as unknown as Parameters[1], limits);
  const before = webSocket.listenerCount('close');
  for (let message = 0; message < 40; message++) client.take(Buffer.alloc(17), () => Promise.resolve());
  expect(close).toHaveBeenCalledTimes(1);
  expect(webSocket.listenerCount('close')).toBe(before + 1);
  vi.advanceTimersByTime(1000);
  expect(terminate).toHaveBeenCalled();
  webSocket.emit('close');
  vi.useRealTimers();
});

/** A client over a WebSocket that sends nothing, so that everything stays unsent. */
function unread(maxUnsentBytes: number) {
  const close = vi.fn();
  const terminate = vi.fn();
  const send = vi.fn((bytes: Buffer) => void (webSocket.bufferedAmount += bytes.length));
  const webSocket = Object.assign(new EventEmitter(), { OPEN: 1, readyState: 1, bufferedAmount: 0 });
  Object.assign(webSocket, { close, terminate, send });
  const socket = Object.assign(new EventEmitter(), { setTimeout: () => undefined });
  const limits = {
    maxLoginBytes: 16,
    maxBodyBytes: 64,
    maxUnsentBytes,
    stallSeconds: 60,
    written: () => undefined,
  } as unknown as ClientLimits;
  const client = new WebSocketClient(webSocket as unknown as Parameters[0], socket as unknown as Parameters[1], {
    ...limits,
    login: () => undefined,
  });
  client.loggedIn();
  return { client, close, terminate, webSocket };
}

const event = (id: string) => JSON.stringify({ id, type: 'next', payload: 'x'.repeat(1000) });

test('an event waits for its reader as long as its operation runs, and counts as unsent when the client completes it', () => {
  const { client, terminate, webSocket } = unread(1500);
  for (const id of ['a', 'b', 'c\\"']) void client.send(event(id));
  expect(terminate).not.toHaveBeenCalled();
  client.completed('a');
  client.completed('unknown');
  expect(terminate).not.toHaveBeenCalled();
  client.completed('c\\"');
  expect(terminate).toHaveBeenCalled();
  webSocket.emit('close');
});

test('a goodbye says as much of its reason as there is room for', () => {
  const { client, close, webSocket } = unread(1500);
  client.close(4409, `Subscriber for ${'ü'.repeat(50_000)} already exists`);
  const [code, reason] = close.mock.calls[0] as [number, string];
  expect(code).toBe(4409);
  expect(Buffer.byteLength(reason)).toBeLessThanOrEqual(123);
  expect(reason).toMatch(/^Subscriber for ü+$/);
  webSocket.emit('close');
});

/** A client that is logged in, whose message may take 15 s to arrive. */
function receiving() {
  const terminate = vi.fn();
  const webSocket = Object.assign(new EventEmitter(), { OPEN: 1, readyState: 1, bufferedAmount: 0, terminate });
  Object.assign(webSocket, { close: vi.fn(), pong: () => undefined, ping: () => undefined });
  const socket = Object.assign(new EventEmitter(), { setTimeout: () => undefined });
  const limits = { maxLoginBytes: 16, maxBodyBytes: 64, maxUnsentBytes: 64, stallSeconds: 60, bodySeconds: 15 };
  const client = new WebSocketClient(
    webSocket as unknown as Parameters[0],
    socket as unknown as Parameters[1],
    {
      ...limits,
      ...{ login: () => undefined, written: () => undefined },
    } as unknown as ClientLimits,
  );
  client.loggedIn();
  const arrive = (bytes: number) => socket.emit('data', Buffer.alloc(bytes));
  return { client, arrive, terminate, webSocket };
}

test('a message that does not come to its end in time ends the connection, whatever pings come between its fragments', () => {
  vi.useFakeTimers();
  const { client, arrive, terminate, webSocket } = receiving();
  arrive(40);
  for (let second = 0; second < 14; second++) {
    vi.advanceTimersByTime(1000);
    arrive(6 + 4);
    webSocket.emit('ping', Buffer.alloc(4));
  }
  expect([client.unfinished, terminate.mock.calls.length]).toEqual([40, 0]);
  vi.advanceTimersByTime(1000);
  expect(terminate).toHaveBeenCalledTimes(1);
  webSocket.emit('close');
  vi.useRealTimers();
});

test('a client that only sends whole messages and pings may do so for ever', () => {
  vi.useFakeTimers();
  const { client, arrive, terminate, webSocket } = receiving();
  for (let second = 0; second < 100; second++) {
    arrive(6 + 4);
    webSocket.emit(second % 2 ? 'ping' : 'pong', Buffer.alloc(4));
    if (second % 5 === 0) {
      arrive(50);
      client.take(Buffer.alloc(40), () => Promise.resolve());
    }
    vi.advanceTimersByTime(1000);
  }
  expect([client.unfinished, terminate.mock.calls.length]).toEqual([0, 0]);
  webSocket.emit('close');
  vi.useRealTimers();
});
