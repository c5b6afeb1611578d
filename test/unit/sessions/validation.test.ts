import { describe, expect, it } from 'vitest';
import { pictureSide } from '../../../src/import/sampling.js';
import { blockAtOrAfter, firstFrameOf } from '../../../src/sessions/blocks.js';
import type { CreateSessionInput, SwitchPromptInput } from '../../../src/sessions/index.js';
import { LIMITS } from '../../../src/sessions/validation.js';
import { makeWorld } from '../../support/fake-service.js';

const prompt = 'a fox';

describe('createSession refuses', () => {
  const cases: [string, CreateSessionInput, string][] = [
    ['no prompt', {}, 'prompt'],
    ['an empty prompt', { prompt: ' \n ' }, 'prompt'],
    ['10,000 characters', { prompt: 'x'.repeat(10_000) }, 'prompt'],
    ['both prompt and timeline', { prompt, timeline: [{ prompt }] }, 'prompt'],
    ['an empty timeline', { timeline: [] }, 'timeline'],
    ['a timeline that begins late', { timeline: [{ prompt, atSeconds: 3 }] }, 'timeline[0]'],
    ['an entry without a place', { timeline: [{ prompt }, { prompt }] }, 'timeline[1]'],
    ['an entry with two places', { timeline: [{ prompt }, { prompt, block: 2, atSeconds: 2 }] }, 'timeline[1]'],
    ['two entries in one block', { timeline: [{ prompt }, { prompt, block: 2 }, { prompt, block: 2 }] }, 'timeline[2]'],
    ['an empty prompt in a timeline', { timeline: [{ prompt }, { prompt: '', block: 2 }] }, 'timeline[1].prompt'],
    ['negative times', { timeline: [{ prompt }, { prompt, atSeconds: -1 }] }, 'timeline[1].atSeconds'],
    ['width 0', { prompt, width: 0 }, 'width'],
    ['a width that is not a multiple of 16', { prompt, width: 100 }, 'width'],
    ['an absurd height', { prompt, height: 100_000 }, 'height'],
    ['a size the model cannot make', { prompt, width: 1_024, height: 1_024 }, 'width'],
    ['no duration', { prompt, maxSeconds: 0 }, 'maxSeconds'],
    ['a negative duration', { prompt, maxSeconds: -5 }, 'maxSeconds'],
    ['an absurd duration', { prompt, maxSeconds: 1e9 }, 'maxSeconds'],
    ['a duration that is no number', { prompt, maxSeconds: Number.NaN }, 'maxSeconds'],
    ['a negative seed', { prompt, seed: -1n }, 'seed'],
    ['a seed of 65 bits', { prompt, seed: 1n << 64n }, 'seed'],
    ['an unknown LoRA', { prompt, loras: [{ name: 'sepia' }] }, 'loras[0].name'],
    ['a LoRA without a name', { prompt, loras: [{ name: '' }] }, 'loras[0].name'],
    ['a LoRA twice', { prompt, loras: [{ name: 'a' }, { name: 'a', weight: 0.5 }] }, 'loras[1].name'],
    ['an absurd weight', { prompt, loras: [{ name: 'a', weight: 100 }] }, 'loras[0].weight'],
    ['a weight that is no number', { prompt, loras: [{ name: 'a', weight: Number.NaN }] }, 'loras[0].weight'],
    ['a weight of many decimals', { prompt, loras: [{ name: 'a', weight: 0.123 }] }, 'loras[0].weight'],
    ['five LoRAs', { prompt, loras: [...'abcde'].map((name) => ({ name })) }, 'loras'],
    ['an unknown pace', { prompt, pace: 'SLOW' as 'FASTEST' }, 'pace'],
    ['an empty idempotency key', { prompt, idempotencyKey: '' }, 'idempotencyKey'],
  ];

  it.each(cases)('%s', async (_name, input, field) => {
    const world = makeWorld();
    await expect(world.service.createSession(input)).rejects.toMatchObject({ code: 'INVALID_INPUT', field });
    expect(world.store.puts).toEqual([]);
  });

  it('an unknown model', async () => {
    const refused = makeWorld().service.createSession({ prompt, model: 'sora' });
    await expect(refused).rejects.toMatchObject({ code: 'MODEL_UNAVAILABLE', field: 'model' });
    await expect(refused).rejects.toThrow('available: fake');
  });
});

it('sessions have the limits of packages for the sides of a picture', () => {
  const { sideMinimum, sideMaximum, sideMultiple } = LIMITS;
  for (const side of [sideMinimum, sideMaximum, sideMinimum + sideMultiple])
    expect([side, pictureSide.safeParse(side).success]).toEqual([side, true]);
  for (const side of [sideMinimum - sideMultiple, sideMaximum + sideMultiple, sideMinimum + 1])
    expect([side, pictureSide.safeParse(side).success]).toEqual([side, false]);
});

describe('createSession accepts', () => {
  it('2,000 characters, counted as people count', async () => {
    const world = makeWorld();
    await world.clock.until(world.service.createSession({ prompt: '🦊'.repeat(2_000) }));
    await expect(world.service.createSession({ prompt: '🦊'.repeat(2_001) })).rejects.toMatchObject({
      field: 'prompt',
    });
  });

  it('the same idempotency key again, and answers with the same session', async () => {
    const world = makeWorld();
    const input = { prompt, idempotencyKey: 'k1', maxSeconds: 5 };
    const [a, b] = await world.clock.until(
      Promise.all([world.service.createSession(input), world.service.createSession(input)]),
    );
    const c = await world.clock.until(world.service.createSession({ ...input }));
    expect([b?.id, c.id]).toEqual([a?.id, a?.id]);
    await expect(world.clock.until(world.service.createSession({ ...input, maxSeconds: 6 }))).rejects.toMatchObject({
      code: 'CONFLICT',
    });
    const restarted = makeWorld({ after: world });
    expect((await restarted.clock.until(restarted.service.createSession(input))).id).toBe(a?.id);
    expect((await world.service.sessions()).items).toHaveLength(1);
  });
});

describe('switchPrompt refuses', () => {
  const cases: [string, SwitchPromptInput, string][] = [
    ['an empty prompt', { prompt: '' }, 'prompt'],
    ['10,000 characters', { prompt: 'x'.repeat(10_000) }, 'prompt'],
    ['an unknown mode', { prompt, mode: 'FORGET' as 'RECACHE' }, 'mode'],
    ['half a block', { prompt, when: { block: 1.5 } }, 'when.block'],
    ['an unknown moment', { prompt, when: 'SOON' as 'IMMEDIATE' }, 'when'],
  ];

  it.each(cases)('%s', async (_name, input, field) => {
    const world = makeWorld();
    const { id } = await world.clock.until(world.service.createSession({ prompt }));
    await expect(world.service.switchPrompt(id, input)).rejects.toMatchObject({ code: 'INVALID_INPUT', field });
  });

  it('an unknown session', async () => {
    const unknown = makeWorld().service.switchPrompt('0'.repeat(26), { prompt });
    await expect(unknown).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

describe('sessions', () => {
  it('lists the newest first, page by page', async () => {
    const world = makeWorld({ policy: { idleSeconds: 0 } });
    const ids: string[] = [];
    for (let i = 0; i < 5; i++) {
      const { id } = await world.clock.until(world.service.createSession({ prompt, pace: 'FASTEST', maxSeconds: 1 }));
      ids.unshift(id);
      await world.clock.advance(10);
    }
    const first = await world.service.sessions({ first: 2 });
    const second = await world.service.sessions({ first: 2, after: first.next });
    const third = await world.service.sessions({ first: 2, after: second.next });
    expect([first, second, third].flatMap(({ items }) => items.map(({ id }) => id))).toEqual(ids);
    expect(third.next).toBeUndefined();
    await expect(world.service.sessions({ first: 0 })).rejects.toMatchObject({ field: 'first' });
  });
});

describe('blocks and times', () => {
  it('agree for every block', () => {
    const grid = { framesPerBlock: 3, fps: 16 };
    expect([0, 1, 2, 3].map((block) => firstFrameOf(grid, block))).toEqual([0, 9, 21, 33]);
    for (let block = 0; block < 2_000; block++) {
      expect(blockAtOrAfter(grid, firstFrameOf(grid, block) / 16)).toBe(block);
      expect(blockAtOrAfter(grid, firstFrameOf(grid, block) / 16 + 0.01)).toBe(block + 1);
    }
  });
});
