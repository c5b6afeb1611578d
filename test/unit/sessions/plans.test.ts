import { beforeEach, describe, expect, it, vi } from 'vitest';
import type {
  DomainError,
  MovePromptInput,
  PlanPromptInput,
  PromptApplied,
  Session,
  StoredEvent,
  SwitchReceipt,
} from '../../../src/sessions/index.js';
import { LogReader } from '../../../src/sessions/stored/log.js';
import { receiptsBefore } from '../../../src/sessions/stored/prompts.js';
import { pictureOf } from '../../support/fake-media.js';
import { chunksOf, makeWorld, read, readToEnd, successorOf, type World } from '../../support/fake-service.js';

// Virtual time costs little, but a crowded machine may take its time over it.
vi.setConfig({ testTimeout: 60_000 });

let world: World;
let session: Session;

const refusal = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    (error: DomainError) => error,
  );

const plan = (input: PlanPromptInput, at = world) => at.clock.until(at.service.planPrompt(session.id, input));
const move = ({ id }: SwitchReceipt, input: MovePromptInput, at = world) =>
  at.clock.until(at.service.movePrompt(session.id, id, input));
const cancel = ({ id }: SwitchReceipt, at = world) => at.clock.until(at.service.cancelPrompt(session.id, id));

/** What took effect, and where. */
const applied = (events: readonly StoredEvent[]) =>
  events
    .filter((event): event is PromptApplied => event.type === 'PromptApplied')
    .map(({ block, prompt }) => [block, prompt]);

const typesOf = (events: readonly StoredEvent[]) =>
  events.map(({ type }) => type).filter((type) => type.startsWith('Prompt'));

async function toEnd(at = world): Promise<StoredEvent[]> {
  await at.clock.until(at.service.resumeSession(session.id));
  return readToEnd(at, session.id);
}

/** Twelve blocks, of which one or two are there. */
beforeEach(async () => {
  world = makeWorld();
  const { service, clock } = world;
  session = await clock.until(service.createSession({ prompt: 'day', pace: 'FASTEST', maxSeconds: 8.5 }));
  await clock.until(read(world, session.id, {}, (event) => event.type === 'FrameChunk'));
  await clock.until(service.pauseSession(session.id));
});

describe('a planned prompt', () => {
  it('takes effect at its block, or at the first one that starts at its time or later', async () => {
    expect(await plan({ prompt: 'dusk', atBlock: 5 })).toMatchObject({ status: 'PENDING', expectedBlock: 5 });
    expect(await plan({ prompt: 'night', atSeconds: 5 })).toMatchObject({ when: { block: 7 } });
    expect(applied(await toEnd())).toEqual([
      [0, 'day'],
      [5, 'dusk'],
      [7, 'night'],
    ]);
  });

  it('is moved, earlier and later, and given other words and another way to come', async () => {
    const dusk = await plan({ prompt: 'dusk', atBlock: 5 });
    const night = await plan({ prompt: 'night', atBlock: 7, transition: { chunks: 3 } });
    expect(await move(dusk, { atBlock: 9 })).toMatchObject({ id: dusk.id, prompt: 'dusk', expectedBlock: 9 });
    expect(await move(night, { atBlock: 4, prompt: 'a starry night', transition: null })).toMatchObject({
      prompt: 'a starry night',
      when: { block: 4 },
    });
    const events = await toEnd();
    expect(applied(events)).toEqual([
      [0, 'day'],
      [4, 'a starry night'],
      [9, 'dusk'],
    ]);
    expect(events.find((event) => event.type === 'PromptApplied' && event.block === 4)).not.toHaveProperty(
      'transition',
    );
    expect(chunksOf(events).map(({ data }) => pictureOf(data as Uint8Array).prompt)).toEqual([
      ...Array<string>(4).fill('day'),
      ...Array<string>(5).fill('a starry night'),
      ...Array<string>(3).fill('dusk'),
    ]);
  });

  it('is cancelled, and then nothing of it comes', async () => {
    const dusk = await plan({ prompt: 'dusk', atBlock: 5 });
    expect(await cancel(dusk)).toMatchObject({ id: dusk.id, status: 'CANCELLED' });
    expect(await cancel(dusk)).toMatchObject({ status: 'CANCELLED' });
    expect(await refusal(move(dusk, { atBlock: 8 }))).toMatchObject({ code: 'CONFLICT' });
    const events = await toEnd();
    expect(applied(events)).toEqual([[0, 'day']]);
    expect(typesOf(events)).toEqual(['PromptRequested', 'PromptApplied', 'PromptRequested', 'PromptCancelled']);
  });

  it('that was moved to the block of another one last wins there', async () => {
    const dusk = await plan({ prompt: 'dusk', atBlock: 5 });
    const night = await plan({ prompt: 'night', atBlock: 7 });
    await move(dusk, { atBlock: 7 });
    const events = await toEnd();
    expect(applied(events)).toEqual([
      [0, 'day'],
      [7, 'dusk'],
    ]);
    expect(events).toContainEqual(
      expect.objectContaining({ type: 'PromptSuperseded', receiptId: night.id, supersededBy: dusk.id }),
    );
  });

  it('is logged once, however often the same is asked for', async () => {
    const dusk = await plan({ prompt: 'dusk', atBlock: 5, idempotencyKey: 'k' });
    expect(await plan({ prompt: 'dusk', atBlock: 5, idempotencyKey: 'k' })).toEqual(dusk);
    const moved = await move(dusk, { atBlock: 6 });
    expect(await move(dusk, { atBlock: 6 })).toEqual(moved);
    // Its first answer may have got lost before somebody moved it.
    expect(await plan({ prompt: 'dusk', atBlock: 5, idempotencyKey: 'k' })).toEqual(moved);
    expect(typesOf(await toEnd()).filter((type) => type !== 'PromptApplied')).toEqual([
      'PromptRequested',
      'PromptRequested',
      'PromptMoved',
    ]);
  });

  it('is where it was moved to after a crash, and after a rest', async () => {
    const dusk = await plan({ prompt: 'dusk', atBlock: 5 });
    const night = await plan({ prompt: 'night', atBlock: 6 });
    await move(dusk, { atBlock: 8, prompt: 'a red dusk' });
    await cancel(night);
    const next = await successorOf(world);
    await move(dusk, { atBlock: 9 }, next);
    expect(applied(await toEnd(next))).toEqual([
      [0, 'day'],
      [9, 'a red dusk'],
    ]);
  });

  it('stays behind when a fork is made, which tells of those that came as they came', async () => {
    const dusk = await plan({ prompt: 'dusk', atBlock: 5 });
    await plan({ prompt: 'night', atBlock: 10 });
    await move(dusk, { prompt: 'a red dusk' });
    await toEnd();
    const { service, clock } = world;
    const fork = await clock.until(service.forkSession(session.id, { atChunk: 8, pace: 'FASTEST', maxSeconds: 8.5 }));
    const events = await readToEnd(world, fork.id);
    expect(applied(events)).toEqual([
      [0, 'day'],
      [5, 'a red dusk'],
    ]);
    expect(events.filter(({ type }) => type === 'PromptRequested')).toMatchObject([{}, { prompt: 'a red dusk' }]);
  });

  it('is in the older pages of receipts as it was in the end', async () => {
    const dusk = await plan({ prompt: 'dusk', atBlock: 5 });
    const night = await plan({ prompt: 'night', atBlock: 6 });
    await move(dusk, { atBlock: 8, prompt: 'a red dusk' });
    await cancel(night);
    await toEnd();
    const { service, clock, store } = world;
    const known = await clock.until(service.session(session.id));
    const { context } = service as unknown as { context: { vault: ConstructorParameters<typeof LogReader>[0] } };
    const { keysOf } = await import('../../../src/sessions/index.js');
    const log = new LogReader(context.vault, keysOf(session.id));
    // As if the snapshot had forgotten all of them.
    const forgetful = { ...known, receipts: [], prompts: { ...known.prompts, requested: 3 } };
    const { items } = await clock.until(receiptsBefore(log, forgetful, 10));
    expect(items.map(({ prompt, status, appliedBlock }) => [prompt, status, appliedBlock])).toEqual([
      ['night', 'CANCELLED', undefined],
      ['a red dusk', 'APPLIED', 8],
      ['day', 'APPLIED', 0],
    ]);
    expect(store.objects.size).toBeGreaterThan(0);
  });
});

describe('is refused', () => {
  it('a place that is none, or has gone by', async () => {
    const { chunks } = await world.clock.until(world.service.session(session.id));
    expect(chunks).toBeGreaterThan(0);
    expect(await refusal(plan({ prompt: 'x' }))).toMatchObject({ code: 'INVALID_INPUT', field: 'atSeconds' });
    expect(await refusal(plan({ prompt: 'x', atSeconds: 1, atBlock: 1 }))).toMatchObject({ field: 'atSeconds' });
    expect(await refusal(plan({ prompt: 'x', atSeconds: Number.NaN }))).toMatchObject({ field: 'atSeconds' });
    expect(await refusal(plan({ prompt: 'x', atBlock: 1.5 }))).toMatchObject({ field: 'atBlock' });
    expect(await refusal(plan({ prompt: 'x', atBlock: 0 }))).toMatchObject({ code: 'INVALID_INPUT', field: 'atBlock' });
    expect(await refusal(plan({ prompt: 'x', atSeconds: 0 }))).toMatchObject({
      field: 'atSeconds',
      message: expect.stringContaining('atSeconds 0 has passed') as string,
    });
    expect(await refusal(plan({ prompt: ' ', atBlock: 9 }))).toMatchObject({ field: 'prompt' });
    const dusk = await plan({ prompt: 'dusk', atBlock: 5 });
    expect(await refusal(move(dusk, { atBlock: 0 }))).toMatchObject({ field: 'atBlock' });
    expect(await refusal(move(dusk, { prompt: ' ' }))).toMatchObject({ field: 'prompt' });
    expect(await refusal(move(dusk, { mode: 'CLEAR_CACHE', transition: { chunks: 3 } }))).toMatchObject({
      field: 'transition',
    });
  });

  it('what is not there, has taken effect, or begins the video', async () => {
    const none = { id: 'none' } as SwitchReceipt;
    expect(await refusal(cancel(none))).toMatchObject({ code: 'NOT_FOUND', field: 'receiptId' });
    const first = (await world.clock.until(world.service.session(session.id))).receipts[0] as SwitchReceipt;
    expect(await refusal(cancel(first))).toMatchObject({ code: 'CONFLICT' });
    await toEnd();
    expect(await refusal(plan({ prompt: 'late', atBlock: 50 }))).toMatchObject({ code: 'ENDED' });
    expect(await refusal(cancel(first))).toMatchObject({ code: 'ENDED' });
  });

  it('a change of the prompt that the video begins with, but for its words', async () => {
    const slow = makeWorld({ policy: { maxSessions: 1 } });
    const { service, clock } = slow;
    await clock.until(service.start());
    await clock.until(service.createSession({ prompt: 'other', pace: 'FASTEST', maxSeconds: 600 }));
    session = await clock.until(service.createSession({ prompt: 'day', maxWaitSeconds: 100 }));
    const [first] = session.receipts as [SwitchReceipt];
    expect(await refusal(cancel(first, slow))).toMatchObject({ code: 'CONFLICT' });
    expect(await refusal(move(first, { atBlock: 3 }, slow))).toMatchObject({ code: 'CONFLICT' });
    expect(await move(first, { prompt: 'dawn' }, slow)).toMatchObject({ prompt: 'dawn', when: { block: 0 } });
  });

  it('what is in the making, exactly from there on', async () => {
    const world = makeWorld({ times: { step: 500, recache: 4_000 } });
    const { service, clock } = world;
    const made = await clock.until(service.createSession({ prompt: 'day', pace: 'FASTEST', maxSeconds: 8.5 }));
    const dusk = await clock.until(service.planPrompt(made.id, { prompt: 'dusk', atBlock: 2 }));
    const answers: string[] = [];
    for (let n = 0; n < 60; n++) {
      await clock.advance(250);
      const refused = await refusal(
        clock.until(service.movePrompt(made.id, dusk.id, { prompt: `dusk ${n}`, atBlock: 2 })),
      );
      answers.push(refused ? refused.code : 'moved');
      if (refused) break;
    }
    expect(answers.filter((answer) => answer === 'moved').length).toBeGreaterThan(3);
    expect(answers.at(-1)).toBe('CONFLICT');
    const events = await readToEnd(world, made.id);
    expect(applied(events)).toEqual([
      [0, 'day'],
      [2, `dusk ${answers.length - 2}`],
    ]);
  });
});
