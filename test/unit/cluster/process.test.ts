import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { expect, it } from 'vitest';
import { describeProcess, hasEnded } from '../../../src/cluster/process.js';

it.skipIf(!existsSync('/proc/self/stat'))('knows of a process of this machine whether it has ended', async () => {
  expect(hasEnded(describeProcess())).toBe(false);
  const child = spawn(process.execPath, ['-e', 'setInterval(() => 0, 1e6)'], { stdio: 'ignore' });
  const description = describeProcess(child.pid);
  expect(hasEnded(description)).toBe(false);
  child.kill('SIGKILL');
  await once(child, 'exit');
  expect(hasEnded(description)).toBe(true);
});

it('claims nothing of a process of which it does not know', () => {
  const [, space, pid, begun] = describeProcess().split(' ');
  expect(hasEnded(['another-machine', space, pid, `${begun}0`].join(' '))).toBe(false);
  expect(hasEnded('')).toBe(false);
  expect(hasEnded('undefined undefined 1 1')).toBe(false);
});
