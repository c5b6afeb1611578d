/**
 * Random schedules on the virtual clock. `npm run test:schedules` runs 10,000; LONGLIVE_SCHEDULES and LONGLIVE_SEED choose
 * others, new ones each time. A failure says the seed and the path of the smallest schedule that fails.
 */

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Schedule, step } from '../../support/schedules.js';

const ON_DEMAND = process.env['LONGLIVE_SCHEDULES'];
const RUNS = Number(ON_DEMAND ?? 40);
/** The usual run tries the same ones each time; new ones are found on demand. */
const SEED = process.env['LONGLIVE_SEED'] ?? (ON_DEMAND === undefined ? '11' : undefined);
const PATH = process.env['LONGLIVE_PATH'];

/** In the usual run of the tests they have a time of their own; what is not tried then is tried the next time. */
const MILLISECONDS = ON_DEMAND === undefined ? 40_000 : 3_600_000;

it(
  'whatever happens in whatever order, every session has one owner and nothing of it is lost',
  async () => {
    const property = fc.asyncProperty(fc.array(step, { maxLength: 40, size: 'max' }), (steps) =>
      new Schedule().run(steps),
    );
    const details = await fc.check(property, {
      numRuns: RUNS,
      interruptAfterTimeLimit: MILLISECONDS,
      includeErrorInReport: true,
      ...(SEED !== undefined && { seed: Number(SEED) }),
      ...(PATH !== undefined && { path: PATH }),
    });
    console.log(`${details.numRuns} schedules, seed ${details.seed}`);
    if (details.failed && details.counterexample) throw new Error(fc.defaultReportMessage(details));
    expect(details.numRuns).toBeGreaterThan(0);
  },
  MILLISECONDS + 120_000,
);
