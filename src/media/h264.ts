/**
 * The little of H.264 (ITU-T H.264) that a muxer must know: the sequence parameter set, rewritten to say what is true
 * of our streams, and the decoder configuration record that carries it.
 */
import { BitReader, BitWriter, escape, unescape } from './bits.js';
import { concat, u16, u8 } from './boxes.js';

export interface ParameterSets {
  /** NAL units without start code or length. */
  sps: Uint8Array;
  pps: Uint8Array;
}

const CONSTRAINED_BASELINE = { profile: 66, constraints: 0xc0 };

/** level_idc, largest frame in macroblocks, macroblocks per second (table A-1); 3 is the least we declare. */
const LEVELS: readonly (readonly [number, number, number])[] = [
  [30, 1620, 40_500],
  [31, 3600, 108_000],
  [32, 5120, 216_000],
  [40, 8192, 245_760],
  [42, 8704, 522_240],
  [50, 22_080, 589_824],
  [51, 36_864, 983_040],
  [52, 36_864, 2_073_600],
];

/** The lowest level that allows the size and rate. Level 3 leaves 10 Mbit/s even to the smallest pictures. */
export function levelFor(width: number, height: number, fps: number): number {
  const macroblocks = Math.ceil(width / 16) * Math.ceil(height / 16);
  const level = LEVELS.find(([, frame, rate]) => macroblocks <= frame && macroblocks * fps <= rate);
  if (!level) throw new RangeError(`${width}x${height} at ${fps} fps is beyond H.264 level 5.2`);
  return level[0];
}

/**
 * Rewrites a Baseline SPS as Constrained Baseline of the right level, with the VUI that the encoder leaves out: BT.709
 * limited range, and no reordering, so that a decoder shows every frame as soon as it has it.
 */
export function rewriteSps(sps: Uint8Array, level: number): Uint8Array {
  const rbsp = unescape(sps);
  const input = new BitReader(rbsp);
  const output = new BitWriter();
  const copyBits = (count: number): number => {
    const value = input.bits(count);
    output.bits(value, count);
    return value;
  };
  const copyUe = (): number => {
    const value = input.ue();
    output.ue(value);
    return value;
  };
  copyBits(8); // NAL header
  if (input.bits(8) !== CONSTRAINED_BASELINE.profile)
    throw new RangeError('the encoder did not write a Baseline stream');
  input.bits(16);
  output.bits(CONSTRAINED_BASELINE.profile, 8).bits(CONSTRAINED_BASELINE.constraints, 8).bits(level, 8);
  copyUe(); // seq_parameter_set_id
  copyUe(); // log2_max_frame_num_minus4
  const orderType = copyUe();
  if (orderType === 0) copyUe();
  else if (orderType !== 2) throw new RangeError(`picture order count type ${orderType} is not expected`);
  const references = copyUe();
  copyBits(1); // gaps_in_frame_num_value_allowed_flag
  copyUe(); // width in macroblocks
  copyUe(); // height in macroblocks
  if (copyBits(1) !== 1) throw new RangeError('the encoder wrote interlaced pictures');
  copyBits(1); // direct_8x8_inference_flag
  if (copyBits(1) === 1) for (let edge = 0; edge < 4; edge++) copyUe(); // cropping
  writeVui(output.bits(1, 1), references);
  return escape(output.rbsp());
}

function writeVui(output: BitWriter, references: number): void {
  output.bits(0, 2); // no aspect ratio, no overscan
  output.bits(1, 1).bits(5, 3).bits(0, 1); // video signal type: unspecified format, limited range
  output.bits(1, 1).bits(1, 8).bits(1, 8).bits(1, 8); // BT.709 primaries, transfer, matrix
  output.bits(0, 5); // no chroma location, timing, NAL HRD, VCL HRD, picture structure
  output.bits(1, 1).bits(1, 1); // bitstream restriction: vectors may cross picture borders
  output.ue(0).ue(0).ue(16).ue(16); // no limit on bytes, bits and vectors beyond the level's
  output.ue(0).ue(references); // max_num_reorder_frames, max_dec_frame_buffering
}

/** AVCDecoderConfigurationRecord (ISO/IEC 14496-15), with four-byte NAL lengths. */
export function decoderConfiguration({ sps, pps }: ParameterSets): Uint8Array {
  return concat([u8(1, sps[1]!, sps[2]!, sps[3]!, 0xff, 0xe1), u16(sps.length), sps, u8(1), u16(pps.length), pps]);
}

/** The first SPS and PPS of a decoder configuration record. */
export function parseDecoderConfiguration(record: Uint8Array): ParameterSets {
  const view = Buffer.from(record.buffer, record.byteOffset, record.length);
  const spsEnd = 8 + view.readUInt16BE(6);
  const ppsStart = spsEnd + 3;
  return {
    sps: view.subarray(8, spsEnd),
    pps: view.subarray(ppsStart, ppsStart + view.readUInt16BE(spsEnd + 1)),
  };
}

/** RFC 6381, e.g. `avc1.42c01e`. */
export function codecString(sps: Uint8Array): string {
  return `avc1.${Buffer.from(sps.subarray(1, 4)).toString('hex')}`;
}
