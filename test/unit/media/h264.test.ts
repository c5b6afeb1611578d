import { describe, expect, it } from 'vitest';
import {
  codecString,
  decoderConfiguration,
  levelFor,
  parseDecoderConfiguration,
  rewriteSps,
} from '../../../src/media/h264.js';

/** What the encoder writes for 192x112: Baseline, level 1, no VUI. */
const SPS = Buffer.from('6742000aa6830f90', 'hex');
const PPS = Buffer.from('68ce09c8', 'hex');

describe('the sequence parameter set', () => {
  it('becomes Constrained Baseline of the given level', () => {
    expect(codecString(rewriteSps(SPS, 30))).toBe('avc1.42c01e');
    expect(codecString(rewriteSps(SPS, 31))).toBe('avc1.42c01f');
  });

  it('is longer by the VUI and needs no second rewrite', () => {
    const once = rewriteSps(SPS, 30);
    expect(once.length).toBeGreaterThan(SPS.length);
    expect(Buffer.compare(rewriteSps(once, 30), once)).toBe(0);
  });

  it('is refused when it is not what we know', () => {
    expect(() => rewriteSps(Buffer.from('674d000aa6830f90', 'hex'), 30)).toThrow('Baseline');
    expect(() => rewriteSps(SPS.subarray(0, 6), 30)).toThrow('cut off');
  });

  it('travels in the decoder configuration', () => {
    expect(parseDecoderConfiguration(decoderConfiguration({ sps: SPS, pps: PPS }))).toEqual({ sps: SPS, pps: PPS });
  });
});

describe('levels', () => {
  it.each([
    [192, 112, 16, 30],
    [832, 480, 16, 30],
    [832, 480, 30, 31],
    [1280, 720, 30, 31],
    [1920, 1080, 30, 40],
  ])('%ix%i at %i fps needs %i', (width, height, fps, level) => {
    expect(levelFor(width, height, fps)).toBe(level);
  });
});
