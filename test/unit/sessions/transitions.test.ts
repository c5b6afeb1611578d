import { describe, expect, it, vi } from 'vitest';
import type { CreateSessionInput, StoredEvent, SwitchPromptInput, Transition } from '../../../src/sessions/index.js';
import { decodeCommand, encodeCommand } from '../../../src/sessions/live/commands.js';
import { Course } from '../../../src/sessions/conditioning.js';
import { pictureOf } from '../../support/fake-media.js';
import { chunksOf, expectWhole, makeWorld, readToEnd, successorOf, type World } from '../../support/fake-service.js';

// Virtual time costs little, but a crowded machine may take its time over it.
vi.setConfig({ testTimeout: 60_000 });

const LINEAR: Transition = { kind: 'LINEAR', chunks: 4, curve: 'EVEN' };

/** 17 chunks; from block 4 on `b` over four chunks. */
const STORY: CreateSessionInput = {
  timeline: [{ prompt: 'a' }, { prompt: 'b', block: 4, transition: { chunks: 4 } }],
  maxSeconds: 12,
  pace: 'FASTEST',
  seed: 3n,
};

async function create(world: World, input: CreateSessionInput = STORY): Promise<string> {
  return (await world.clock.until(world.service.createSession(input))).id;
}

/** What each chunk was drawn for; `a > 0.25 b` is a quarter of the way from a to b. */
const drawn = (events: StoredEvent[]) => chunksOf(events).map(({ data }) => pictureOf(data).prompt);
const pictures = (events: StoredEvent[]) => chunksOf(events).map(({ data }) => pictureOf(data).picture);

async function story(input: Partial<CreateSessionInput>, world = makeWorld()): Promise<string[]> {
  return drawn(await readToEnd(world, await create(world, { ...STORY, ...input })));
}

const EXPECTED = ['a', 'a', 'a', 'a', 'a > 0.25 b', 'a > 0.5 b', 'a > 0.75 b', ...Array<string>(10).fill('b')];

describe('a transition', () => {
  it('blends the prompts over its chunks, each with one recache, and is announced with the first of them', async () => {
    const world = makeWorld();
    const events = await readToEnd(world, await create(world));
    expect(drawn(events)).toEqual(EXPECTED);
    expect(world.engine.told.map(({ block }) => block)).toEqual([0, 4, 5, 6, 7]);
    const applied = events.filter(({ type }) => type === 'PromptApplied');
    expect(applied).toMatchObject([
      { block: 0, prompt: 'a' },
      { block: 4, prompt: 'b', transition: LINEAR },
    ]);
    expect(applied[0]).not.toHaveProperty('transition');
    const session = await world.service.session(chunksOf(events)[0]?.key.split('/')[1] ?? '');
    expect(session.timeline).toMatchObject([{ block: 0 }, { block: 4, transition: LINEAR }]);
    expect(session.receipts[1]).toMatchObject({ prompt: 'b', transition: LINEAR, appliedBlock: 4 });
  });

  it('goes along the arc, and by the schedule of scope, which begins with the old prompt', async () => {
    const transition = { kind: 'SLERP', chunks: 3, curve: 'SCOPE' } as const;
    const texts = await story({ timeline: [{ prompt: 'a' }, { prompt: 'b', block: 2, transition }], maxSeconds: 4 });
    expect(texts).toEqual(['a', 'a', 'a', 'a > 0.5 slerp b', 'b', 'b']);
  });

  it('of one chunk is a switch', async () => {
    const world = makeWorld();
    const timeline = [{ prompt: 'a' }, { prompt: 'b', block: 2, transition: { chunks: 1 } }];
    const events = await readToEnd(world, await create(world, { ...STORY, timeline, maxSeconds: 3 }));
    expect(drawn(events)).toEqual(['a', 'a', 'b', 'b', 'b']);
    expect(events.findLast(({ type }) => type === 'PromptApplied')).not.toHaveProperty('transition');
  });

  it('that another prompt interrupts is where that one begins', async () => {
    const texts = await story({
      timeline: [
        { prompt: 'a' },
        { prompt: 'b', block: 2, transition: { chunks: 4 } },
        { prompt: 'c', block: 4, transition: { chunks: 2 } },
        { prompt: 'd', block: 7 },
      ],
      maxSeconds: 6,
    });
    expect(texts.slice(1)).toEqual(['a', 'a > 0.25 b', 'a > 0.5 b', 'a > 0.5 b > 0.5 c', 'c', 'c', 'd', 'd']);
  });

  it('is interrupted at once by an immediate prompt, from what the last chunk showed', async () => {
    const world = makeWorld();
    const id = await create(world);
    const reading = readToEnd(world, id);
    await world.clock.until(chunk(world, id, 5));
    // In the middle of block 6.
    await world.clock.advance(100);
    const transition = { chunks: 2 };
    await world.clock.until(world.service.switchPrompt(id, { prompt: 'c', when: 'IMMEDIATE', transition }));
    const texts = drawn(await reading);
    expect(texts.slice(4, 9)).toEqual(['a > 0.25 b', 'a > 0.5 b', 'a > 0.5 b > 0.5 c', 'c', 'c']);
  });

  it('comes at once where it takes the place of the first prompt', async () => {
    const world = makeWorld();
    const id = await create(world, { prompt: 'a', pace: 'FASTEST', maxSeconds: 3 });
    const ask = world.service.switchPrompt(id, { prompt: 'b', when: 'IMMEDIATE', transition: { chunks: 3 } });
    expect(await world.clock.until(ask)).toMatchObject({ transition: { chunks: 3 } });
    const events = await readToEnd(world, id);
    expect(new Set(drawn(events))).toEqual(new Set(['b']));
    expect(events.find(({ type }) => type === 'PromptApplied')).not.toHaveProperty('transition');
  });

  it('keeps few of many prompts that interrupted each other', async () => {
    const turns = Array.from({ length: 30 }, (_, index) => ({
      ...{ prompt: `p${index}`, mode: 'RECACHE' as const, block: index },
      ...(index > 0 && { transition: LINEAR }),
    }));
    const { prompt, blends } = Course.of(turns)?.at(29) ?? { prompt: '' };
    expect(blends?.map((blend) => blend.prompt)).toEqual(['p22', 'p23', 'p24', 'p25', 'p26', 'p27', 'p28', 'p29']);
    expect(prompt).toBe('p21');
  });
});

describe('a transition is exact from the log', () => {
  it('after a pause, with and without the device', async () => {
    for (const seconds of [1, 600]) {
      const world = makeWorld();
      const id = await create(world);
      await world.clock.until(chunk(world, id, 5));
      await world.clock.until(world.service.pauseSession(id));
      await world.clock.advance(seconds * 1_000);
      await world.clock.until(world.service.resumeSession(id));
      const events = await readToEnd(world, id);
      expectWhole(events, 17);
      expect(drawn(events)).toEqual(EXPECTED);
    }
  });

  it('after a crash, from a checkpoint inside it and from the start', async () => {
    for (const checkpointBlocks of [5, 1_000]) {
      const world = makeWorld({ policy: { checkpointBlocks } });
      const id = await create(world);
      await world.clock.until(chunk(world, id, 5));
      const next = await successorOf(world);
      const events = await readToEnd(next, id);
      expectWhole(events, 17);
      expect(drawn(events)).toEqual(EXPECTED);
      expect(next.engine.opened).toEqual([checkpointBlocks === 5 ? 'restore' : 'open']);
      if (checkpointBlocks === 5) continue;
      const plain = makeWorld();
      expect(pictures(events)).toEqual(pictures(await readToEnd(plain, await create(plain))));
    }
  });

  it('after a crash behind more of them than a snapshot keeps', async () => {
    const count = 130;
    const timeline = Array.from({ length: count }, (_, block) => ({
      ...{ prompt: `p${block}`, block },
      ...(block > 0 && { transition: { chunks: 3 } }),
    }));
    const input = { ...STORY, timeline, maxSeconds: 105 };
    const plain = makeWorld();
    const expected = drawn(await readToEnd(plain, await create(plain, input)));
    const world = makeWorld({ policy: { checkpointBlocks: 20 } });
    const id = await create(world, input);
    await world.clock.until(chunk(world, id, 128));
    const events = await readToEnd(await successorOf(world), id);
    expect(drawn(events)).toEqual(expected);
    expect(expected[128]?.split(' > ')).toHaveLength(9);
  });

  it('in a fork, which ends what its parent began or turns to another prompt from there', async () => {
    const world = makeWorld();
    const id = await create(world);
    await readToEnd(world, id);
    const fork = { atChunk: 5, pace: 'FASTEST', maxSeconds: 12 } as const;
    const same = await world.clock.until(world.service.forkSession(id, fork));
    expect(drawn(await readToEnd(world, same.id))).toEqual(EXPECTED);
    const other = { ...fork, prompt: 'c', transition: { chunks: 2 } };
    const turned = await world.clock.until(world.service.forkSession(id, other));
    const texts = drawn(await readToEnd(world, turned.id));
    expect(texts.slice(4, 8)).toEqual(['a > 0.25 b', 'a > 0.25 b > 0.5 c', 'c', 'c']);
  });
});

it('a transition is told in the time of an export', async () => {
  const world = makeWorld();
  const id = await create(world);
  await readToEnd(world, id);
  const { range } = await world.clock.until(world.service.exportSession(id, { fromChunk: 2, toChunk: 12 }));
  await world.clock.advance(10_000);
  const entries = world.store
    .text(`sessions/${id}/exports/${range}.jsonl`)
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { seconds: number; wholeSeconds?: number });
  const [whole, second] = [7, 4].map((block) => (12 * block - 3) / 16 - 21 / 16);
  expect(entries[1]).toMatchObject({ seconds: second, wholeSeconds: whole });
});

describe('a transition that cannot be', () => {
  const refused = async (input: Partial<SwitchPromptInput>, field: string) => {
    const world = makeWorld();
    const id = await create(world);
    const asked = world.service.switchPrompt(id, { prompt: 'c', ...input });
    await expect(world.clock.until(asked)).rejects.toMatchObject({ code: 'INVALID_INPUT', field });
  };

  it('is refused', async () => {
    await refused({ transition: { chunks: 0 } }, 'transition.chunks');
    await refused({ transition: { chunks: 101 } }, 'transition.chunks');
    await refused({ transition: { chunks: 2.5 } }, 'transition.chunks');
    await refused({ transition: { chunks: 1, curve: 'SCOPE' } }, 'transition.chunks');
    await refused({ transition: { chunks: 3, kind: 'CUBIC' as 'SLERP' } }, 'transition.kind');
    await refused({ transition: { chunks: 3 }, mode: 'CLEAR_CACHE' }, 'transition');
    const world = makeWorld();
    const first = { ...STORY, timeline: [{ prompt: 'a', transition: { chunks: 3 } }] };
    await expect(create(world, first)).rejects.toMatchObject({ field: 'timeline[0].transition' });
    const id = await create(world);
    await world.clock.until(chunk(world, id, 1));
    const fork = world.clock.until(world.service.forkSession(id, { transition: { chunks: 3 } }));
    await expect(fork).rejects.toMatchObject({ field: 'transition' });
  });

  it('with the key of another one is a conflict, and with its own the same receipt', async () => {
    const world = makeWorld();
    const id = await create(world);
    const ask = (transition?: SwitchPromptInput['transition']) =>
      world.clock.until(
        world.service.switchPrompt(id, {
          ...{ prompt: 'c', idempotencyKey: 'k', when: { block: 9 } },
          ...(transition && { transition }),
        }),
      );
    const { id: receipt } = await ask({ chunks: 3 });
    expect((await ask({ chunks: 3, kind: 'LINEAR', curve: 'EVEN' })).id).toBe(receipt);
    await expect(ask({ chunks: 4 })).rejects.toMatchObject({ code: 'CONFLICT' });
    await expect(ask()).rejects.toMatchObject({ code: 'CONFLICT' });
  });
});

it('a transition survives the way between servers', () => {
  const transition = { kind: 'SLERP', chunks: 3, curve: 'EVEN' } as const;
  const command = { id: 'i', name: 'switchPrompt', input: { prompt: 'c', transition } } as const;
  expect(decodeCommand(encodeCommand(command))).toEqual(command);
});

/** Resolves when the chunk is announced. */
async function chunk({ service }: World, id: string, index: number): Promise<void> {
  for await (const event of service.subscribe(id)) if (event.type === 'FrameChunk' && event.chunk === index) return;
}
