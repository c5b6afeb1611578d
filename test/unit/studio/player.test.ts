import { getEventListeners } from 'node:events';
import { afterEach, expect, test, vi } from 'vitest';

/** As much of the page's player as this test drives; its sources are typed for the browser. */
interface LivePlayer {
  open(mimeType: string, init: Uint8Array): Promise<void>;
  append(chunk: Uint8Array, startSeconds: number): Promise<void>;
}

class FakeBuffer extends EventTarget {
  buffered = { length: 1, start: () => 0, end: () => 2 };
  appendBuffer(): void {
    queueMicrotask(() => this.dispatchEvent(new Event('updateend')));
  }
  remove = () => this.appendBuffer();
}

class FakeSource extends EventTarget {
  static readonly buffer = new FakeBuffer();
  static isTypeSupported = () => true;
  constructor() {
    super();
    queueMicrotask(() => this.dispatchEvent(new Event('sourceopen')));
  }
  addSourceBuffer = () => FakeSource.buffer;
}

class FakeVideo extends EventTarget {
  currentTime = 0;
  buffered = FakeSource.buffer.buffered;
  play = () => Promise.resolve();
}

afterEach(() => void vi.unstubAllGlobals());

test('the player of the page keeps no listener of a chunk that it has taken', async () => {
  vi.stubGlobal('window', { MediaSource: FakeSource });
  vi.stubGlobal('MediaSource', FakeSource);
  vi.stubGlobal('URL', Object.assign(URL, { createObjectURL: () => 'blob:', revokeObjectURL: () => undefined }));
  const path = new URL('../../../studio/src/lib/player.ts', import.meta.url).href;
  const { LivePlayer } = (await import(path)) as { LivePlayer: new (video: FakeVideo) => LivePlayer };
  const video = new FakeVideo();
  const player = new LivePlayer(video);
  await player.open('video/mp4', new Uint8Array(1));
  for (let chunk = 0; chunk < 20; chunk++) await player.append(new Uint8Array(1), chunk);
  for (const type of ['updateend', 'error', 'sourceopen'])
    expect(getEventListeners(FakeSource.buffer, type)).toHaveLength(0);
  expect(getEventListeners(video, 'timeupdate')).toHaveLength(0);
});
