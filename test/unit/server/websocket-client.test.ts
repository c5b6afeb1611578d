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
  const limits = { maxLoginBytes: 16, maxBodyBytes: 64, maxUnsentBytes: 64, stallSeconds: 60 } as ClientLimits;
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
