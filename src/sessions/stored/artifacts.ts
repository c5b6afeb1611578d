/** What remains of a session: one MP4, one playlist, one poster, one timeline, assembled from what is in the store. */

import type { Context } from '../live/context.js';
import type { FrameChunk } from '../events.js';
import { DamagedError } from './checksum.js';
import { readChunk, readInit } from './chunks.js';
import type { SessionKeys } from './keys.js';
import { LogReader } from './log.js';
import type { PutOptions } from '../ports.js';
import type { Artifact, ArtifactKind, Session } from '../session.js';

const MP4: PutOptions = { contentType: 'video/mp4' };
const HLS: PutOptions = { contentType: 'application/vnd.apple.mpegurl' };
const JSONL: PutOptions = { contentType: 'application/x-ndjson' };

/**
 * Writes them all; may be repeated after a failure. A session without chunks has none, and one of which chunks are lost no
 * MP4, which the log of the service says.
 */
export async function storeArtifacts(context: Context, keys: SessionKeys, session: Session): Promise<Artifact[]> {
  const { chunks } = await readChunks(context, keys);
  if (chunks.length === 0) return [];
  await storeVideo(context, keys, chunks).catch((error: unknown) => {
    if (!(error instanceof DamagedError)) throw error;
    context.logger.error({ sessionId: session.id, error }, 'the video cannot be made');
  });
  await context.vault.put(keys.playlist, utf8(playlistOf(context, keys, chunks, true)), HLS);
  await context.vault.put(
    keys.timeline,
    utf8(session.timeline.map((entry) => JSON.stringify(entry) + '\n').join('')),
    JSONL,
  );
  const listed: [ArtifactKind, string][] = [
    ['MP4', keys.video],
    ['HLS', keys.playlist],
    ['POSTER', keys.poster],
    ['TIMELINE', keys.timeline],
  ];
  const found = await Promise.all(listed.map(([kind, key]) => describe(context, kind, key)));
  return found.filter((artifact) => artifact !== undefined);
}

/** The chunks of a session in its log; `known` continues where an earlier reading ended. */
export async function readChunks(context: Context, keys: SessionKeys, known = NO_CHUNKS): Promise<KnownChunks> {
  const chunks = [...known.chunks];
  let { cursor } = known;
  for await (const event of new LogReader(context.vault, keys).all(cursor)) {
    if (event.type === 'FrameChunk') chunks.push(event);
    cursor = event.sequence;
  }
  return { chunks, cursor };
}

export interface KnownChunks {
  chunks: readonly FrameChunk[];
  /** Sequence up to which the log was read. */
  cursor: number;
}

const NO_CHUNKS: KnownChunks = { chunks: [], cursor: 0 };

/** URIs are relative to the session's prefix, or whatever `uri` makes of the store keys. */
export function playlistOf(
  context: Context,
  keys: SessionKeys,
  chunks: readonly FrameChunk[],
  ended: boolean,
  uri: (key: string) => string = (key) => (key.startsWith(keys.prefix) ? key.slice(keys.prefix.length) : `/${key}`),
): string {
  const entries = chunks.map(({ key, durationSeconds }) => ({ uri: uri(key), durationSeconds }));
  return context.media.playlist(entries, uri(chunks[0]?.initKey ?? keys.init), ended);
}

async function storeVideo({ vault, media }: Context, keys: SessionKeys, chunks: readonly FrameChunk[]): Promise<void> {
  const bodies = {
    async *[Symbol.asyncIterator]() {
      for (const chunk of chunks) yield await readChunk(vault, chunk);
    },
  };
  const init = await readInit(vault, chunks[0] as FrameChunk);
  async function* progressive() {
    const { stream } = await media.progressive(init, bodies);
    yield* stream;
  }
  await vault.putStream(keys.video, progressive, MP4);
}

async function describe(context: Context, kind: ArtifactKind, key: string): Promise<Artifact | undefined> {
  const head = await context.vault.head(key);
  return head && { kind, key, contentType: head.contentType, bytes: head.size };
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
