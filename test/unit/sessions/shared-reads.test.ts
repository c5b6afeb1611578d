import { describe, expect, it } from 'vitest';
import { SharedReads } from '../../../src/sessions/stored/shared-reads.js';
import { VirtualClock } from '../../support/virtual-clock.js';

function begun() {
  const clock = new VirtualClock();
  const reads = new SharedReads<number>(clock);
  const readings: { settle: (value: number) => void; fail: (error: Error) => void }[] = [];
  const ask = () => reads.read('key', () => new Promise((settle, fail) => readings.push({ settle, fail })));
  return { clock, readings, ask };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('readers of one object', () => {
  it('who ask while it is being read share the next reading, which began after they asked', async () => {
    const { readings, ask } = begun();
    const first = ask();
    const crowd = Array.from({ length: 50 }, ask);
    expect(readings).toHaveLength(1);
    readings[0]?.settle(1);
    expect(await first).toBe(1);
    await turn();
    expect(readings).toHaveLength(2);
    readings[1]?.settle(2);
    expect(await Promise.all(crowd)).toEqual(Array(50).fill(2));
    await turn();
    void ask();
    expect(readings).toHaveLength(3);
  });

  it('hear of a failure, and the next ones read again', async () => {
    const { readings, ask } = begun();
    const first = ask();
    const second = ask();
    readings[0]?.fail(new Error('broken'));
    await expect(first).rejects.toThrow('broken');
    await turn();
    readings[1]?.settle(7);
    expect(await second).toBe(7);
  });

  it('do not wait for a store that has stopped answering', async () => {
    const { clock, readings, ask } = begun();
    void ask();
    await clock.advance(1_500);
    const later = ask();
    readings[1]?.settle(3);
    expect(await later).toBe(3);
  });
});
