/** A viewer that checks all it sees: every event once and in order, every chunk there, whole, and at its place. */
import { findBox } from '../../src/media/boxes.js';
import { readFragment } from '../../src/media/cmaf.js';
import { TRANSPORTS, type Transport, type WireEvent } from './transports.js';

export interface Seen {
  chunks: number;
  states: string[];
  ended: boolean;
  last: WireEvent | undefined;
}

/** Watches across reconnects and servers; throws when something is missing, comes twice, or is not what it should be. */
export class Watcher {
  readonly seen: Seen = { chunks: 0, states: [], ended: false, last: undefined };
  private cursor: string | undefined;
  private frames = 0;
  private readonly cursors = new Set<string>();

  constructor(
    private readonly id: string,
    private readonly transport: Transport = TRANSPORTS[0] as Transport,
  ) {}

  /** Until the session or the connection ends, or `enough` says so. */
  async watch(url: string, enough: (seen: Seen) => boolean = () => false): Promise<void> {
    const variables = {
      id: this.id,
      media: 'INLINE' as const,
      ...(this.cursor !== undefined && { after: this.cursor }),
    };
    const stream = this.transport.open(url, variables);
    try {
      for await (const event of stream) {
        this.take(event);
        if (enough(this.seen)) return;
      }
    } catch (error) {
      if (error instanceof Wrong) throw error; // anything else is the connection's end
    }
  }

  private take(event: WireEvent): void {
    if (event.__typename === 'Heartbeat') return;
    if (event.__typename.endsWith('Error')) throw new Wrong(`an error: ${JSON.stringify(event)}`);
    if (this.cursors.has(event.cursor)) throw new Wrong(`event ${event.cursor} came twice`);
    this.cursors.add(event.cursor);
    this.cursor = event.cursor;
    this.seen.last = event;
    if (event.__typename === 'FrameChunk') this.takeChunk(event);
    if (event.__typename === 'StateChanged') this.seen.states.push(event['state'] as string);
    if (event.__typename === 'SessionEnded') this.seen.ended = true;
  }

  private takeChunk({ index, data, byteLength }: WireEvent): void {
    if (index !== this.seen.chunks) throw new Wrong(`chunk ${String(index)} where ${this.seen.chunks} was to come`);
    const bytes = Buffer.from(data as string, 'base64');
    if (bytes.length !== byteLength) throw new Wrong(`chunk ${String(index)} has ${bytes.length} bytes`);
    const { firstFrame, samples } = readFragment(bytes);
    if (firstFrame !== this.frames) throw new Wrong(`chunk ${String(index)} begins with frame ${firstFrame}`);
    this.frames += samples.length;
    this.seen.chunks++;
  }
}

class Wrong extends Error {}

/** Frames of a progressive MP4. */
export function framesOf(mp4: Uint8Array): number {
  return findBox(Buffer.from(mp4), 'moov', 'trak', 'mdia', 'minf', 'stbl', 'stsz').readUInt32BE(8);
}
