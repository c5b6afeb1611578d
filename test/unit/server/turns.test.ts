import { expect, it } from 'vitest';
import { Turns } from '../../../src/server/turns.js';

it('leaves turns of the event loop between operations, for whatever else has come in', async () => {
  const turns = new Turns();
  let began = 0;
  const crowd = Promise.all(Array.from({ length: 10 }, () => turns.next('crowd').then(() => began++)));
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

it('lets nobody wait for all that others asked for before', async () => {
  const turns = new Turns();
  const began: string[] = [];
  const ask = (address: string) => turns.next(address).then(() => began.push(address));
  const crowd = Array.from({ length: 50 }, () => ask('crowd'));
  await Promise.all([ask('a'), ask('b'), ask('a')]);
  expect(began.indexOf('b')).toBeLessThanOrEqual(3);
  expect(began.length).toBeLessThanOrEqual(7);
  await Promise.all(crowd);
  expect(began).toHaveLength(53);
  await ask('later');
});
