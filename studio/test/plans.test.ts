import type { Session, SessionEvent } from '@longlive/client';
import { createMock, type MockService } from '../../packages/client/src/testing';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Planned, Plans } from '../src/lib/plans';

const CHUNK = 0.75;

let mock: MockService;
let session: Session;
let shown: readonly Planned[];
let plans: Plans;
let closing: AbortController;

const seen = () => shown.map(({ prompt, block, seconds }) => [prompt, block, seconds]);
const find = (prompt: string) => shown.find((each) => each.prompt === prompt) as Planned;
const soon = () => new Promise((resolve) => setTimeout(resolve, 10));

/** Two chunks are there; three prompts are planned. */
beforeEach(async () => {
  mock = createMock({ chunkSeconds: CHUNK });
  session = await mock.client().create({ prompt: 'day' });
  mock.step(session.id);
  mock.step(session.id);
  closing = new AbortController();
  shown = [];
  const made = () => ({ seconds: 2 * CHUNK, chunkSeconds: CHUNK });
  plans = new Plans(session, made, (planned) => (shown = planned), closing.signal);
  session.watch((event?: SessionEvent) => event && plans.take(event));
  for (const [prompt, atBlock] of [
    ['dusk', 5],
    ['night', 8],
    ['dawn', 12],
  ] as const)
    await session.plan(prompt, { atBlock });
  await plans.read();
});
afterEach(() => {
  closing.abort();
  session.close();
});

describe('planned prompts', () => {
  test('are those of the service, whoever planned, moved or cancelled them', async () => {
    expect(seen()).toEqual([
      ['dusk', 5, 3.75],
      ['night', 8, 6],
      ['dawn', 12, 9],
    ]);
    const elsewhere = await mock.client().session(session.id);
    await elsewhere.move(find('dawn').receiptId, { atBlock: 4, prompt: 'a red dawn' });
    await elsewhere.cancel(find('night').receiptId);
    await soon();
    expect(seen()).toEqual([
      ['a red dawn', 4, 3],
      ['dusk', 5, 3.75],
    ]);
    await elsewhere.stop();
    await soon();
    expect(shown).toEqual([]);
  });

  test('are gone when they take effect', async () => {
    for (let block = 2; block <= 5; block++) mock.step(session.id);
    await soon();
    expect(shown.map(({ prompt }) => prompt)).toEqual(['night', 'dawn']);
  });

  test('are where they were moved to at once, and stay there', async () => {
    const moving = plans.moveTo(find('dusk').receiptId, 9);
    expect(seen()[1]).toEqual(['dusk', 9, 6.75]);
    const again = plans.moveTo(find('dusk').receiptId, 10);
    expect(seen()[1]).toEqual(['dusk', 10, 7.5]);
    await Promise.all([moving, again]);
    expect(seen()[1]).toEqual(['dusk', 10, 7.5]);
    expect((await session.planned()).map(({ atBlock }) => atBlock)).toEqual([8, 10, 12]);
  });

  test('fall back where the service refuses it', async () => {
    mock.refuseOnce(new Error('no network'));
    await expect(plans.moveTo(find('dusk').receiptId, 9)).rejects.toThrow('no network');
    expect(seen()[0]).toEqual(['dusk', 5, 3.75]);
  });

  test('change places, text and time, and are taken back', async () => {
    await plans.swap(find('night').receiptId, -1);
    expect(seen().slice(0, 2)).toEqual([
      ['night', 5, 3.75],
      ['dusk', 8, 6],
    ]);
    await plans.swap(find('dawn').receiptId, 1);
    await plans.edit(find('dawn').receiptId, { prompt: 'a red dawn', atSeconds: 15 });
    expect(seen()[2]).toEqual(['a red dawn', 20, 15]);
    await plans.remove(find('dusk').receiptId);
    expect(shown.map(({ prompt }) => prompt)).toEqual(['night', 'a red dawn']);
  });

  test('are taken to free blocks that are not begun, the nearest ones', () => {
    const dusk = find('dusk');
    expect(plans.blockAt(dusk, 5.1)).toBe(7);
    expect(plans.blockAt(dusk, 6)).toBe(9);
    expect(plans.blockAt(dusk, 0)).toBe(3);
    expect(plans.blockAt(find('night'), 3.75)).toBe(4);
    expect(plans.blockAt(find('dawn'), 9)).toBe(12);
  });
});
