/**
 * CMAF (ISO/IEC 23000-19): an init segment per session and one fragment per chunk. Written here rather than by a library
 * because muxers hold a fragment back until the next key frame arrives, which would be one whole chunk of delay.
 */
import { ascii, box, concat, findBox, fullBox, readBoxes, u16, u32, u64, u8, zeros } from './boxes.js';
import { decoderConfiguration, type ParameterSets } from './h264.js';

/** Every frame lasts this many ticks; a session's timescale is `fps` times as many per second. */
export const FRAME_TICKS = 1000;

export interface Sample {
  bytes: Uint8Array;
  key: boolean;
}

export interface SampleInfo {
  size: number;
  key: boolean;
}

export interface Track {
  width: number;
  height: number;
  fps: number;
  parameterSets: ParameterSets;
}

export const TRACK_ID = 1;
/** sample_flags: depends on no other sample / depends on others and is not a sync sample. */
const KEY_FLAGS = 0x02000000;
const DELTA_FLAGS = 0x01010000;
export const IDENTITY_MATRIX = u32(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000);

const sampleFlags = (key: boolean): number => (key ? KEY_FLAGS : DELTA_FLAGS);

/** Tables of a track whose samples are all in fragments. */
const EMPTY_TABLES = [
  fullBox('stts', 0, 0, u32(0)),
  fullBox('stsc', 0, 0, u32(0)),
  fullBox('stsz', 0, 0, u32(0, 0)),
  fullBox('stco', 0, 0, u32(0)),
];

/** `ftyp moov`: constant for a session. */
export function initSegment(track: Track): Uint8Array {
  const timescale = Math.round(track.fps * FRAME_TICKS);
  const entry = sampleEntry(track);
  const extends_ = box('mvex', fullBox('trex', 0, 0, u32(TRACK_ID, 1, FRAME_TICKS, 0, DELTA_FLAGS)));
  return concat([
    box('ftyp', ascii('iso6'), u32(0), ascii('iso6cmfcavc1')),
    movie({ ...track, timescale, entry, duration: 0, tables: EMPTY_TABLES }, extends_),
  ]);
}

/** `styp moof mdat` of one chunk whose first frame is `firstFrame` of the session. */
export function fragment(sequence: number, firstFrame: number, samples: readonly Sample[]): Uint8Array {
  const data = box('mdat', ...samples.map((sample) => sample.bytes));
  const build = (dataOffset: number): Uint8Array =>
    box(
      'moof',
      fullBox('mfhd', 0, 0, u32(sequence)),
      box(
        'traf',
        fullBox('tfhd', 0, 0x020000, u32(TRACK_ID)), // default-base-is-moof
        fullBox('tfdt', 1, 0, u64(firstFrame * FRAME_TICKS)),
        fullBox(
          'trun',
          0,
          0x000601, // data offset; size and flags per sample
          u32(samples.length, dataOffset),
          u32(...samples.flatMap(({ bytes, key }) => [bytes.length, sampleFlags(key)])),
        ),
      ),
    );
  const header = build(build(0).length + 8);
  return concat([box('styp', ascii('cmfs'), u32(0), ascii('cmfsiso6')), header, data]);
}

/** The samples of a fragment as `fragment` wrote it. */
export function readFragment(bytes: Uint8Array): { firstFrame: number; samples: SampleInfo[]; payload: Uint8Array } {
  const track = findBox(bytes, 'moof', 'traf');
  const run = findBox(track, 'trun');
  const samples = Array.from({ length: run.readUInt32BE(4) }, (_, i) => ({
    size: run.readUInt32BE(12 + i * 8),
    key: run.readUInt32BE(16 + i * 8) === KEY_FLAGS,
  }));
  const payload = findBox(bytes, 'mdat');
  if (samples.reduce((sum, sample) => sum + sample.size, 0) !== payload.length) {
    throw new RangeError('the fragment does not hold the samples that it lists');
  }
  return { firstFrame: Number(findBox(track, 'tfdt').readBigUInt64BE(4)) / FRAME_TICKS, samples, payload };
}

export interface MovieOptions {
  width: number;
  height: number;
  timescale: number;
  /** In ticks; zero when the samples are in fragments. */
  duration: number;
  /** The `avc1` box. */
  entry: Uint8Array;
  /** `stts stsc stsz stco` and what else describes the samples. */
  tables: readonly Uint8Array[];
  /** The `tref` box, of a track that others belong to. */
  references?: Uint8Array;
}

/** Created, modified: not recorded, so that equal input gives equal bytes. */
const TIMES = u64(0, 0);

/** Samples are in the file itself. */
export const DATA_HERE = box('dinf', fullBox('dref', 0, 0, u32(1), fullBox('url ', 0, 1)));

export function mediaHeader({ timescale, duration }: Pick<MovieOptions, 'timescale' | 'duration'>): Uint8Array {
  return fullBox('mdhd', 1, 0, TIMES, u32(timescale), u64(duration), u16(0x55c4, 0)); // language `und`
}

/** `flags`: 1 enabled, 2 in the movie. */
export function trackHeader(
  id: number,
  flags: number,
  { duration, width = 0, height = 0 }: { duration: number; width?: number; height?: number },
): Uint8Array {
  const place = [zeros(16), IDENTITY_MATRIX, u32(width * 0x10000, height * 0x10000)];
  return fullBox('tkhd', 1, flags, TIMES, u32(id, 0), u64(duration), ...place);
}

const isTrack = (bytes: Uint8Array): boolean => Buffer.from(bytes).toString('latin1', 4, 8) === 'trak';

/** `moov` with one video track, and what else belongs to it: tracks with the ids that follow, and user data. */
export function movie(options: MovieOptions, ...more: Uint8Array[]): Uint8Array {
  const { timescale, duration, references } = options;
  const header = fullBox(
    'mvhd',
    1,
    0,
    TIMES,
    u32(timescale),
    u64(duration),
    u32(0x10000), // rate 1
    u16(0x100), // volume 1
    zeros(10),
    IDENTITY_MATRIX,
    zeros(24),
    u32(TRACK_ID + 1 + more.filter(isTrack).length),
  );
  const media = box(
    'mdia',
    mediaHeader(options),
    fullBox('hdlr', 0, 0, u32(0), ascii('vide'), zeros(12), ascii('video\0')),
    box(
      'minf',
      fullBox('vmhd', 0, 1, zeros(8)),
      DATA_HERE,
      box('stbl', fullBox('stsd', 0, 0, u32(1), options.entry), ...options.tables),
    ),
  );
  return box(
    'moov',
    header,
    box('trak', trackHeader(TRACK_ID, 3, options), ...(references ? [references] : []), media),
    ...more,
  );
}

/** What `movie` needs to describe the same track again, taken from an init segment. */
export function readInit(init: Uint8Array): Pick<MovieOptions, 'width' | 'height' | 'timescale' | 'entry'> {
  const media = findBox(init, 'moov', 'trak', 'mdia');
  const description = findBox(media, 'minf', 'stbl', 'stsd').subarray(8);
  const [avc1] = readBoxes(description);
  if (avc1?.type !== 'avc1') throw new RangeError('the init segment does not describe an H.264 track');
  return {
    width: avc1.payload.readUInt16BE(24),
    height: avc1.payload.readUInt16BE(26),
    timescale: findBox(media, 'mdhd').readUInt32BE(20),
    entry: description,
  };
}

function sampleEntry({ width, height, parameterSets }: Track): Uint8Array {
  return box(
    'avc1',
    zeros(6),
    u16(1), // data reference
    zeros(16),
    u16(width, height),
    u32(0x480000, 0x480000, 0), // 72 dpi
    u16(1), // frames per sample
    zeros(32),
    u16(24, 0xffff),
    box('avcC', decoderConfiguration(parameterSets)),
    box('colr', ascii('nclx'), u16(1, 1, 1), u8(0)), // BT.709, limited range
  );
}
