import { expect, it } from 'vitest';
import { Turns } from '../../../src/server/turns.js';

it('leaves turns of the event loop between operations, for whatever else has come in', async () => {
  const turns = new Turns();
  let began = 0;
  const crowd = Promise.all(Array.from({ length: 10 }, () => turns.next().then(() => began++)));
  const seen: number[] = [];
  const look = () => {
    seen.push(began);
    if (began < 10) setImmediate(look);
  };
  setImmediate(look);
  await crowd;
  for (let count = 1; count < 10; count++)
    expect(seen.filter((each) => each === count).length).toBeGreaterThanOrEqual(2);
});
