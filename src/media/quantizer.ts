/**
 * A chunk at another quantizer than its session began with. Encoders write the quantizer that they were opened with into the
 * picture parameter set, which must not change within a track; but every slice says how far it is from that one. So the slices
 * are told to say it from the session's, and the chunk decodes behind the session's own parameter sets, bit for bit the same.
 */
import type { EncodedPictures } from '../sessions/ports.js';
import { BitReader, escape, replaceCode, unescape } from './bits.js';
import { u32 } from './boxes.js';
import type { Sample } from './cmaf.js';
import type { ParameterSets } from './h264.js';

/** The samples as they are behind a session's parameter sets. Throws where these differ in more than the quantizer. */
export function samplesBehind(expected: ParameterSets, { parameterSets, samples }: EncodedPictures): Sample[] {
  if (!same(parameterSets.sps, expected.sps)) throw changed();
  if (same(parameterSets.pps, expected.pps)) return samples;
  const theirs = readPps(parameterSets.pps);
  const ours = readPps(expected.pps);
  const { rbsp, from, to } = theirs;
  if (!same(escape(replaceCode(rbsp, from, to, ours.quantizer)), expected.pps)) throw changed();
  const layout = { ...readSps(expected.sps), ...theirs };
  const shift = theirs.quantizer - ours.quantizer;
  return samples.map(({ bytes, key }) => ({ bytes: shiftQuantizer(bytes, shift, layout), key }));
}

/** The quantizer of every slice of a sample, as a decoder behind these parameter sets reads it. */
export function sliceQuantizers(sample: Uint8Array, { sps, pps }: ParameterSets): number[] {
  const layout = { ...readSps(sps), ...readPps(pps) };
  return nalUnits(sample).map((nal) => 26 + layout.quantizer + findDelta(unescape(nal), layout).value);
}

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
const changed = (): Error => new Error('the encoder changed its parameter sets within a session');

/** What a reader of slice headers must know of the parameter sets. */
interface Layout {
  frameNumBits: number;
  /** 0: the order of pictures is that of decoding. */
  orderBits: number;
}

function readSps(sps: Uint8Array): Layout {
  const input = new BitReader(unescape(sps));
  input.bits(32); // NAL header, profile, constraints, level
  input.ue();
  const frameNumBits = input.ue() + 4;
  return { frameNumBits, orderBits: input.ue() === 0 ? input.ue() + 4 : 0 };
}

interface Pps {
  rbsp: Uint8Array;
  /** pic_init_qp_minus26, and where its code lies. */
  quantizer: number;
  from: number;
  to: number;
}

/** Of a Baseline stream without slice groups. */
function readPps(pps: Uint8Array): Pps {
  const rbsp = unescape(pps);
  const input = new BitReader(rbsp);
  input.bits(8); // NAL header
  input.ue(); // pic_parameter_set_id
  input.ue(); // seq_parameter_set_id
  const entropyAndFields = input.bits(2);
  if (entropyAndFields !== 0 || input.ue() !== 0) throw new RangeError('the encoder did not write a Baseline stream');
  input.ue(); // num_ref_idx_l0_default_active_minus1
  input.ue(); // num_ref_idx_l1_default_active_minus1
  if (input.bits(3) !== 0) throw new RangeError('the encoder predicts with weights');
  const from = input.position;
  const quantizer = input.se();
  return { rbsp, quantizer, from, to: input.position };
}

/** The NAL units of a sample, each behind its length in four bytes. */
function nalUnits(sample: Uint8Array): Uint8Array[] {
  const bytes = Buffer.from(sample.buffer, sample.byteOffset, sample.length);
  const units: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += 4 + bytes.readUInt32BE(at))
    units.push(bytes.subarray(at + 4, at + 4 + bytes.readUInt32BE(at)));
  return units;
}

function shiftQuantizer(sample: Uint8Array, shift: number, layout: Layout): Uint8Array {
  const units = nalUnits(sample).flatMap((nal) => {
    const rbsp = unescape(nal);
    const { value, from, to } = findDelta(rbsp, layout);
    const shifted = escape(replaceCode(rbsp, from, to, value + shift));
    return [u32(shifted.length), shifted];
  });
  return Buffer.concat(units);
}

const IDR = 5;
const SLICE = 1;

/** slice_qp_delta of a slice of I or P macroblocks (7.3.3), and where its code lies. */
function findDelta(rbsp: Uint8Array, { frameNumBits, orderBits }: Layout): { value: number; from: number; to: number } {
  const input = new BitReader(rbsp);
  const reference = input.bits(3) !== 0;
  const type = input.bits(5);
  if (type !== IDR && type !== SLICE) throw new RangeError(`NAL unit type ${type} is not expected in a sample`);
  input.ue(); // first_mb_in_slice
  const predicted = requirePlainSlice(input.ue() % 5);
  input.ue(); // pic_parameter_set_id
  input.bits(frameNumBits);
  if (type === IDR) input.ue(); // idr_pic_id
  input.bits(orderBits);
  if (predicted) skipReferenceLists(input);
  if (reference) skipMarking(input, type === IDR);
  const from = input.position;
  const value = input.se();
  return { value, from, to: input.position };
}

/** Whether the slice is predicted from earlier pictures: P rather than I. */
function requirePlainSlice(type: number): boolean {
  if (type !== 0 && type !== 2) throw new RangeError(`slice type ${type} is not expected`);
  return type === 0;
}

function skipReferenceLists(input: BitReader): void {
  if (input.bits(1) === 1) input.ue(); // num_ref_idx_l0_active_minus1
  if (input.bits(1) === 1) while (input.ue() !== 3) input.ue(); // ref_pic_list_modification
}

function skipMarking(input: BitReader, idr: boolean): void {
  if (idr) {
    input.bits(2); // no_output_of_prior_pics_flag, long_term_reference_flag
  } else if (input.bits(1) === 1) {
    for (let operation = input.ue(); operation !== 0; operation = input.ue()) {
      if (operation !== 5) input.ue();
      if (operation === 3) input.ue();
    }
  }
}
