/** One import at a time into a place. */

import { printed } from '../files/printable.js';
import { systemProblem } from '../files/system-errors.js';
import { holderOf, Lease, type LeaseTimes } from '../files/lease.js';
import { ImportError } from './errors.js';

/** Short, so that whoever repeats an import that was killed need not wait for long. */
const TIMES: LeaseTimes = { renewMs: 1_000, deadMs: 10_000 };

/** Does the work while nobody else does any under the same path; `lost` is aborted if somebody does all the same. */
export async function withLock<T>(path: string, work: (lost: AbortSignal) => Promise<T>, times = TIMES): Promise<T> {
  const lease = await Lease.takeFromSilent(path, times).catch((error: Error) => {
    const why = systemProblem(error) ?? error.message;
    throw new ImportError(printed`Nothing can be written at ${path}: ${why}.`, { cause: error });
  });
  if (!lease) throw new ImportError(printed`Another import into the same place is running: ${await holderOf(path)}.`);
  try {
    return await work(lease.lost);
  } finally {
    await lease.release();
  }
}
