import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findBox, readBoxes } from '../../../src/media/boxes.js';
import { readFragment } from '../../../src/media/cmaf.js';
import { createMediaFactory } from '../../../src/media/index.js';
import { progressiveHeader } from '../../../src/media/progressive.js';
import { movingDisc } from './pictures.js';

const media = createMediaFactory({ threads: 1 });
afterAll(() => media.close());

/** An async iterable that may be iterated again and again. */
function each<T>(items: readonly T[]): AsyncIterable<T> {
  return {
    async *[Symbol.asyncIterator]() {
      yield* items;
    },
  };
}

async function collect(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}

describe('the progressive MP4', () => {
  let init: Uint8Array;
  const chunks: Uint8Array[] = [];

  beforeAll(async () => {
    const encoder = await media.open({ width: 96, height: 64, fps: 16 });
    init = encoder.init;
    let firstFrame = 0;
    for (const [block, count] of [9, 12, 12].entries()) {
      chunks.push((await encoder.encode(movingDisc({ block, firstFrame, count, width: 96, height: 64 }))).bytes);
      firstFrame += count;
    }
  });

  it('holds the very samples of the chunks, after its index', async () => {
    const { bytes, stream } = await media.progressive(init, each(chunks));
    const file = await collect(stream);
    expect(file).toHaveLength(bytes);
    expect(readBoxes(file).map((box) => box.type)).toEqual(['ftyp', 'moov', 'mdat']);
    const samples = Buffer.concat(chunks.map((chunk) => readFragment(chunk).payload));
    expect(findBox(file, 'mdat').equals(samples)).toBe(true);
  });

  it('lists chapters where players look for them, and still points at its samples', async () => {
    const chapters = [
      { seconds: 0, title: 'a fox' },
      { seconds: 1.5, title: `a r${'\u00f6'.repeat(200)}bot` },
    ];
    const { bytes, stream } = await media.progressive(init, each(chunks), chapters);
    const file = await collect(stream);
    expect(file).toHaveLength(bytes);
    const list = findBox(file, 'moov', 'udta', 'chpl');
    expect([list.readUInt8(0), list.readUInt8(8)]).toEqual([1, 2]);
    const found = [];
    for (let at = 9; at < list.length;) {
      const length = list.readUInt8(at + 8);
      found.push([Number(list.readBigUInt64BE(at)) / 1e7, list.toString('utf8', at + 9, at + 9 + length)]);
      at += 9 + length;
    }
    expect(found).toEqual([
      [0, 'a fox'],
      [1.5, `a r${'\u00f6'.repeat(126)}`],
    ]);
    const offsets = findBox(file, 'moov', 'trak', 'mdia', 'minf', 'stbl', 'stco');
    chunks.forEach((chunk, i) => {
      const { payload } = readFragment(chunk);
      const at = offsets.readUInt32BE(8 + 4 * i);
      expect(file.subarray(at, at + payload.length).equals(payload)).toBe(true);
    });
  });

  it('has them in a track of texts, too, that its video refers to and nobody shows', async () => {
    const chapters = [
      { seconds: 0, title: 'a fox' },
      { seconds: 9 / 16, title: `a r${'\u00f6'.repeat(200)}bot` },
      { seconds: 21 / 16, title: '' },
    ];
    const { stream } = await media.progressive(init, each(chunks), chapters);
    const file = await collect(stream);
    const [video, texts] = readBoxes(findBox(file, 'moov')).filter(({ type }) => type === 'trak');
    const header = findBox(texts!.payload, 'tkhd');
    expect(findBox(video!.payload, 'tref', 'chap').readUInt32BE(0)).toBe(header.readUInt32BE(20));
    // In the movie, but not enabled.
    expect(header.readUInt32BE(0)).toBe(0x01000002);
    expect(findBox(texts!.payload, 'mdia', 'hdlr').toString('latin1', 8, 12)).toBe('text');
    const tables = findBox(texts!.payload, 'mdia', 'minf', 'stbl');
    expect(readBoxes(findBox(tables, 'stsd').subarray(8)).map(({ type }) => type)).toEqual(['text']);
    const timescale = findBox(texts!.payload, 'mdia', 'mdhd').readUInt32BE(20);
    let [start, at] = [0, findBox(tables, 'stco').readUInt32BE(8)];
    const found = chapters.map((_, i) => {
      const length = file.readUInt16BE(at);
      const chapter = { seconds: start / timescale, title: file.toString('utf8', at + 2, at + 2 + length) };
      start += findBox(tables, 'stts').readUInt32BE(12 + 8 * i);
      at += findBox(tables, 'stsz').readUInt32BE(12 + 4 * i);
      return chapter;
    });
    expect(found).toEqual(chapters);
    expect(start / timescale).toBe(33 / 16);
  });

  it('has neither without chapters', async () => {
    const file = await collect((await media.progressive(init, each(chunks))).stream);
    expect(readBoxes(findBox(file, 'moov')).map(({ type }) => type)).toEqual(['mvhd', 'trak']);
    expect(readBoxes(findBox(file, 'moov', 'trak')).map(({ type }) => type)).toEqual(['tkhd', 'mdia']);
  });

  it('points at each chunk and each key frame', async () => {
    const file = await collect((await media.progressive(init, each(chunks))).stream);
    const tables = findBox(file, 'moov', 'trak', 'mdia', 'minf', 'stbl');
    const offsets = findBox(tables, 'stco');
    chunks.forEach((chunk, i) => {
      const { payload } = readFragment(chunk);
      const start = offsets.readUInt32BE(8 + i * 4);
      expect(file.subarray(start, start + payload.length).equals(payload)).toBe(true);
    });
    const keys = findBox(tables, 'stss');
    expect([0, 1, 2].map((i) => keys.readUInt32BE(8 + i * 4))).toEqual([1, 10, 22]);
    expect(findBox(tables, 'stts').readUInt32BE(8)).toBe(33);
    expect(findBox(file, 'moov', 'mvhd').readBigUInt64BE(24)).toBe(33_000n);
  });

  it('uses 64-bit sizes and offsets when four gigabytes are not enough', () => {
    const huge = Array.from({ length: 10 }, () => [{ size: 0x40000000, key: true }]);
    const header = Buffer.from(progressiveHeader(init, huge));
    const moov = readBoxes(header.subarray(0, header.length - 16))[1]!;
    const offsets = findBox(moov.payload, 'trak', 'mdia', 'minf', 'stbl', 'co64');
    expect(Number(offsets.readBigUInt64BE(8))).toBe(header.length);
    expect(Number(offsets.readBigUInt64BE(8 + 9 * 8))).toBe(header.length + 9 * 0x40000000);
    expect(Number(header.readBigUInt64BE(header.length - 8))).toBe(10 * 0x40000000 + 16);
  });

  it('indexes hours of video', () => {
    const hours = Array.from({ length: 14_400 }, () =>
      Array.from({ length: 12 }, (_, n) => ({ size: 700, key: n === 0 })),
    );
    expect(progressiveHeader(init, hours).length).toBeGreaterThan(14_400 * 12 * 4);
  });

  it('refuses broken chunks, and chunks that can be read only once', async () => {
    await expect(media.progressive(init, each([chunks[0]!, chunks[1]!.subarray(0, 400)]))).rejects.toThrow(RangeError);
    const once = each(chunks)[Symbol.asyncIterator]() as AsyncGenerator<Uint8Array>;
    await expect(collect((await media.progressive(init, once)).stream)).rejects.toThrow('the chunks changed');
  });
});

describe('the playlist', () => {
  it('grows while the session lives and ends with it', () => {
    const chunks = [
      { uri: 'chunks/0.m4s', durationSeconds: 9 / 16 },
      { uri: 'chunks/1.m4s', durationSeconds: 0.75 },
    ];
    const live = media.playlist(chunks, 'init.mp4', { ended: false });
    expect(live.split('\n')).toEqual([
      '#EXTM3U',
      '#EXT-X-VERSION:7',
      '#EXT-X-TARGETDURATION:1',
      '#EXT-X-MEDIA-SEQUENCE:0',
      '#EXT-X-PLAYLIST-TYPE:EVENT',
      '#EXT-X-INDEPENDENT-SEGMENTS',
      '#EXT-X-MAP:URI="init.mp4"',
      '#EXTINF:0.562500,',
      'chunks/0.m4s',
      '#EXTINF:0.750000,',
      'chunks/1.m4s',
      '',
    ]);
    expect(media.playlist(chunks, 'init.mp4', { ended: true })).toBe(`${live}#EXT-X-ENDLIST\n`);
  });
});

describe('the playlist of a long session', () => {
  const chunks = Array.from({ length: 200 }, (_, i) => ({ uri: `chunks/${i}.m4s`, durationSeconds: 0.5 }));
  const count = (text: string) => text.match(/m4s/g)?.length;

  it('offers updates, and gives to whoever has the rest what is new', () => {
    const whole = media.playlist(chunks, 'init.mp4', { ended: false });
    expect(whole).toContain('#EXT-X-VERSION:7\n');
    expect(whole).toContain('#EXT-X-SERVER-CONTROL:CAN-SKIP-UNTIL=60\n');
    expect(count(whole)).toBe(200);
    const update = media.playlist(chunks, 'init.mp4', { ended: false, delta: true });
    expect(update.split('\n').slice(0, 11)).toEqual([
      ...['#EXTM3U', '#EXT-X-VERSION:9', '#EXT-X-TARGETDURATION:1', '#EXT-X-MEDIA-SEQUENCE:0'],
      ...['#EXT-X-PLAYLIST-TYPE:EVENT', '#EXT-X-INDEPENDENT-SEGMENTS', '#EXT-X-SERVER-CONTROL:CAN-SKIP-UNTIL=60'],
      ...['#EXT-X-SKIP:SKIPPED-SEGMENTS=80', '#EXT-X-MAP:URI="init.mp4"', '#EXTINF:0.500000,', 'chunks/80.m4s'],
    ]);
    expect(count(update)).toBe(120);
    expect(update.endsWith('chunks/199.m4s\n')).toBe(true);
  });

  it('keeps six times its longest chunk in an update', () => {
    const slow = chunks.map((chunk) => ({ ...chunk, durationSeconds: 12 }));
    const update = media.playlist(slow, 'init.mp4', { ended: false, delta: true });
    expect(update).toContain('CAN-SKIP-UNTIL=72\n');
    expect(update).toContain('SKIPPED-SEGMENTS=194\n');
  });

  it('is whole when it has ended, and while it is short', () => {
    const ended = media.playlist(chunks, 'init.mp4', { ended: true, delta: true });
    expect([count(ended), ended.includes('SKIP')]).toEqual([200, false]);
    const short = media.playlist(chunks.slice(0, 100), 'init.mp4', { ended: false, delta: true });
    expect([count(short), short.includes('SKIP')]).toEqual([100, false]);
  });
});

describe('the poster', () => {
  it('shows the chosen frame in its true colours', async () => {
    const [width, height] = [64, 32];
    const luma = width * height;
    const frame = (y: number, cb: number, cr: number): Uint8Array =>
      new Uint8Array((luma * 3) / 2)
        .fill(y, 0, luma)
        .fill(cb, luma, (luma * 5) / 4)
        .fill(cr, (luma * 5) / 4);
    const i420 = Buffer.concat([frame(16, 128, 128), frame(63, 102, 240)]); // black, BT.709 red
    const { bytes, contentType } = await media.poster({ block: 0, firstFrame: 0, count: 2, width, height, i420 }, 1);
    expect(contentType).toBe('image/webp');
    const { data, info } = await sharp(bytes).raw().toBuffer({ resolveWithObject: true });
    expect(info).toMatchObject({ width, height });
    const [red, green, blue] = data.subarray((luma / 2) * info.channels);
    expect(red).toBeGreaterThan(240);
    expect(green).toBeLessThan(15);
    expect(blue).toBeLessThan(15);
  });

  it('refuses a frame that is not there', async () => {
    const frames = movingDisc({ count: 2, width: 64, height: 64 });
    await expect(media.poster(frames, 2)).rejects.toThrow('index must be a whole number from 0 to 1');
  });
});
