import type { Chunk } from './chunk-index.js';

/** The chunks that a playlist of the service lists: all from the first one on. */
export function parsePlaylist(text: string, base: string): Chunk[] {
  const chunks: Chunk[] = [];
  let durationSeconds: number | undefined;
  let startSeconds = 0;
  for (const line of text.split('\n').map((line) => line.trim())) {
    const told = /^#EXTINF:([\d.]+)/.exec(line)?.[1];
    if (told !== undefined) durationSeconds = Number(told);
    if (line === '' || line.startsWith('#') || durationSeconds === undefined) continue;
    chunks.push({ index: chunks.length, startSeconds, durationSeconds, url: new URL(line, base).href });
    startSeconds += durationSeconds;
    durationSeconds = undefined;
  }
  return chunks;
}
