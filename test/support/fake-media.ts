import type {
  Chapter,
  ChunkEncoder,
  EncodedChunk,
  EncoderName,
  Frames,
  MediaFactory,
} from '../../src/sessions/index.js';

/** "Encodes" by passing on what the fake engine made, so that tests can read it back. */
export class FakeMedia implements MediaFactory {
  encoders: readonly EncoderName[] = ['minih264'];
  openEncoders = 0;
  /** Encoders of the sessions that were opened, in order. */
  readonly opened: (EncoderName | undefined)[] = [];
  /** Of the MP4 that was asked for last. */
  chapters: readonly Chapter[] = [];
  failAt: ((block: number) => Error | undefined) | undefined;

  async open({ encoder }: { encoder?: EncoderName } = {}): Promise<ChunkEncoder> {
    this.opened.push(encoder);
    this.openEncoders++;
    const close = async () => void this.openEncoders--;
    return {
      codec: 'avc1.42c01e',
      init: new TextEncoder().encode('init'),
      encode: (frames) => this.encode(frames),
      close,
      [Symbol.asyncDispose]: close,
    };
  }

  async poster(): Promise<{ bytes: Uint8Array; contentType: string }> {
    return { bytes: new Uint8Array([1]), contentType: 'image/webp' };
  }

  playlist(
    chunks: readonly { readonly uri: string; durationSeconds: number }[],
    initUri: string,
    { ended }: { ended: boolean },
  ): string {
    return [`#MAP ${initUri}`, ...chunks.map(({ uri }) => uri), ...(ended ? ['#END'] : [])].join('\n');
  }

  async progressive(init: Uint8Array, chunks: AsyncIterable<Uint8Array>, chapters: readonly Chapter[] = []) {
    this.chapters = chapters;
    let bytes = init.length;
    for await (const chunk of chunks) bytes += chunk.length;
    async function* stream() {
      yield init;
      yield* chunks;
    }
    return { bytes, stream: stream() };
  }

  private async encode(frames: Frames): Promise<EncodedChunk> {
    const failure = this.failAt?.(frames.block);
    if (failure) throw failure;
    return { bytes: frames.i420, frameCount: frames.count, samples: [{ size: frames.i420.length, key: true }] };
  }
}

/** What a fake chunk shows. */
export function pictureOf(bytes: Uint8Array | undefined): { block: number; prompt: string; picture: string } {
  return JSON.parse(new TextDecoder().decode(bytes)) as { block: number; prompt: string; picture: string };
}
