/**
 * Random schedules on the virtual clock. `npm run test:schedules` runs 10,000; LONGLIVE_SCHEDULES and LONGLIVE_SEED choose
 * others, new ones each time. A failure says the seed and the path of the smallest schedule that fails.
 *
 * What they find was tried with deliberate breaks (LONGLIVE_SEED=21; the number is of schedules until one failed):
 * - a session that comes to rest frees its place but keeps its generation (`Life.letGo` without `disposeProducer`): 1;
 * - whoever loses a conditional write writes all the same (`Vault.putOwned` without OwnershipLost): 56;
 * - a chunk that is published again settles its receipt again (`Publisher.logPrompts` without `unless`): 65.
 */

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Schedule, step } from '../../support/schedules.js';

const ON_DEMAND = process.env['LONGLIVE_SCHEDULES'];
const RUNS = Number(ON_DEMAND ?? 40);
/** The usual run tries the same ones each time; new ones are found on demand. */
const SEED = process.env['LONGLIVE_SEED'] ?? (ON_DEMAND === undefined ? '11' : undefined);
const PATH = process.env['LONGLIVE_PATH'];

/** In the usual run of the tests they have a time of their own; what was asked for is tried to its end, or the test fails. */
const MILLISECONDS = ON_DEMAND === undefined ? 40_000 : 12 * 3_600_000;

it(
  'whatever happens in whatever order, every session has one owner and nothing of it is lost',
  async () => {
    let done = 0;
    const property = fc.asyncProperty(fc.array(step, { maxLength: 40, size: 'max' }), async (steps) => {
      await new Schedule().run(steps);
      if (++done % 500 === 0) console.log(`${done} schedules`);
    });
    const details = await fc.check(property, {
      numRuns: RUNS,
      interruptAfterTimeLimit: MILLISECONDS,
      includeErrorInReport: true,
      ...(SEED !== undefined && { seed: Number(SEED) }),
      ...(PATH !== undefined && { path: PATH }),
    });
    console.log(`${details.numRuns} schedules, seed ${details.seed}`);
    if (details.failed && details.counterexample) throw new Error(fc.defaultReportMessage(details));
    expect(details.numRuns).toBeGreaterThanOrEqual(ON_DEMAND === undefined ? 1 : RUNS);
  },
  MILLISECONDS + 120_000,
);
