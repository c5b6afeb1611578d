import { describe, expect, it, vi } from 'vitest';
import type { Session, SwitchReceipt, TimelineEntry } from '../../../src/sessions/index.js';
import { decodeRecord, encodeRecord } from '../../../src/sessions/stored/record.js';
import { pictureOf } from '../../support/fake-media.js';
import { chunksOf, makeWorld, read, readToEnd, successorOf, type World } from '../../support/fake-service.js';

vi.setConfig({ testTimeout: 60_000 });

const STORY = Array.from({ length: 130 }, (_, block) => ({ prompt: `scene ${block}`, block }));
const FASTEST = { pace: 'FASTEST' } as const;

async function told(world: World, maxSeconds: number): Promise<string> {
  const { id } = await world.clock.until(world.service.createSession({ timeline: STORY, maxSeconds, ...FASTEST }));
  return id;
}

async function paused(world: World): Promise<string> {
  const { id } = await world.clock.until(world.service.createSession({ prompt: 'first', maxSeconds: 60, ...FASTEST }));
  await world.clock.until(read(world, id, {}, (event) => event.type === 'FrameChunk'));
  await world.clock.until(world.service.pauseSession(id));
  return id;
}

/** Sends `rounds` times `count` prompts, each time to be taken by a block of its own. */
async function spam(world: World, id: string, rounds: number, count: number): Promise<SwitchReceipt[]> {
  const receipts: SwitchReceipt[] = [];
  for (let round = 0; round < rounds; round++) {
    const sent = Array.from({ length: count }, (_, i) => ({ prompt: `prompt ${round}.${i}` }));
    receipts.push(
      ...(await world.clock.until(Promise.all(sent.map((input) => world.service.switchPrompt(id, input))))),
    );
    const last = receipts.at(-1)?.id;
    const applied = read(
      world,
      id,
      { after: 'live' },
      (event) => event.type === 'PromptApplied' && event.receiptId === last,
    );
    await world.clock.until(world.service.resumeSession(id));
    await world.clock.until(applied);
    await world.clock.until(world.service.pauseSession(id));
  }
  return receipts;
}

/** The requests that a session's producer keeps as decided; nobody but whoever counts memory sees them. */
function decidedIn({ service }: World, id: string): ReadonlySet<string> {
  const at = (of: object, name: string): object => Reflect.get(of, name) as object;
  const owned = (at(service, 'directory') as { at(id: string): object }).at(id);
  return at(at(at(owned, 'life'), 'producer'), 'settled') as ReadonlySet<string>;
}

async function pages<Item extends { sequence?: number }>(
  turn: (before: number | undefined) => Promise<{ items: Item[]; more: boolean }>,
): Promise<Item[]> {
  const all: Item[] = [];
  for (let more = true; more;) {
    const page = await turn(all.at(-1)?.sequence);
    all.push(...page.items);
    more = page.more;
  }
  return all;
}

const allReceipts = (world: World, session: Session) =>
  pages((before) => world.service.receipts(session, { first: 37, before }));
const allEntries = (world: World, session: Session): Promise<TimelineEntry[]> =>
  pages((before) => world.service.timeline(session, { first: 37, before }));

describe('a session that is sent many prompts', () => {
  it('keeps the pending and the newest settled ones in memory and in its record, and finds the others in its log', async () => {
    const world = makeWorld();
    const id = await paused(world);
    const sent = await spam(world, id, 6, 50);
    const far = await world.clock.until(world.service.switchPrompt(id, { prompt: 'far', when: { block: 5_000 } }));
    const more = await spam(world, id, 3, 50);
    const session = await world.service.session(id);
    expect(session.receipts).toHaveLength(101);
    expect(session.receipts[0]).toMatchObject({ id: far.id, status: 'PENDING' });
    expect(session.prompts).toEqual({ requested: 452, inherited: 0, applied: 10 });
    const receipts = (await allReceipts(world, session)).reverse();
    expect(receipts.slice(1).map((receipt) => receipt.id)).toEqual(
      [...sent, far, ...more].map((receipt) => receipt.id),
    );
    const winners = receipts.filter(({ status }) => status === 'APPLIED').map(({ prompt }) => prompt);
    expect(winners).toEqual(['first', ...[0, 1, 2, 3, 4, 5, 0, 1, 2].map((round) => `prompt ${round}.49`)]);
    expect(receipts.filter(({ status }) => status === 'SUPERSEDED')).toHaveLength(9 * 49);
    const superseded = receipts.find(({ prompt }) => prompt === 'prompt 2.7');
    expect(superseded).toMatchObject({ status: 'SUPERSEDED', supersededBy: sent[2 * 50 + 49]?.id });
    const stored = await world.store.get(`sessions/${id}/session.json`);
    let bytes = 0;
    for await (const part of stored.body) bytes += part.length;
    expect(bytes).toBeLessThan(60_000);
  });

  it('forgets in the producer what the log has of them', async () => {
    const world = makeWorld();
    const { id } = await world.clock.until(world.service.createSession({ prompt: 'first', ...FASTEST }));
    await world.clock.until(read(world, id, {}, (event) => event.type === 'FrameChunk'));
    world.slow(20);
    let most = 0;
    for (let round = 0; round < 60; round++) {
      const sent = Array.from({ length: 5 }, (_, i) => ({ prompt: `prompt ${round}.${i}` }));
      await world.clock.until(Promise.all(sent.map((input) => world.service.switchPrompt(id, input))));
      for (let part = 0; part < 40; part++) {
        await world.clock.advance(10);
        most = Math.max(most, decidedIn(world, id).size);
      }
    }
    expect((await world.service.session(id)).prompts.requested).toBe(301);
    expect((await world.service.session(id)).prompts.applied).toBeGreaterThan(40);
    expect(most).toBeGreaterThan(0);
    // What one block settles, while that is on its way to the log.
    expect(most).toBeLessThan(20);
    await world.clock.advance(1_000);
    expect(decidedIn(world, id).size).toBe(0);
    await world.clock.until(world.service.stopSession(id));
  });

  it('gives its prompts in pages also when another worker, or an earlier release, has written its record', async () => {
    const world = makeWorld();
    const id = await paused(world);
    await spam(world, id, 4, 40);
    const session = await world.service.session(id);
    const expected = await allReceipts(world, session);
    const old = {
      ...session,
      receipts: expected.toReversed().map(({ sequence: _sequence, ...receipt }) => receipt),
      timeline: session.timeline.map(({ sequence: _sequence, ...entry }) => entry),
    };
    const uncounted = { ...old, prompts: undefined };
    const record = { since: 1, id, owner: null, inputDigest: '', request: { seed: 1n }, snapshot: uncounted } as never;
    const { snapshot } = decodeRecord(encodeRecord(record), 'session.json');
    expect(snapshot.receipts).toHaveLength(100);
    expect(snapshot.prompts).toEqual(session.prompts);
    expect(await allReceipts(world, snapshot)).toEqual(expected);
    expect(await allEntries(world, snapshot)).toEqual(session.timeline.toReversed());
  });

  it('refuses more than may wait, and takes them again when those have their turn', async () => {
    const world = makeWorld({ policy: { maxPendingPrompts: 3 } });
    const id = await paused(world);
    const ask = (block?: number) =>
      world.service.switchPrompt(id, { prompt: 'more', ...(block !== undefined && { when: { block } }) });
    const all = await world.clock.until(Promise.allSettled([ask(), ask(), ask(), ask(), ask()]));
    expect(all.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'fulfilled', 'rejected', 'rejected']);
    expect(all[4]).toMatchObject({ reason: { code: 'AT_CAPACITY', retryAfterSeconds: 1 } });
    for (let block = 500; block < 700; block++) await world.clock.until(ask(block));
    await expect(ask(700)).rejects.toMatchObject({ code: 'AT_CAPACITY' });
    await world.clock.until(world.service.resumeSession(id));
    await world.clock.until(read(world, id, {}, (event) => event.type === 'PromptApplied' && event.prompt === 'more'));
    expect(await world.clock.until(ask())).toMatchObject({ accepted: true });
  });
});

describe('a session with a long story', () => {
  it('tells all of it in pages and in its artifact, and keeps the newest entries', async () => {
    const world = makeWorld();
    const id = await told(world, 100);
    await readToEnd(world, id);
    const session = await world.service.session(id);
    expect(session.timeline).toHaveLength(100);
    expect((await allEntries(world, session)).map(({ prompt }) => prompt)).toEqual(
      STORY.map(({ prompt }) => prompt).reverse(),
    );
    const { body } = await world.store.get(`sessions/${id}/timeline.jsonl`);
    let text = '';
    for await (const part of body) text += Buffer.from(part).toString();
    const lines = text.trim().split('\n');
    expect(lines).toHaveLength(130);
    expect(Object.keys(JSON.parse(lines[0] ?? '') as object)).toEqual([
      ...['prompt', 'mode', 'block', 'frame', 'seconds', 'receiptId', 'recacheMilliseconds'],
    ]);
  });

  it('goes on elsewhere without a checkpoint: every block again under its own prompt', async () => {
    const policy = { checkpointBlocks: 1e9 };
    const before = makeWorld({ policy });
    const id = await told(before, 110);
    await before.clock.until(read(before, id, {}, (event) => event.type === 'FrameChunk' && event.chunk === 120));
    const world = await successorOf(before, { policy });
    const events = await readToEnd(world, id);
    expect(world.engine.opened).toEqual(['open']);
    const shown = chunksOf(events).map(({ data }) => pictureOf(data).prompt);
    expect(shown.slice(0, 130)).toEqual(STORY.map(({ prompt }) => prompt));
    expect(shown.at(-1)).toBe('scene 129');
  });

  it('is inherited by a fork', async () => {
    const world = makeWorld();
    const id = await told(world, 110);
    await readToEnd(world, id);
    const fork = await world.clock.until(
      world.service.forkSession(id, { atChunk: 125, prompt: 'mine', maxSeconds: 105, ...FASTEST }),
    );
    expect(fork.prompts).toEqual({ requested: 126, inherited: 125, applied: 125 });
    await readToEnd(world, fork.id);
    const session = await world.service.session(fork.id);
    expect((await allEntries(world, session)).map(({ prompt }) => prompt).slice(0, 2)).toEqual(['mine', 'scene 124']);
    expect(await allReceipts(world, session)).toHaveLength(126);
  });
});
