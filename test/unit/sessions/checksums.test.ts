import { describe, expect, it, vi } from 'vitest';
import type { StoredEvent } from '../../../src/sessions/index.js';
import { checksumOf, sealBytes, sealText, unsealBytes, unsealText } from '../../../src/sessions/stored/checksum.js';
import { pictureOf } from '../../support/fake-media.js';
import { chunksOf, expectWhole, makeWorld, read, readToEnd, type World } from '../../support/fake-service.js';

// Virtual time costs little, but a crowded machine may take its time over it.
vi.setConfig({ testTimeout: 60_000 });

const STORY = { prompt: 'a fox', maxSeconds: 12, pace: 'FASTEST' as const, seed: 3n };

async function pausedAt(world: World, block: number): Promise<string> {
  const { id } = await world.clock.until(world.service.createSession(STORY));
  await world.clock.until(read(world, id, {}, (event) => event.type === 'FrameChunk' && event.chunk === block));
  await world.clock.until(world.service.shutdown());
  return id;
}

function flip(world: World, key: string, at: number): void {
  const entry = world.store.objects.get(key);
  if (!entry) throw new Error(`no ${key}`);
  entry.bytes[at < 0 ? entry.bytes.length + at : at]! ^= 4;
}

const checkpoint = (id: string, blocks: number) =>
  `sessions/${id}/checkpoints/${String(blocks).padStart(6, '0')}.safetensors`;
const pictures = (events: StoredEvent[]) => chunksOf(events).map(({ data }) => pictureOf(data).picture);

describe('what is sealed', () => {
  const bytes = new TextEncoder().encode('a few bytes');

  it('is read as it was written, and so is what was never sealed', () => {
    expect(unsealBytes(sealBytes(bytes), 'k')).toEqual({ bytes: Buffer.from(bytes), sealed: true });
    expect(unsealBytes(bytes, 'k')).toEqual({ bytes, sealed: false });
    expect(unsealText(sealText('{"a":1}'), 'k')).toBe('{"a":1}');
    expect(unsealText('{"a":1}', 'k')).toBe('{"a":1}');
    expect(JSON.parse(sealText('{"a":1}'))).toEqual({ a: 1, check: checksumOf('{"a":1}') });
  });

  it('is not read when any bit of it has changed', () => {
    const sealed = sealBytes(bytes);
    for (let bit = 0; bit < 8 * sealed.length; bit++) {
      const damaged = Uint8Array.from(sealed);
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      // In the mark of the trailer: what it says then is longer than what was written, and no file of any kind.
      const inMark = bit >> 3 >= bytes.length && bit >> 3 < bytes.length + 8;
      if (inMark) expect(unsealBytes(damaged, 'k')).toMatchObject({ sealed: false });
      else expect(() => unsealBytes(damaged, 'k')).toThrow(/^k is damaged/);
    }
    expect(() => unsealBytes(new Uint8Array(), 'k')).toThrow('k is empty');
    expect(() => unsealText(sealText('{"a":1}').replace('1', '2'), 'k')).toThrow(/^k is damaged/);
  });
});

describe('a session with damage', () => {
  it.each([
    ['a flipped bit', (world: World, key: string) => flip(world, key, 3)],
    ['nothing in it', (world: World, key: string) => void (world.store.objects.get(key)!.bytes = new Uint8Array())],
    ['half of it gone', (world: World, key: string) => halve(world, key)],
    [
      'garbage in its place',
      (world: World, key: string) => void (world.store.objects.get(key)!.bytes = Buffer.from('x')),
    ],
  ])('goes on from the checkpoint before when the newest has %s', async (_what, damage) => {
    const world = makeWorld({ policy: { checkpointBlocks: 4 } });
    const id = await pausedAt(world, 8);
    const newest =
      [...world.store.objects.keys()]
        .filter((key) => key.includes('/checkpoints/'))
        .sort()
        .at(-1) ?? '';
    expect(newest > checkpoint(id, 8)).toBe(true);
    damage(world, newest);
    const next = makeWorld({ after: world });
    await next.clock.until(next.service.resumeSession(id));
    expectWhole(await readToEnd(next, id), 17);
    expect(next.engine.restoredAt).toEqual([8]);
  });

  it('begins anew when all checkpoints are damaged, and makes the very same', async () => {
    const whole = makeWorld();
    const { id: other } = await whole.clock.until(whole.service.createSession(STORY));
    const expected = pictures(await readToEnd(whole, other));
    const world = makeWorld({ policy: { checkpointBlocks: 4 } });
    const id = await pausedAt(world, 8);
    for (const key of world.store.objects.keys()) if (key.includes('/checkpoints/')) flip(world, key, 5);
    const next = makeWorld({ after: world });
    await next.clock.until(next.service.resumeSession(id));
    expect(pictures(await readToEnd(next, id))).toEqual(expected);
    expect(next.engine.opened).toEqual(['open']);
  });

  it.each(['chunks/000002.m4s', 'log/000000.jsonl', 'session.json'])('says so when %s is read', async (file) => {
    const world = makeWorld();
    const { id } = await world.clock.until(world.service.createSession(STORY));
    await readToEnd(world, id);
    flip(world, `sessions/${id}/${file}`, 40);
    const next = makeWorld({ after: world });
    await expect(readToEnd(next, id)).rejects.toMatchObject({
      code: 'STORAGE',
      message: expect.stringMatching(new RegExp(`sessions/${id}/${file} .*longlive fsck`)) as string,
    });
  });

  it('says so when its log is cut, or has lost a line', async () => {
    const world = makeWorld();
    const { id } = await world.clock.until(world.service.createSession(STORY));
    await readToEnd(world, id);
    const entry = world.store.objects.get(`sessions/${id}/log/000000.jsonl`)!;
    const text = new TextDecoder().decode(entry.bytes);
    entry.bytes = Buffer.from(text.slice(0, -30));
    await expect(readToEnd(makeWorld({ after: world }), id)).rejects.toThrow(/truncated in its last line/);
    entry.bytes = Buffer.from(text.split('\n').toSpliced(4, 2).join('\n'));
    await expect(readToEnd(makeWorld({ after: world }), id)).rejects.toThrow(/Line 5 of .*number 5/);
  });

  it('ends without an MP4 when a chunk is lost, and with everything else', async () => {
    const world = makeWorld({ policy: { checkpointBlocks: 4 } });
    const id = await pausedAt(world, 8);
    world.store.objects.delete(`sessions/${id}/chunks/000003.m4s`);
    const next = makeWorld({ after: world });
    await next.clock.until(next.service.resumeSession(id));
    await next.clock.until(read(next, id));
    const { artifacts } = await next.service.session(id);
    expect(artifacts.map(({ kind }) => kind)).toEqual(['HLS', 'POSTER', 'TIMELINE']);
  });
});

function halve(world: World, key: string): void {
  const entry = world.store.objects.get(key)!;
  entry.bytes = entry.bytes.slice(0, entry.bytes.length / 2);
}
