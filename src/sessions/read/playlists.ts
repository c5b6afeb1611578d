import type { Context } from '../live/context.js';
import { type KnownChunks, playlistOf, readChunks } from '../stored/artifacts.js';
import { keysOf } from '../stored/keys.js';

/** Sessions whose chunk lists are remembered. */
const MOST = 32;

/** HLS playlists, made of chunk lists that are remembered, so that a player's next poll reads only the end of the log. */
export class Playlists {
  private readonly known = new Map<string, KnownChunks>();

  constructor(private readonly context: Context) {}

  async of(
    sessionId: string,
    options: { ended: boolean; delta?: boolean },
    uri?: (key: string) => string,
  ): Promise<string> {
    const keys = keysOf(sessionId);
    const known = await readChunks(this.context, keys, this.known.get(sessionId));
    this.known.delete(sessionId);
    this.known.set(sessionId, known);
    if (this.known.size > MOST) this.known.delete(this.known.keys().next().value as string);
    return playlistOf(this.context, keys, known.chunks, options, uri);
  }
}
