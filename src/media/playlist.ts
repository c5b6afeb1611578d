/** The HLS playlist (RFC 8216, version 7; its second edition's delta updates) over a session's init segment and chunks. */

export interface PlaylistChunk {
  uri: string;
  durationSeconds: number;
}

export interface PlaylistOptions {
  /** Adds the end tag. */
  ended: boolean;
  /** For a player that has the older part already, which it says with `_HLS_skip`: only what is new, while it grows. */
  delta?: boolean;
}

/** A live playlist with more chunks offers delta updates: everything again, every second, would be megabytes after a day. */
const LONG = 120;
/** What an update has at least: six times the target duration by the standard. */
const LEAST_TAIL_SECONDS = 60;

/** Grows while the session lives: players reload it until it ends with EXT-X-ENDLIST. */
export function playlist(
  chunks: readonly PlaylistChunk[],
  initUri: string,
  { ended, delta = false }: PlaylistOptions,
): string {
  const target = chunks.reduce((longest, { durationSeconds }) => Math.max(longest, Math.ceil(durationSeconds)), 1);
  const tail = Math.max(6 * target, LEAST_TAIL_SECONDS);
  const long = !ended && chunks.length > LONG;
  const skipped = long && delta ? skippable(chunks, tail) : 0;
  const lines = [
    '#EXTM3U',
    `#EXT-X-VERSION:${skipped > 0 ? 9 : 7}`,
    `#EXT-X-TARGETDURATION:${target}`,
    '#EXT-X-MEDIA-SEQUENCE:0',
    '#EXT-X-PLAYLIST-TYPE:EVENT',
    '#EXT-X-INDEPENDENT-SEGMENTS',
    ...(long ? [`#EXT-X-SERVER-CONTROL:CAN-SKIP-UNTIL=${tail}`] : []),
    ...(skipped > 0 ? [`#EXT-X-SKIP:SKIPPED-SEGMENTS=${skipped}`] : []),
    `#EXT-X-MAP:URI="${initUri}"`,
    ...chunks.slice(skipped).flatMap(({ uri, durationSeconds }) => [`#EXTINF:${durationSeconds.toFixed(6)},`, uri]),
    ...(ended ? ['#EXT-X-ENDLIST'] : []),
  ];
  return `${lines.join('\n')}\n`;
}

/** The chunks that end more than so many seconds before the end. */
function skippable(chunks: readonly PlaylistChunk[], seconds: number): number {
  let kept = 0;
  let first = chunks.length;
  while (first > 0 && kept < seconds) kept += chunks[--first]?.durationSeconds ?? 0;
  return first;
}
