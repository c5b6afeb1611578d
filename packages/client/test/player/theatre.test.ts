import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { CHUNK_SECONDS, Theatre } from '../support/theatre.js';

beforeEach(() => void vi.useFakeTimers({ now: 0 }));
afterEach(() => void vi.useRealTimers());

/** As the service paces: two seconds at once, then as fast as it plays. */
const inRealTime = (chunks: number, late: (index: number) => number = () => 0): number[] =>
  Array.from({ length: chunks }, (_, index) => Math.max(index * 0.3, index * CHUNK_SECONDS - 1.25) + late(index));

const slowly = (chunks: number, speed: number): number[] =>
  Array.from({ length: chunks }, (_, index) => ((index + 1) * CHUNK_SECONDS) / speed);

const counted = (length: number): number[] => Array.from({ length }, (_, index) => index);

test('three hours play through: every chunk is appended once, memory is bounded, and nothing stalls', async () => {
  const theatre = new Theatre({ at: inRealTime(14_400), following: true });
  await theatre.run(11_000);
  expect(theatre.over).toBe(true);
  expect(theatre.screen.appended).toEqual(counted(14_400));
  expect(theatre.screen.mostKept).toBeLessThan(60);
  expect([theatre.pacing.stalls, theatre.frozenSeconds]).toEqual([0, 0]);
}, 120_000);

describe('at the live edge', () => {
  test('it comes as near as is safe, by no more than a tenth faster', async () => {
    const theatre = new Theatre({ at: inRealTime(80), following: true });
    await theatre.run(55);
    expect(Math.max(...theatre.rates)).toBeLessThanOrEqual(1.1);
    const settled = theatre.leads.slice(-50);
    expect(Math.max(...settled)).toBeLessThan(1.3);
    expect(theatre.pacing.stalls).toBe(0);
  });

  test('it stays further behind where chunks come late now and then, and stalls no more', async () => {
    const jitter = (index: number) => (index > 5 && index % 9 === 0 ? 0.6 : 0);
    const theatre = new Theatre({ at: inRealTime(400, jitter), following: true });
    await theatre.run(280);
    expect(theatre.pacing.marginSeconds).toBeGreaterThan(0.7);
    expect(theatre.stalledAt.length).toBeLessThanOrEqual(1);
    expect(theatre.stalledAt.at(-1) ?? 0).toBeLessThan(20);
    expect(Math.min(...theatre.rates.filter((rate) => rate > 0))).toBeGreaterThanOrEqual(0.95);
  });
});

test.each([0.3, 0.5, 0.8])(
  'where video comes at %f of real time it waits, says so, and plays in stretches',
  async (speed) => {
    const theatre = new Theatre({ at: slowly(80, speed), following: true });
    await theatre.run(1000);
    expect(theatre.over).toBe(true);
    expect(theatre.frozenSeconds).toBeLessThan(0.5);
    expect(theatre.stretches.slice(0, -1).every((seconds) => seconds > 4)).toBe(true);
  },
);

test('where the screen stops some pictures before the end it notices, and says that it waits', async () => {
  const outage = (index: number) => (index >= 20 ? 30 : 0);
  const theatre = new Theatre({ at: inRealTime(40, outage), following: true, lastSeconds: 0.12 });
  await theatre.run(80);
  expect(theatre.pacing.stalls).toBe(1);
  expect(theatre.pacing.stalledSeconds).toBeGreaterThan(25);
  expect(theatre.frozenSeconds).toBeLessThan(0.75);
});

test('it is not misled by chunks that were there before it came', async () => {
  const theatre = new Theatre({ at: slowly(40, 0.5).map((at, index) => (index < 3 ? 0 : at - 4)), following: true });
  await theatre.run(200);
  expect(theatre.over).toBe(true);
  expect(theatre.stretches.slice(0, -1).every((seconds) => seconds > 3)).toBe(true);
});

test('a moment before everything that is known is looked up, and its chunks are fetched by index', async () => {
  const theatre = new Theatre({ at: inRealTime(200), joined: 100, seeks: [{ at: 100, to: 3.2 }] });
  vi.setSystemTime(90_000);
  await theatre.run(110);
  expect(theatre.lookedUp).toBe(1);
  expect(theatre.screen.appended).toContain(4);
  expect(theatre.screen.appended).not.toContain(3);
  expect(theatre.screen.seconds).toBeGreaterThan(10);
});

test('a browser with little room still plays everything, each chunk fetched once', async () => {
  const loaded: number[] = [];
  const theatre = new Theatre({
    ...{ at: inRealTime(300), quotaSeconds: 6, following: false },
    loads: (index) => (loaded.push(index), 0.02),
  });
  await theatre.run(400);
  expect(theatre.over).toBe(true);
  expect(theatre.screen.refused).toBeGreaterThan(0);
  expect(theatre.screen.appended).toEqual(counted(300));
  expect(loaded).toEqual(counted(300));
});

test('a browser without room for a second ends it with its own error', async () => {
  const theatre = new Theatre({ at: inRealTime(20), quotaSeconds: 0.5 });
  await theatre.run(60);
  expect(theatre.failure).toMatchObject({ name: 'QuotaExceededError' });
});

test('whatever is sought, refused and lost, it comes to its end', async () => {
  const show = fc.record({
    chunks: fc.integer({ min: 1, max: 60 }),
    speed: fc.double({ min: 0.3, max: 4, noNaN: true }),
    quotaSeconds: fc.constantFrom(3, 5, 10, 1000),
    joined: fc.nat(10),
    seeks: fc.array(fc.record({ at: fc.nat(40), to: fc.double({ min: 0, max: 40, noNaN: true }) }), { maxLength: 5 }),
    broken: fc.array(fc.nat(60), { maxLength: 10 }),
  });
  await fc.assert(
    fc.asyncProperty(show, async ({ chunks, speed, quotaSeconds, joined, seeks, broken }) => {
      vi.setSystemTime(0);
      const lost = new Set(broken);
      const theatre = new Theatre({
        ...{ at: slowly(chunks, speed), quotaSeconds, joined: Math.min(joined, chunks - 1) },
        seeks: [...seeks].sort((a, b) => a.at - b.at),
        loads: (index) => (lost.delete(index) ? 'fail' : 0.05),
      });
      await theatre.run(3000);
      expect(theatre.failure).toBeUndefined();
      expect(theatre.over).toBe(true);
      expect(theatre.screen.kept).toBeLessThanOrEqual(quotaSeconds);
    }),
    { numRuns: 60 },
  );
}, 120_000);
