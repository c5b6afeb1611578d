/** The HLS playlist (RFC 8216, version 7) over a session's init segment and chunks. */

export interface PlaylistChunk {
  uri: string;
  durationSeconds: number;
}

/** Grows while the session lives: players reload it until it ends with EXT-X-ENDLIST. */
export function playlist(chunks: readonly PlaylistChunk[], initUri: string, ended: boolean): string {
  const target = chunks.reduce((longest, { durationSeconds }) => Math.max(longest, Math.ceil(durationSeconds)), 1);
  const lines = [
    '#EXTM3U',
    '#EXT-X-VERSION:7',
    `#EXT-X-TARGETDURATION:${target}`,
    '#EXT-X-MEDIA-SEQUENCE:0',
    '#EXT-X-PLAYLIST-TYPE:EVENT',
    '#EXT-X-INDEPENDENT-SEGMENTS',
    `#EXT-X-MAP:URI="${initUri}"`,
    ...chunks.flatMap(({ uri, durationSeconds }) => [`#EXTINF:${durationSeconds.toFixed(6)},`, uri]),
    ...(ended ? ['#EXT-X-ENDLIST'] : []),
  ];
  return `${lines.join('\n')}\n`;
}
