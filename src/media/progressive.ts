/**
 * The finished video: the samples of all chunks, not re-encoded, in one MP4 whose index comes first so that playback can
 * start while it downloads.
 */
import { ascii, box, concat, fullBox, u32, u32Table, u64, u64Table } from './boxes.js';
import type { Chapter } from '../sessions/ports.js';
import { CHAPTER_REFERENCE, chapterList, ChapterTrack } from './chapters.js';
import { FRAME_TICKS, movie, readFragment, readInit, type SampleInfo } from './cmaf.js';

/**
 * Goes through the chunks twice, since the index must be written before the first sample and tells every sample's size:
 * once now, once as the stream is read. Neither memory nor disk ever holds the whole video.
 */
export async function progressive(
  init: Uint8Array,
  chunks: AsyncIterable<Uint8Array>,
  chapters: readonly Chapter[] = [],
): Promise<{ bytes: number; stream: AsyncIterable<Uint8Array> }> {
  const fragments: SampleInfo[][] = [];
  for await (const chunk of chunks) fragments.push(readFragment(chunk).samples);
  const header = progressiveHeader(init, fragments, chapters);
  const bytes = header.length + totalSize(fragments.flat());
  return { bytes, stream: headerThenSamples(header, chunks, bytes) };
}

async function* headerThenSamples(
  header: Uint8Array,
  chunks: AsyncIterable<Uint8Array>,
  bytes: number,
): AsyncGenerator<Uint8Array> {
  yield header;
  let written = header.length;
  for await (const chunk of chunks) {
    const { payload } = readFragment(chunk);
    written += payload.length;
    yield payload;
  }
  if (written !== bytes) throw new Error(`the chunks changed: ${written} bytes instead of ${bytes}`);
}

const totalSize = (samples: readonly SampleInfo[]): number => samples.reduce((sum, sample) => sum + sample.size, 0);

/** Everything before the first frame: `ftyp moov`, the header of `mdat`, and in that the titles of chapters. */
export function progressiveHeader(
  init: Uint8Array,
  fragments: readonly (readonly SampleInfo[])[],
  chapters: readonly Chapter[] = [],
): Uint8Array {
  const track = readInit(init);
  const samples = fragments.flat();
  const sizes = fragments.map(totalSize);
  const tables = sampleTables(fragments, samples);
  const duration = samples.length * FRAME_TICKS;
  const fileType = box('ftyp', ascii('isom'), u32(0x200), ascii('isomiso2avc1mp41'));
  const titles = chapters.length > 0 ? new ChapterTrack(chapters, track.timescale, duration) : undefined;
  const titleBytes = titles?.samples ?? new Uint8Array();
  const mediaHeader = mdatHeader(titleBytes.length + totalSize(samples));
  const more = (start: number) => (titles ? [titles.box(start), chapterList(chapters)] : []);
  const references = titles && { references: CHAPTER_REFERENCE };
  const index = (start: number): Uint8Array =>
    movie(
      { ...track, ...references, duration, tables: [...tables, chunkOffsets(sizes, start + titleBytes.length)] },
      ...more(start),
    );
  // The index's own length moves the samples; it grows once at most, when their offsets outgrow 32 bits.
  let moov = index(0);
  for (let length = -1; length !== moov.length;) {
    length = moov.length;
    moov = index(fileType.length + length + mediaHeader.length);
  }
  return concat([fileType, moov, mediaHeader, titleBytes]);
}

function mdatHeader(payload: number): Uint8Array {
  const size = payload + 8;
  return size <= 0xffffffff ? concat([u32(size), ascii('mdat')]) : concat([u32(1), ascii('mdat'), u64(size + 8)]);
}

/** When, where and how large: the tables that do not depend on where in the file the samples begin. */
function sampleTables(fragments: readonly (readonly SampleInfo[])[], samples: readonly SampleInfo[]): Uint8Array[] {
  const keys = samples.flatMap((sample, i) => (sample.key ? [i + 1] : []));
  const runs = fragments.flatMap((fragment, i) =>
    fragment.length === fragments[i - 1]?.length ? [] : [i + 1, fragment.length, 1],
  );
  return [
    fullBox('stts', 0, 0, u32(1, samples.length, FRAME_TICKS)),
    fullBox('stss', 0, 0, u32(keys.length), u32Table(keys)),
    fullBox('stsc', 0, 0, u32(runs.length / 3), u32Table(runs)),
    fullBox('stsz', 0, 0, u32(0, samples.length), u32Table(samples.map((sample) => sample.size))),
  ];
}

/** Where each fragment's samples begin, the first at byte `start` of the file. */
function chunkOffsets(sizes: readonly number[], start: number): Uint8Array {
  let next = start;
  const offsets = sizes.map((size) => (next += size) - size);
  return (offsets.at(-1) ?? 0) > 0xffffffff
    ? fullBox('co64', 0, 0, u32(offsets.length), u64Table(offsets))
    : fullBox('stco', 0, 0, u32(offsets.length), u32Table(offsets));
}
