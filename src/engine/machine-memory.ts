import { totalmem } from 'node:os';

/** Bytes that this process may use: what the machine has, or less where its container is limited to less. */
export function machineMemory(): number {
  const limit = process.constrainedMemory(); // 0, or more than any machine has, where nobody limits it
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}
