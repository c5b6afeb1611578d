import type { Session } from '../session.js';
import { ChunkPlayer } from './chunk-player.js';
import { HlsPlayer, PLAYLIST_TYPE } from './hls-player.js';
import type { Player, PlayerOptions } from './player.js';
import { sourceClass } from './screen.js';

/**
 * Plays a session in a `<video>`: at the live edge while it runs, from any moment that one seeks to. The video has no sound.
 * It plays until it is closed; the element is the caller's, with its size and its controls.
 */
export function attach(session: Session, video: HTMLVideoElement, options: PlayerOptions = {}): Player {
  video.muted = true; // So that browsers let it begin by itself.
  video.playsInline = true;
  const byPlaylist = !sourceClass() && video.canPlayType(PLAYLIST_TYPE) !== '';
  return byPlaylist ? new HlsPlayer(session, video, options) : new ChunkPlayer(session, video, options);
}
