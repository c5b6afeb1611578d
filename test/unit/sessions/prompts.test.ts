import { describe, expect, it, vi } from 'vitest';
import type { FrameChunk, PromptApplied, PromptRequested, SwitchPromptInput } from '../../../src/sessions/index.js';
import { pictureOf } from '../../support/fake-media.js';
import { makeWorld, randomOf, read, stored, successorOf, type World } from '../../support/fake-service.js';

// Virtual time costs little, but a crowded machine may take its time over it.
vi.setConfig({ testTimeout: 60_000 });

async function live(world: World, maxSeconds = 8): Promise<string> {
  const { id } = await world.clock.until(world.service.createSession({ prompt: 'first', maxSeconds, pace: 'FASTEST' }));
  await world.clock.until(read(world, id, {}, (event) => event.type === 'FrameChunk' && event.chunk === 1));
  return id;
}

async function rest(world: World, id: string) {
  return stored(await world.clock.until(read(world, id, { inline: true })));
}

async function receiptOf({ service }: World, id: string, receiptId: string | undefined) {
  return (await service.session(id)).receipts.find((receipt) => receipt.id === receiptId);
}

const prompts = (events: Awaited<ReturnType<typeof rest>>) =>
  events.filter((event): event is FrameChunk => event.type === 'FrameChunk').map(({ data }) => pictureOf(data).prompt);

describe('switchPrompt', () => {
  it('answers at once with the block it expects, and the stream says where it took effect', async () => {
    const world = makeWorld();
    const id = await live(world);
    const receipt = await world.clock.until(world.service.switchPrompt(id, { prompt: 'second' }));
    expect(receipt).toMatchObject({ accepted: true, status: 'PENDING', expectedBlock: 2, expectedFrame: 21 });
    const events = await rest(world, id);
    const applied = events.find((event): event is PromptApplied => event.type === 'PromptApplied' && event.block > 0);
    expect(applied).toMatchObject({ receiptId: receipt.id, block: 2, frame: 21, seconds: 21 / 16 });
    expect(applied).toMatchObject({ recacheMilliseconds: 30, mode: 'RECACHE', prompt: 'second' });
    expect(prompts(events).indexOf('second')).toBe(2);
    const next = events[events.findIndex((event) => event === applied) + 1];
    expect(next).toMatchObject({ type: 'FrameChunk', chunk: 2 });
    expect(await receiptOf(world, id, receipt.id)).toMatchObject({ status: 'APPLIED', appliedBlock: 2 });
  });

  it('says which words the model was never taught, in the receipt, in the stream and after a restart', async () => {
    const world = makeWorld();
    world.engine.taught = ['first', 'a', 'fox'];
    const id = await live(world);
    const receipt = await world.clock.until(world.service.switchPrompt(id, { prompt: 'a cat plays piano' }));
    expect(receipt.unknownWords).toEqual(['cat', 'plays', 'piano']);
    const events = await rest(world, id);
    const requested = events.filter((event): event is PromptRequested => event.type === 'PromptRequested');
    expect(requested.map(({ unknownWords }) => unknownWords)).toEqual([[], ['cat', 'plays', 'piano']]);
    const after = await successorOf(world);
    expect(await receiptOf(after, id, receipt.id)).toMatchObject({ unknownWords: ['cat', 'plays', 'piano'] });
  });

  it('says nothing of words where the model does not', async () => {
    const world = makeWorld();
    const id = await live(world);
    const receipt = await world.clock.until(world.service.switchPrompt(id, { prompt: 'a cat plays piano' }));
    expect(receipt).not.toHaveProperty('unknownWords');
  });

  it('collapses several switches before one block into the latest and tells each of the others', async () => {
    const world = makeWorld();
    const id = await live(world);
    const receipts = await world.clock.until(
      Promise.all(['a', 'b', 'c'].map((prompt) => world.service.switchPrompt(id, { prompt }))),
    );
    const events = await rest(world, id);
    const [a, b, c] = receipts;
    expect(events.filter(({ type }) => type === 'PromptSuperseded')).toMatchObject([
      { receiptId: a?.id, supersededBy: c?.id },
      { receiptId: b?.id, supersededBy: c?.id },
    ]);
    expect(new Set(prompts(events))).toEqual(new Set(['first', 'c']));
    expect(await receiptOf(world, id, a?.id)).toMatchObject({ status: 'SUPERSEDED', supersededBy: c?.id });
  });

  it('IMMEDIATE gives up the block in flight between two denoise steps', async () => {
    const world = makeWorld();
    const id = await live(world);
    await world.clock.advance(60);
    const asked = world.clock.now();
    const receipt = await world.clock.until(world.service.switchPrompt(id, { prompt: 'now', when: 'IMMEDIATE' }));
    expect(receipt.expectedBlock).toBe(2);
    const events = await rest(world, id);
    expect(prompts(events).slice(0, 3)).toEqual(['first', 'first', 'now']);
    const applied = events.find((event) => event.type === 'PromptApplied' && event.prompt === 'now');
    // At most the denoise step under way, the recache, and one whole block to its frames.
    expect((applied?.at ?? Infinity) - asked).toBeLessThanOrEqual(50 + 30 + 5 * 50);
  });

  it('IMMEDIATE after the frames are decoded takes the next block', async () => {
    const world = makeWorld();
    const id = await live(world);
    // Chunk 1 is announced while the context pass of block 1 runs.
    const receipt = await world.clock.until(world.service.switchPrompt(id, { prompt: 'now', when: 'IMMEDIATE' }));
    const events = await rest(world, id);
    expect(prompts(events).indexOf('now')).toBe(receipt.expectedBlock);
  });

  it('takes effect at the block asked for, and refuses a block that has begun', async () => {
    const world = makeWorld();
    const id = await live(world);
    await world.clock.until(world.service.switchPrompt(id, { prompt: 'later', when: { block: 6 } }));
    await expect(world.service.switchPrompt(id, { prompt: 'x', when: { block: 1 } })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      field: 'when.block',
    });
    const events = await rest(world, id);
    expect(prompts(events).indexOf('later')).toBe(6);
  });

  it('gives the same receipt for the same idempotency key, also while the first is under way', async () => {
    const world = makeWorld();
    const id = await live(world);
    const ask = () => world.service.switchPrompt(id, { prompt: 'once', idempotencyKey: 'k' });
    const [a, b] = await world.clock.until(Promise.all([ask(), ask()]));
    const c = await world.clock.until(ask());
    expect(b?.id).toBe(a?.id);
    expect(c.id).toBe(a?.id);
    await expect(world.service.switchPrompt(id, { prompt: 'other', idempotencyKey: 'k' })).rejects.toMatchObject({
      code: 'CONFLICT',
    });
    const events = await rest(world, id);
    expect(events.filter((event) => event.type === 'PromptRequested' && event.prompt === 'once')).toHaveLength(1);
    expect((await world.service.switchPrompt(id, { prompt: 'once', idempotencyKey: 'k' })).id).toBe(a?.id);
  });

  it('waits for the resume of a paused session', async () => {
    const world = makeWorld();
    const id = await live(world);
    const paused = await world.clock.until(world.service.pauseSession(id));
    const receipt = await world.clock.until(world.service.switchPrompt(id, { prompt: 'after' }));
    expect(receipt.expectedBlock).toBe(paused.chunks);
    await world.clock.until(world.service.resumeSession(id));
    const events = await rest(world, id);
    expect(prompts(events).indexOf('after')).toBe(paused.chunks);
  });

  it('discards what is pending when the session ends', async () => {
    const world = makeWorld();
    const id = await live(world);
    const receipt = await world.clock.until(world.service.switchPrompt(id, { prompt: 'never', when: { block: 500 } }));
    await rest(world, id);
    expect(await receiptOf(world, id, receipt.id)).toMatchObject({ status: 'DISCARDED' });
  });
});

describe('encoding prompts', () => {
  const times = { step: 50, recache: 30, encode: 120 };
  const block = 6 * times.step;

  /** How long each chunk came after the one before. */
  function intervals(events: Awaited<ReturnType<typeof rest>>): number[] {
    const at = events.filter(({ type }) => type === 'FrameChunk').map((event) => event.at);
    return at.slice(1).map((time, i) => time - (at[i] ?? 0));
  }

  it('begins when a switch is asked for, beside the block in flight, which is none the later for it', async () => {
    const world = makeWorld({ times });
    const id = await live(world);
    await world.clock.advance(60);
    const asked = world.clock.now();
    await world.clock.until(world.service.switchPrompt(id, { prompt: 'second' }));
    const events = await rest(world, id);
    expect(world.engine.encodings.at(-1)).toEqual({ prompt: 'second', at: asked });
    expect(intervals(events).slice(0, 4)).toEqual([block, block, block + times.recache, block]);
    expect(prompts(events).indexOf('second')).toBe(3);
  });

  it('is waited for at the border where it takes longer, and no other session with it', async () => {
    const world = makeWorld({ times: { ...times, encode: 5_000 } });
    const create = (prompt: string) => world.service.createSession({ prompt, maxSeconds: 8, pace: 'FASTEST' });
    const [waiting, other] = await world.clock.until(Promise.all([create('same'), create('same')]));
    await world.clock.until(read(world, waiting.id, {}, (event) => event.type === 'FrameChunk' && event.chunk === 1));
    const asked = world.clock.now();
    await world.clock.until(world.service.switchPrompt(waiting.id, { prompt: 'slow' }));
    const [slow, fast] = await Promise.all([rest(world, waiting.id), rest(world, other.id)]);
    const applied = slow.find((event) => event.type === 'PromptApplied' && event.prompt === 'slow');
    expect((applied?.at ?? NaN) - asked).toBeGreaterThan(5_000);
    expect((fast.at(-1)?.at ?? NaN) - asked).toBeLessThan(5_000);
  });

  it('is done before a turn of the device for a session that goes on elsewhere, too', async () => {
    const before = makeWorld({ policy: { checkpointBlocks: 1 } });
    const id = await live(before);
    await before.clock.until(before.service.pauseSession(id));
    const world = await successorOf(before, { times: { ...times, encode: 5_000 } });
    const input = { prompt: 'other', maxSeconds: 8, pace: 'FASTEST' as const };
    const other = await world.clock.until(world.service.createSession(input));
    await world.clock.until(read(world, other.id, {}, (event) => event.type === 'FrameChunk'));
    await world.clock.until(world.service.resumeSession(id));
    const [resumed, undisturbed] = await Promise.all([rest(world, id), rest(world, other.id)]);
    expect(world.engine.opened).toEqual(['open', 'restore']);
    expect(Math.max(...intervals(undisturbed))).toBeLessThan(5_000);
    expect(resumed.at(-1)).toMatchObject({ type: 'SessionEnded', state: 'COMPLETED' });
  });

  it('is done for the next entry of a timeline before its block', async () => {
    const world = makeWorld({ times });
    const timeline = [{ prompt: 'a' }, { prompt: 'b', block: 1 }, { prompt: 'c', block: 4 }];
    const { id } = await world.clock.until(world.service.createSession({ timeline, maxSeconds: 5, pace: 'FASTEST' }));
    expect(intervals(await rest(world, id))).toEqual([
      block + times.recache,
      block,
      block,
      block + times.recache,
      block,
      block,
    ]);
    expect(world.engine.encodings.map(({ prompt }) => prompt)).toEqual(['a', 'b', 'c']);
  });

  it('skips prompts that are replaced while another one is encoded', async () => {
    const world = makeWorld({ times });
    const id = await live(world);
    await world.clock.until(
      Promise.all(['a', 'b', 'c', 'd'].map((prompt) => world.service.switchPrompt(id, { prompt }))),
    );
    await rest(world, id);
    expect(world.engine.encodings.map(({ prompt }) => prompt)).toEqual(['first', 'a', 'd']);
  });

  it('fails at the block of the prompt, as if nobody had tried before', async () => {
    const world = makeWorld({ times });
    world.engine.failToEncode = (prompt) => (prompt === 'odd' ? new Error('no such token') : undefined);
    const id = await live(world);
    await world.clock.until(world.service.switchPrompt(id, { prompt: 'odd', when: { block: 4 } }));
    const events = await rest(world, id);
    expect(prompts(events)).toEqual(['first', 'first', 'first', 'first']);
    expect(events.find((event) => event.type === 'StateChanged' && event.state === 'FAILED')).toMatchObject({
      failure: { code: 'ENGINE', message: 'no such token' },
    });
  });

  it('of a prompt that was replaced may fail', async () => {
    const world = makeWorld({ times });
    world.engine.failToEncode = (prompt) => (prompt === 'odd' ? new Error('no such token') : undefined);
    const id = await live(world);
    await world.clock.until(world.service.switchPrompt(id, { prompt: 'odd' }));
    await world.clock.until(world.service.switchPrompt(id, { prompt: 'good' }));
    const events = await rest(world, id);
    expect(prompts(events).at(-1)).toBe('good');
    expect(events.at(-1)).toMatchObject({ type: 'SessionEnded', state: 'COMPLETED' });
  });
});

describe('any interleaving of switches, pauses and time', () => {
  const seeds = Array.from({ length: 25 }, (_, i) => i + 1);

  it.each(seeds)('keeps its promises (seed %i)', async (seed) => {
    const random = randomOf(seed);
    const world = makeWorld({ policy: { ringEvents: 4 }, times: { step: 50, recache: 30, encode: 200 * random() } });
    const { id } = await world.clock.until(
      world.service.createSession({ prompt: 'p0', maxSeconds: 12, pace: random() < 0.5 ? 'FASTEST' : 'REALTIME' }),
    );
    const watching = read(world, id, { inline: true });
    const receipts = await act(world, id, random);
    const events = stored(await world.clock.until(watching));

    expect(events.map(({ sequence }) => sequence)).toEqual(events.map((_, i) => i + 1));
    let inForce = '';
    let chunk = 0;
    const outcome = new Map<string, string>();
    for (const event of events) {
      if (event.type === 'PromptApplied') {
        expect(event.block).toBe(chunk);
        inForce = event.prompt;
      }
      if (event.type === 'PromptApplied' || event.type === 'PromptSuperseded') {
        expect(outcome.has(event.receiptId)).toBe(false);
        outcome.set(event.receiptId, event.type);
      }
      if (event.type === 'FrameChunk') {
        expect(event.chunk).toBe(chunk++);
        expect(pictureOf(event.data)).toMatchObject({ block: event.chunk, prompt: inForce });
      }
    }
    expect(chunk).toBe(17);
    const session = await world.service.session(id);
    for (const receiptId of receipts) {
      const { status } = session.receipts.find((receipt) => receipt.id === receiptId) ?? {};
      expect(status).toBe(
        { PromptApplied: 'APPLIED', PromptSuperseded: 'SUPERSEDED' }[outcome.get(receiptId) ?? ''] ?? 'DISCARDED',
      );
    }
    expect(world.engine.mostConcurrent).toBe(1);
    expect(world.engine.active).toBe(0);
  });

  async function act(world: World, id: string, random: () => number): Promise<string[]> {
    const ids: string[] = [];
    for (let n = 1; n <= 12; n++) {
      await world.clock.advance(Math.floor(random() * 400));
      const session = await world.service.session(id);
      if (session.state === 'COMPLETED') break;
      const attempt = random() < 0.7 ? switchTo(n) : pauseAndResume();
      await world.clock.until(attempt.catch((error: { code: string }) => expect(error.code).toBe('ENDED')));
    }
    return ids;

    async function switchTo(n: number) {
      const whens: SwitchPromptInput['when'][] = ['NEXT_BLOCK', 'IMMEDIATE', { block: 900 }];
      const when = whens[Math.floor(random() * whens.length)];
      ids.push((await world.service.switchPrompt(id, { prompt: `p${n}`, when })).id);
    }

    async function pauseAndResume() {
      await world.service.pauseSession(id);
      await world.clock.sleep(random() * 300);
      await world.service.resumeSession(id);
    }
  }
});
