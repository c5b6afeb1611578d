import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { exportCommand } from '../../../src/cli/export.js';
import { EXIT } from '../../../src/cli/failure.js';
import { findBox, readBoxes } from '../../../src/media/boxes.js';
import { failureOf } from '../../support/failure.js';

/** What a release before exports left: see sessions-1.json. */
const STORE = new URL('../../data/sessions-1', import.meta.url).pathname;
const MADE = JSON.parse(readFileSync(`${STORE}.json`, 'utf8')) as Record<string, string>;

// The native parts of the encoder are read, on machines that may be busy.
vi.setConfig({ testTimeout: 60_000 });

let root: string;
let said: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'longlive-export-'));
  said = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    said += String(text);
    return true;
  });
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(root, { recursive: true, force: true });
});

const run = (...words: string[]) =>
  exportCommand()
    .exitOverride()
    .configureOutput({ writeErr: () => undefined })
    .parseAsync(['--store', STORE, '--out', join(root, 'part.mp4'), ...words], { from: 'user' });

const failure = (...words: string[]) => failureOf(run(...words));

describe('longlive export', () => {
  it('writes a part of a session, its chapters and its timeline, straight from the store', async () => {
    await run(MADE['finished'] as string, '--from', '1', '--to', '2.5');
    const file = readFileSync(join(root, 'part.mp4'));
    expect(readBoxes(file).map(({ type }) => type)).toEqual(['ftyp', 'moov', 'mdat']);
    const lines = readFileSync(join(root, 'part.mp4.jsonl'), 'utf8').trim().split('\n');
    const timeline = lines.map((line) => JSON.parse(line) as { seconds: number; prompt: string });
    expect(timeline[0]?.seconds).toBe(0);
    expect(findBox(file, 'moov', 'udta', 'chpl').readUInt8(8)).toBe(timeline.length);
    expect(said).toMatch(/part\.mp4: 0\.\d+ to [23]\.\d+ s of the session, \d chapters?\n$/);
  });

  it('takes the id as the API gives it, and all that there is', async () => {
    await run(`Session:${MADE['paused']}`);
    const video = findBox(readFileSync(join(root, 'part.mp4')), 'moov', 'trak', 'mdia', 'minf', 'stbl', 'stts');
    const frames = readFileSync(join(STORE, 'sessions', MADE['paused'] as string, 'log/000000.jsonl'), 'utf8')
      .split('\n')
      .filter((line) => line.includes('"FrameChunk"'))
      .reduce((sum, line) => sum + (JSON.parse(line) as { frameCount: number }).frameCount, 0);
    expect(video.readUInt32BE(8)).toBe(frames);
  });

  it.each([
    ['a session that is not there', ['0'.repeat(26)], /sessions-1 has no session 0{26}/],
    ['a range that is none', [MADE['finished'] as string, '--from', '2', '--to', '1'], /after|before|seconds/i],
    ['a range behind the end', [MADE['finished'] as string, '--from', '99'], /at least 0 and less than/],
  ])('says what is wrong with %s, and leaves no file', async (_what, words, message) => {
    expect((await failure(...words)).message).toMatch(message);
    expect(existsSync(join(root, 'part.mp4'))).toBe(false);
  });

  it('says that the file cannot be written', async () => {
    const out = join(root, 'no', 'such', 'part.mp4');
    expect(await failure(MADE['finished'] as string, '--out', out)).toMatchObject({ exitCode: EXIT.storage });
  });
});
