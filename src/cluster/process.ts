/** Which process this is, and whether another one on the same machine has ended: the kernel knows that at once. */

import { readFileSync, readlinkSync } from 'node:fs';

/** The machine since its start and the space of process numbers, which stay the same; undefined where that is unknown. */
const HERE = (() => {
  try {
    return `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()} ${readlinkSync('/proc/self/ns/pid')}`;
  } catch {
    return undefined;
  }
})();

/** Where the process is, its number, and when it began; empty where that is unknown. */
export function describeProcess(pid: number | 'self' = 'self'): string {
  try {
    return HERE === undefined ? '' : `${HERE} ${pid === 'self' ? process.pid : pid} ${begunAt(pid)}`;
  } catch {
    return '';
  }
}

/** True only if it is certain. */
export function hasEnded(description: string): boolean {
  const [boot, space, pid, begun] = description.split(' ');
  if (`${boot} ${space}` !== HERE || !/^\d+$/.test(pid ?? '')) return false;
  try {
    return begunAt(Number(pid)) !== begun;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT';
  }
}

/** In ticks of the kernel's clock; tells a process from a later one with the same number. A zombie has ended. */
function begunAt(pid: number | 'self'): string {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' ? 'ended' : (fields[19] ?? '');
}
