import type { Socket } from 'node:net';

/**
 * What a client takes of what waits for it. Not the socket's own time limit, which takes it for progress when a write that
 * nobody reads is begun or shrinks to what the system's buffers hold.
 */
export class Progress {
  private seen = '';
  private since = performance.now();

  constructor(private readonly socket: Socket) {}

  /** For how many milliseconds, at least, nothing was taken of what waits; asked again and again. */
  stalledFor(): number {
    const { socket } = this;
    const handle = (socket as { _handle?: { writeQueueSize?: number } | null })._handle;
    // Changes with every byte that the system takes: writes that are done, and what is left of the one under way.
    const taken = `${socket.bytesWritten - socket.writableLength}:${handle?.writeQueueSize ?? 0}`;
    const now = performance.now();
    if (socket.writableLength === 0 || taken !== this.seen) [this.seen, this.since] = [taken, now];
    return now - this.since;
  }
}
