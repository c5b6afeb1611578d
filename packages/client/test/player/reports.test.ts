import { expect, test } from 'vitest';
import { type Place, Reports } from '../../src/player/reports.js';

const place = (seconds: number, more: Partial<Place> = {}): Place => ({
  seconds,
  playing: true,
  aheadSeconds: 1,
  ...more,
});

/** What is told of places that are looked at every 200 ms. */
async function toldOf(at: (now: number) => Place, seconds: number, send = async (): Promise<unknown> => undefined) {
  const told: { now: number; place: Place }[] = [];
  let now = 0;
  const reports = new Reports((place) => {
    told.push({ now, place });
    return send();
  });
  for (; now < seconds; now += 0.2) {
    reports.be(at(now), now);
    await new Promise((resolve) => setImmediate(resolve));
  }
  return told;
}

test('a picture that moves is told of about once a second, one that stands once in half a minute', async () => {
  expect((await toldOf((now) => place(now), 20)).length).toBeLessThanOrEqual(21);
  expect((await toldOf((now) => place(1.1 * now), 20)).length).toBeGreaterThanOrEqual(16);
  expect(await toldOf(() => place(3, { playing: false }), 59)).toHaveLength(2);
});

test('what changes is told of at once, but not more than twice a second', async () => {
  const told = await toldOf((now) => (now < 1.1 ? place(now) : place(1.1, { playing: false })), 3);
  expect(told.at(-1)).toMatchObject({ place: { seconds: 1.1, playing: false } });
  expect(told.at(-1)?.now).toBeLessThan(1.7);
  expect(await toldOf((now) => place(now < 2.5 ? now : now + 60), 3.1)).toHaveLength(4);
  expect(await toldOf((now) => place(1, { playing: false, aheadSeconds: now < 2 ? 1 : 4 }), 4)).toHaveLength(2);
  const wild = await toldOf((now) => place(1000 * now, { playing: Math.round(now * 5) % 2 === 0 }), 10);
  expect(wild.length).toBeLessThanOrEqual(20);
});

test('one that takes long holds the next ones up, and one that fails is no harm', async () => {
  expect(
    await toldOf(
      (now) => place(now),
      10,
      () => new Promise(() => undefined),
    ),
  ).toHaveLength(1);
  const failing = await toldOf(
    (now) => place(now),
    10,
    () => Promise.reject(new Error('no network')),
  );
  expect(failing.length).toBeGreaterThan(7);
});
