import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import { EncoderPool, type EncodeJob } from '../../../src/media/encoder-pool.js';
import { readBoxes } from '../../../src/media/boxes.js';
import { movingDisc } from './pictures.js';

const job = (): EncodeJob => ({
  width: 64,
  height: 64,
  fps: 16,
  frames: movingDisc({ count: 2, width: 64, height: 64 }).i420,
  quantizer: 24,
  speed: 10,
});

describe('the encoder threads', () => {
  let pool: EncoderPool;
  afterEach(() => pool.close());

  it('give every chunk its own answer, however many wait', async () => {
    pool = new EncoderPool(2);
    const files = await Promise.all(Array.from({ length: 9 }, () => pool.encode(job())));
    for (const file of files) expect(readBoxes(file).map((box) => box.type)).toContain('moov');
  });

  it('fail one chunk and go on with the next', async () => {
    pool = new EncoderPool(1);
    const bad = pool.encode({ ...job(), width: 63 });
    const good = pool.encode(job());
    await expect(bad).rejects.toThrow('H.264 encoding failed');
    expect((await good).length).toBeGreaterThan(100);
  });
});

describe('the threads of the service', () => {
  it('run from the sources, as tsx loads them', { timeout: 60_000 }, async () => {
    const script = fileURLToPath(new URL('../../support/threads.ts', import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', script]);
    const digest = createHash('sha256').update(new Uint8Array(1)).digest('hex');
    expect(JSON.parse(stdout)).toEqual({ encoded: true, digest });
  });
});
