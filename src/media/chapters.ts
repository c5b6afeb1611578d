/**
 * Chapters as players read them, in two ways since none is read by all: Nero's `chpl` list in the movie's user data (FFmpeg, and what
 * is built on it, such as mpv; VLC), and a text track that the video track refers to as its chapters (QuickTime and all of Apple's players;
 * FFmpeg and VLC, too).
 */
import type { Chapter } from '../sessions/ports.js';
import { ascii, box, concat, fullBox, u16, u32, u32Table, u64, u8, zeros } from './boxes.js';
import { DATA_HERE, IDENTITY_MATRIX, mediaHeader, TRACK_ID, trackHeader } from './cmaf.js';

/** A list has one byte for their number, and one for the length of a title. */
const MOST = 255;
const TICKS_PER_SECOND = 10_000_000;

/** Of a title in a text track. */
const LONGEST_TITLE = 1_000;

export const CHAPTER_TRACK_ID = TRACK_ID + 1;

/** `udta chpl`. Of too many, the first are in it. */
export function chapterList(chapters: readonly Chapter[]): Uint8Array {
  const listed = chapters.slice(0, MOST);
  const entries = listed.flatMap(({ seconds, title }) => {
    const text = shortened(title, MOST);
    return [u64(Math.round(seconds * TICKS_PER_SECOND)), u8(text.length), text];
  });
  return box('udta', fullBox('chpl', 1, 0, u32(0), u8(listed.length), ...entries));
}

/** `tref` of the track whose chapters these are. */
export const CHAPTER_REFERENCE = box('tref', box('chap', u32(CHAPTER_TRACK_ID)));

/** One text for each chapter, to be shown until the next. */
export class ChapterTrack {
  /** What `mdat` has of them, one after another. */
  readonly samples: Uint8Array;
  private readonly sizes: number[];
  private readonly durations: number[];

  /** `duration` in ticks, as the movie's; the first chapter begins with the movie. */
  constructor(
    chapters: readonly Chapter[],
    private readonly timescale: number,
    private readonly duration: number,
  ) {
    const texts = chapters.map(({ title }) => sampleOf(title));
    this.samples = concat(texts);
    this.sizes = texts.map(({ length }) => length);
    const starts = chapters.map(({ seconds }, i) =>
      i === 0 ? 0 : Math.min(duration, Math.round(seconds * timescale)),
    );
    this.durations = starts.map((start, i) => (starts[i + 1] ?? duration) - start);
  }

  /** `trak`, whose samples begin at this byte of the file. It is not enabled: nobody shows it over the picture. */
  box(start: number): Uint8Array {
    const { timescale, duration, sizes, durations } = this;
    const count = sizes.length;
    const tables = [
      fullBox('stts', 0, 0, u32(count), u32Table(durations.flatMap((ticks) => [1, ticks]))),
      fullBox('stsc', 0, 0, u32(1, 1, count, 1)),
      fullBox('stsz', 0, 0, u32(0, count), u32Table(sizes)),
      start > 0xffffffff ? fullBox('co64', 0, 0, u32(1), u64(start)) : fullBox('stco', 0, 0, u32(1, start)),
    ];
    return box(
      'trak',
      trackHeader(CHAPTER_TRACK_ID, 2, { duration }),
      box(
        'mdia',
        mediaHeader({ timescale, duration }),
        fullBox('hdlr', 0, 0, u32(0), ascii('text'), zeros(12), ascii('chapters\0')),
        box('minf', TEXT_MEDIA, DATA_HERE, box('stbl', fullBox('stsd', 0, 0, u32(1), TEXT_ENTRY), ...tables)),
      ),
    );
  }
}

/** QuickTime's header of text: all as usual. */
const TEXT_MEDIA = box(
  'gmhd',
  fullBox('gmin', 0, 0, u16(0x40, 0x8000, 0x8000, 0x8000, 0, 0)),
  box('text', IDENTITY_MATRIX),
);

/** A description of text that is never drawn: no box, no colours, one font without a name. */
const TEXT_ENTRY = box(
  'text',
  zeros(6),
  u16(1), // data reference
  u32(1), // display flags
  zeros(2 + 4 + 8), // justification, background, box
  u16(0, 0, 1, 0), // style: from, to, font, face and size
  zeros(4),
  box('ftab', u16(1, 1), u8(0)),
);

/** Its length, the text, and that it is UTF-8. */
function sampleOf(title: string): Uint8Array {
  const text = shortened(title, LONGEST_TITLE);
  return concat([u16(text.length), text, box('encd', u32(0x100))]);
}

/** No more than fits, and no half of a letter. */
function shortened(title: string, most: number): Uint8Array {
  const bytes = Buffer.from(title);
  if (bytes.length <= most) return bytes;
  let end = most;
  while ((bytes[end]! & 0xc0) === 0x80) end--;
  return bytes.subarray(0, end);
}
