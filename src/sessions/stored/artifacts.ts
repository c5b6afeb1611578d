/** What remains of a session: one MP4, one playlist, one poster, one timeline, assembled from what is in the store. */

import type { Context } from '../live/context.js';
import { DomainError } from '../errors.js';
import type { FrameChunk } from '../events.js';
import { checksumOf, DamagedError, isPassing, Summing } from './checksum.js';
import { readChunk, readInit } from './chunks.js';
import type { SessionKeys } from './keys.js';
import { LogReader } from './log.js';
import { asStored } from './names.js';
import type { Chapter } from '../ports.js';
import {
  ARTIFACT_KINDS,
  type Artifact,
  type ArtifactKind,
  type TimelineEntry,
  type UnmadeArtifact,
} from '../session.js';
import { entryOf } from './snapshot.js';

/** Where stored things are written and read, and what makes media of them. */
export type Shelf = Pick<Context, 'vault' | 'media' | 'logger'>;

/** What was made of a session, and what could not be. */
export interface Completion {
  artifacts: Artifact[];
  unmade: UnmadeArtifact[];
}

/** Writes them all, or some; may be repeated. Of a session without chunks there are none. Rejects when the store does not work. */
export async function storeArtifacts(
  shelf: Shelf,
  keys: SessionKeys,
  kinds: readonly ArtifactKind[] = ARTIFACT_KINDS,
): Promise<Completion> {
  const completion: Completion = { artifacts: [], unmade: [] };
  const { chunks } = await readChunks(shelf, keys);
  if (chunks.length === 0) return completion;
  for (const kind of kinds) {
    try {
      const made = kind === 'POSTER' ? poster(shelf, keys) : storeArtifact(shelf, keys, chunks, kind);
      completion.artifacts.push(await made);
    } catch (error) {
      if (isPassing(error)) throw error;
      shelf.logger.error({ sessionId: keys.id, kind, error }, 'cannot make an artifact');
      completion.unmade.push({ kind, failure: failureOf(error) });
    }
  }
  return completion;
}

export function failureOf(error: unknown): UnmadeArtifact['failure'] {
  if (error instanceof DomainError) return { code: error.code, message: error.message };
  return { code: 'MEDIA', message: error instanceof Error ? error.message : String(error) };
}

/** What follows from log and chunks: it may be made again at any time. */
export type DerivedKind = Exclude<ArtifactKind, 'POSTER'>;

/** Rejects with DamagedError when a chunk is lost that it is made of. */
export async function storeArtifact(
  shelf: Shelf,
  keys: SessionKeys,
  chunks: readonly FrameChunk[],
  kind: DerivedKind,
): Promise<Artifact> {
  const { key, contentType } = PLACES[kind](keys);
  let sum = new Summing();
  const body = () => (sum = new Summing()).through(artifactBody(shelf, keys, chunks, kind));
  await shelf.vault.putStream(key, body, { contentType });
  return { kind, key, contentType, bytes: sum.bytes, check: sum.check };
}

export const PLACES: Record<DerivedKind, (keys: SessionKeys) => { key: string; contentType: string }> = {
  MP4: ({ video }) => ({ key: video, contentType: 'video/mp4' }),
  HLS: ({ playlist }) => ({ key: playlist, contentType: 'application/vnd.apple.mpegurl' }),
  TIMELINE: ({ timeline }) => ({ key: timeline, contentType: 'application/x-ndjson' }),
};

/** The bytes of an artifact. Rejects with DamagedError when a chunk is lost that it is made of. */
export async function* artifactBody(
  shelf: Shelf,
  keys: SessionKeys,
  chunks: readonly FrameChunk[],
  kind: DerivedKind,
): AsyncGenerator<Uint8Array> {
  if (kind === 'MP4') yield* video(shelf, chunks);
  else if (kind === 'HLS') yield utf8(playlistOf(shelf, keys, chunks, { ended: true }));
  else yield* timelineLines(new LogReader(shelf.vault, keys));
}

/** The chunks of a session in its log; `known` continues where an earlier reading ended. */
export async function readChunks(
  { vault }: Pick<Context, 'vault'>,
  keys: SessionKeys,
  known = NO_CHUNKS,
): Promise<KnownChunks> {
  const chunks = [...known.chunks];
  let { cursor } = known;
  for await (const event of new LogReader(vault, keys).all(cursor)) {
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
  { media }: Pick<Context, 'media'>,
  keys: SessionKeys,
  chunks: readonly FrameChunk[],
  options: { ended: boolean; delta?: boolean },
  uri: (key: string) => string = (key) => (key.startsWith(keys.prefix) ? key.slice(keys.prefix.length) : `/${key}`),
): string {
  // Of those that are left out no address is made.
  const entries = chunks.map(({ key, durationSeconds }) => ({
    get uri() {
      return uri(key);
    },
    durationSeconds,
  }));
  return media.playlist(entries, uri(chunks[0]?.initKey ?? keys.init), options);
}

async function* timelineLines(log: LogReader, line = lineOf): AsyncGenerator<Uint8Array> {
  for await (const event of log.all()) {
    if (event.type === 'PromptApplied') yield utf8(line(entryOf(event)));
  }
}

export function lineOf({ sequence: _sequence, ...entry }: TimelineEntry): string {
  return JSON.stringify(entry) + '\n';
}

/** As releases wrote it that called a receipt's id by its stored name. */
function oldLineOf({ sequence: _sequence, ...entry }: TimelineEntry): string {
  return JSON.stringify(asStored(entry)) + '\n';
}

/** The timeline as earlier releases wrote it. */
export async function* oldTimeline({ vault }: Pick<Shelf, 'vault'>, keys: SessionKeys): AsyncGenerator<Uint8Array> {
  yield* timelineLines(new LogReader(vault, keys), oldLineOf);
}

/** The index first, then the samples; chunks are read twice. `onRead` is called for each. */
export async function* video(
  { vault, media }: Pick<Shelf, 'vault' | 'media'>,
  chunks: readonly FrameChunk[],
  { chapters, onRead = () => undefined }: { chapters?: readonly Chapter[]; onRead?: () => void } = {},
): AsyncGenerator<Uint8Array> {
  const bodies = {
    async *[Symbol.asyncIterator]() {
      for (const chunk of chunks) {
        onRead();
        yield await readChunk(vault, chunk);
      }
    },
  };
  const init = await readInit(vault, chunks[0] as FrameChunk);
  yield* (await media.progressive(init, bodies, chapters)).stream;
}

async function poster({ vault }: Shelf, { poster: key }: SessionKeys): Promise<Artifact> {
  const stored = await vault.read(key);
  if (!stored) throw new DamagedError(key, 'is missing from the store');
  const { bytes, contentType } = stored;
  return { kind: 'POSTER', key, contentType, bytes: bytes.length, check: checksumOf(bytes) };
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
