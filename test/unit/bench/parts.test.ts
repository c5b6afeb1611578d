import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { Parts } from '../../../bench/parts.js';

const run = promisify(execFile);

describe('the parts of a measurement', () => {
  it('say what runs, and give what came of it', async () => {
    const told: string[] = [];
    const parts = new Parts(60, (text) => told.push(text));
    expect(await parts.run('one', () => Promise.resolve(1))).toEqual([1]);
    expect(told.join('')).toMatch(/^one … \d+ s\n$/);
    expect(parts.left).toEqual([]);
  });

  it('end in time, with what they run', async () => {
    const parts = new Parts(0.2, () => undefined);
    const endless = ['-e', 'setInterval(() => undefined, 1000)'];
    expect(await parts.run('slow', (signal) => run(process.execPath, endless, { signal }))).toEqual([]);
    expect(parts.left).toEqual([{ part: 'slow', why: 'stopped after 0.2 s (--limit)' }]);
  });

  it('that fail are left out with the last words of the program, and others run', async () => {
    const parts = new Parts(60, () => undefined);
    const failing = ['-e', 'console.error("Traceback"); console.error("No module named torch"); process.exit(1)'];
    await parts.run('PyTorch', () => run(process.execPath, failing));
    expect(await parts.run('next', () => Promise.resolve(2))).toEqual([2]);
    expect(parts.left).toEqual([{ part: 'PyTorch', why: 'No module named torch' }]);
  });

  it('need a limit', () => {
    expect(() => new Parts(Number('soon'))).toThrow('--limit must be a number of seconds above 0.');
  });
});
