import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { EXIT } from '../../../src/cli/failure.js';
import { fsckCommand } from '../../../src/cli/fsck.js';
import type { SessionReport } from '../../../src/sessions/index.js';

/** On sessions that an earlier release wrote. */
const DATA = fileURLToPath(new URL('../../data', import.meta.url));
const { finished, paused } = JSON.parse(readFileSync(join(DATA, 'sessions-1.json'), 'utf8')) as Record<string, string>;

let root: string;
let printed: string;
const write = vi.spyOn(process.stdout, 'write');

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'longlive-fsck-'));
  cpSync(join(DATA, 'sessions-1'), root, { recursive: true });
  printed = '';
  write.mockImplementation((text) => ((printed += text as string), true));
});
afterEach(() => {
  write.mockReset();
  rmSync(root, { recursive: true, force: true });
});

const fsck = (...words: string[]) =>
  fsckCommand()
    .exitOverride()
    .parseAsync([...words, '--store', root], { from: 'user' });
const path = (id: string | undefined, file: string) => join(root, `sessions/${id}/${file}`);

it('finds sessions of an earlier release whole', async () => {
  await fsck('--all');
  expect(printed.split('\n').filter((line) => / whole /.test(line))).toHaveLength(6);
});

it('finds what is wrong without checksums too, and repairs it when told', async () => {
  truncateSync(path(paused, 'checkpoints/000010.safetensors'), 1_000);
  unlinkSync(path(finished, 'video.mp4'));
  await expect(fsck('--all')).rejects.toMatchObject({ exitCode: EXIT.damaged, message: /^2 of 6/ });
  expect(printed).toContain('checkpoints/000010.safetensors is truncated or damaged (see --repair)');
  await fsck('--all', '--repair');
  expect(printed).toContain('video.mp4 is missing from the store (repaired: made again)');
  printed = '';
  await fsck('--json', `Session:${finished}`);
  expect(JSON.parse(printed) as SessionReport).toEqual({
    ...{ sessionId: finished, state: 'COMPLETED', chunks: 5, checkpoints: 2, findings: [] },
  });
});

it('wants to know which sessions, and that they are sessions', async () => {
  await expect(fsck()).rejects.toMatchObject({ exitCode: EXIT.usage });
  await expect(fsck('--all', `${finished}`)).rejects.toMatchObject({ exitCode: EXIT.usage });
  await expect(fsck('../..')).rejects.toMatchObject({ exitCode: EXIT.usage });
});

it('says that there is nothing to check, and refuses a store that is not there or another one', async () => {
  rmSync(join(root, 'sessions'), { recursive: true });
  rmSync(join(root, 'by-date'), { recursive: true, force: true });
  rmSync(join(root, 'unfinished'), { recursive: true, force: true });
  await fsck('--all');
  expect(printed).toBe(`There are no sessions in ${root}.\n`);
  printed = '';
  await fsck('--all', '--json');
  expect(printed).toBe('');
  const deployment = ['--deployment', 'a'.repeat(16)];
  await expect(fsck('--all', ...deployment)).rejects.toThrow(/should have the deployment "a+", but has none/);
  rmSync(root, { recursive: true });
  await expect(fsck('--all')).rejects.toMatchObject({
    exitCode: EXIT.storage,
    message: expect.stringMatching(/^There is no store at .*Check the path in --store/) as string,
  });
  expect(existsSync(root)).toBe(false);
});

it('tells a session of a later release from a damaged one', async () => {
  const record = JSON.parse(readFileSync(path(finished, 'session.json'), 'utf8')) as object;
  writeFileSync(path(finished, 'session.json'), JSON.stringify({ ...record, formatVersion: 99 }));
  await expect(fsck('--all')).rejects.toMatchObject({
    exitCode: EXIT.damaged,
    message: '1 of 6 cannot be read by this release; a later one wrote them.',
  });
  expect(printed).toContain(`${finished}: not readable by this release\n`);
  expect(printed).toContain('has format version 99; this release reads versions 1 to 2 (use the release that wrote it');
  expect(printed.split('\n').filter((line) => / whole /.test(line))).toHaveLength(5);
  await fsck(`${paused}`);
});
