import type { Context } from '../live/context.js';
import { playlistOf } from '../stored/artifacts.js';
import { keysOf } from '../stored/keys.js';
import type { ChunkLists } from './chunk-lists.js';

/** HLS playlists of what there is of sessions now. */
export class Playlists {
  constructor(
    private readonly context: Pick<Context, 'media'>,
    readonly lists: ChunkLists,
  ) {}

  async of(
    sessionId: string,
    options: { ended: boolean; delta?: boolean },
    uri?: (key: string) => string,
  ): Promise<string> {
    const { chunks } = await this.lists.read(sessionId);
    return playlistOf(this.context, keysOf(sessionId), chunks, options, uri);
  }
}
