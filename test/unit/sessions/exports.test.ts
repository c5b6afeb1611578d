import { describe, expect, it, vi } from 'vitest';
import {
  InProcessJobs,
  type Job,
  type SessionExport,
  StoreError,
  type StoreErrorCode,
  systemClock,
} from '../../../src/sessions/index.js';
import { makeWorld, readToEnd, type World } from '../../support/fake-service.js';

// Virtual time costs little, but a crowded machine may take its time over it.
vi.setConfig({ testTimeout: 60_000 });

const AWAY = new StoreError('UNREACHABLE', 'gone');

/** 17 chunks of two prompts. */
const STORY = {
  timeline: [{ prompt: 'a fox' }, { prompt: 'a robot', block: 6 }],
  ...{ maxSeconds: 12, pace: 'FASTEST' as const, seed: 3n },
};

async function finished(world: World): Promise<string> {
  const { id } = await world.clock.until(world.service.createSession(STORY));
  await readToEnd(world, id);
  return id;
}

async function done({ service, clock }: World, { sessionId, range }: SessionExport): Promise<SessionExport> {
  for (let i = 0; i < 100; i++) {
    await clock.advance(10);
    const now = await service.export(sessionId, range);
    if (now.state !== 'QUEUED' && now.state !== 'RUNNING') return now;
  }
  throw new Error('it is never done');
}

const blocksOf = (text: string) => [...text.matchAll(/"block":(\d+)/g)].map(([, block]) => Number(block));

/** Every chunk takes a while to be read, so that an export is under way for as long. */
function slowDown({ store, clock }: World): void {
  const get = store.get.bind(store);
  store.get = async (...args) => {
    if (args[0].includes('/chunks/')) await clock.sleep(100);
    return get(...args);
  };
}

/** Jobs on another machine that forgets everything, and then says so. */
class Forgetful extends InProcessJobs {
  forgets = true;
  private readonly listeners: (() => void)[] = [];

  override start(job: Job): void {
    if (!this.forgets) super.start(job);
  }

  override onLost(listener: () => void): void {
    this.listeners.push(listener);
  }

  remember(): void {
    this.forgets = false;
    for (const listener of this.listeners) listener();
  }
}

describe('an export', () => {
  it('is in the store, so that it is made though its job is forgotten', async () => {
    const jobs = new Forgetful(systemClock);
    const world = makeWorld({ jobs });
    await world.clock.until(world.service.start());
    const id = await finished(world);
    const begun = await world.service.exportSession(id, { fromSeconds: 3, toSeconds: 6 });
    await world.clock.advance(1_000);
    expect(await world.service.export(id, begun.range)).toMatchObject({ state: 'QUEUED' });
    jobs.remember();
    expect(await done(world, begun)).toMatchObject({ state: 'DONE' });
    await world.clock.until(world.service.shutdown());
  });

  it('has the chunks of its part and a timeline of its own, and is made once', async () => {
    const world = makeWorld();
    const id = await finished(world);
    const begun = await world.service.exportSession(id, { fromSeconds: 3, toSeconds: 6 });
    expect(begun).toMatchObject({
      state: 'QUEUED',
      progress: 0,
      fromChunk: 4,
      toChunk: 9,
      fromSeconds: 45 / 16,
      toSeconds: 105 / 16,
    });
    const made = await done(world, begun);
    expect(made).toMatchObject({ state: 'DONE', progress: 1 });
    expect(made.artifacts.map(({ kind }) => kind)).toEqual(['MP4', 'TIMELINE']);
    for (const { key, bytes } of made.artifacts) expect(world.store.objects.get(key)?.bytes.length).toBe(bytes);
    expect(blocksOf(world.store.text(made.artifacts[0]!.key))).toEqual([4, 5, 6, 7, 8]);
    const lines = world.store
      .text(made.artifacts[1]!.key)
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as object);
    expect(lines).toMatchObject([
      { prompt: 'a fox', block: 0, frame: 0, seconds: 0 },
      { prompt: 'a robot', block: 2, frame: 24, seconds: 1.5 },
    ]);
    expect(world.media.chapters).toEqual([
      { seconds: 0, title: 'a fox' },
      { seconds: 1.5, title: 'a robot' },
    ]);
    const puts = world.store.puts.length;
    expect(await world.service.exportSession(id, { fromChunk: 4, toChunk: 9 })).toEqual(made);
    expect(world.store.puts.length).toBe(puts);
    expect([...world.store.objects.keys()].filter((key) => key.startsWith('exporting/'))).toEqual([]);
  });

  it('is of what there is while a session goes on, which it does not disturb', async () => {
    const world = makeWorld();
    const { id } = await world.clock.until(world.service.createSession(STORY));
    await world.clock.advance(1_500);
    const { chunks } = await world.service.session(id);
    const made = await done(world, await world.service.exportSession(id));
    expect(made).toMatchObject({ state: 'DONE', fromChunk: 0, toChunk: chunks });
    expect((await readToEnd(world, id)).at(-1)).toMatchObject({ state: 'COMPLETED', chunks: 17 });
  });

  it.each([
    [{ fromSeconds: -1 }, 'fromSeconds'],
    [{ toSeconds: 99 }, 'toSeconds'],
    [{ fromSeconds: 1, fromChunk: 2 }, 'fromSeconds'],
    [{ fromChunk: 4, toChunk: 4 }, 'toChunk'],
    [{ fromSeconds: 6, toSeconds: 3 }, 'toSeconds'],
    [{ toChunk: 1.5 }, 'toChunk'],
    [{ fromSeconds: NaN }, 'fromSeconds'],
    [{ fromChunk: 17 }, 'fromChunk'],
    [{ fromChunk: 18 }, 'fromChunk'],
    [{ fromChunk: -1 }, 'fromChunk'],
    [{ fromChunk: 17, toChunk: 17 }, 'fromChunk'],
    [{ toChunk: 0 }, 'toChunk'],
    [{ toChunk: 18 }, 'toChunk'],
    [{ fromChunk: 5, toChunk: 4 }, 'toChunk'],
    [{ toSeconds: 0 }, 'toSeconds'],
    [{ toSeconds: -1 }, 'toSeconds'],
    [{ toSeconds: Infinity }, 'toSeconds'],
    [{ fromSeconds: 201 / 16 }, 'fromSeconds'],
    [{ fromSeconds: 99 }, 'fromSeconds'],
    [{ fromSeconds: 0, toSeconds: 0 }, 'toSeconds'],
    [{ fromSeconds: 1, toSeconds: 1 }, 'toSeconds'],
    [{ fromSeconds: 1.1, toSeconds: 1 }, 'toSeconds'],
    [{ fromChunk: 4, toSeconds: 45 / 16 }, 'toSeconds'],
    [{ fromSeconds: 3, toChunk: 4 }, 'toChunk'],
  ])('of %j is refused', async (input, field) => {
    const world = makeWorld();
    const id = await finished(world);
    await expect(world.service.exportSession(id, input)).rejects.toMatchObject({ code: 'INVALID_INPUT', field });
    await expect(world.service.export(id, '../../x')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it.each([
    [{}, [0, 17]],
    [{ fromChunk: 16 }, [16, 17]],
    [{ fromSeconds: 0, toSeconds: 201 / 16 }, [0, 17]],
    [{ toSeconds: 0.001 }, [0, 1]],
    [{ toSeconds: 9 / 16 }, [0, 1]],
    [{ fromSeconds: 9 / 16, toSeconds: 21 / 16 }, [1, 2]],
    [{ fromSeconds: 1, toSeconds: 1.001 }, [1, 2]],
    [{ fromSeconds: 200.9 / 16 }, [16, 17]],
    [{ fromSeconds: 3, toChunk: 5 }, [4, 5]],
    [{ fromChunk: 4, toSeconds: 3 }, [4, 5]],
  ])('of %j has the chunks from %j on, and no other', async (input, [fromChunk, toChunk]) => {
    const world = makeWorld();
    const id = await finished(world);
    expect(await world.service.exportSession(id, input)).toMatchObject({ fromChunk, toChunk });
  });

  it('is gone on with after a crash, wherever that was', async () => {
    const world = makeWorld();
    const id = await finished(world);
    world.store.fault = (_operation, key) =>
      key.endsWith('.mp4') && key.includes('exports')
        ? { when: 'before', error: new StoreError('UNREACHABLE', 'gone') }
        : undefined;
    const begun = await world.service.exportSession(id);
    await world.clock.advance(10);
    expect(await world.service.export(id, begun.range)).toMatchObject({ state: 'RUNNING' });
    world.store.fault = () => undefined;
    const next = makeWorld({ after: world });
    await next.clock.until(next.service.start());
    expect(await done(next, begun)).toMatchObject({ state: 'DONE' });
    expect([...world.store.objects.keys()].filter((key) => key.startsWith('exporting/'))).toEqual([]);
  });

  it('fails with what is lost, and is made when it is asked for again', async () => {
    const world = makeWorld();
    const id = await finished(world);
    const chunk = `sessions/${id}/chunks/000003.m4s`;
    const lost = world.store.objects.get(chunk)!;
    world.store.objects.delete(chunk);
    const failed = await done(world, await world.service.exportSession(id));
    expect(failed).toMatchObject({ state: 'FAILED', failure: { code: 'STORAGE' }, artifacts: [] });
    expect(failed.failure?.message).toContain(chunk);
    world.store.objects.set(chunk, lost);
    expect(await done(world, await world.service.exportSession(id))).toMatchObject({ state: 'DONE' });
  });

  it('waits its turn, and can be cancelled before and while it is made', async () => {
    const world = makeWorld();
    const id = await finished(world);
    slowDown(world);
    const first = await world.service.exportSession(id);
    const second = await world.service.exportSession(id, { toChunk: 3 });
    await world.clock.advance(1_000);
    const halfway = await world.service.export(id, first.range);
    expect(halfway.state).toBe('RUNNING');
    expect(halfway.progress).toBeGreaterThan(0.1);
    expect(halfway.progress).toBeLessThan(0.9);
    expect(await world.service.export(id, second.range)).toMatchObject({ state: 'QUEUED' });
    expect(await world.clock.until(world.service.cancelExport(id, first.range))).toMatchObject({ state: 'CANCELLED' });
    expect(await done(world, second)).toMatchObject({ state: 'DONE' });
    expect(await world.service.cancelExport(id, second.range)).toMatchObject({ state: 'DONE' });
    await world.clock.until(world.service.deleteSession(id));
    await world.clock.advance(10);
    expect([...world.store.objects.keys()].filter((key) => key.includes('/exports/'))).toEqual([]);
  });

  it('is gone on with after a crash although the store fails for long at the start', async () => {
    const world = makeWorld();
    const id = await finished(world);
    world.store.fault = (_operation, key) => (key.includes('.mp4') ? { when: 'before', error: AWAY } : undefined);
    const begun = await world.service.exportSession(id);
    await world.clock.advance(10);
    world.crash();
    const next = makeWorld({ after: world });
    world.store.fault = (_operation, key) => (key.includes('export') ? { when: 'before', error: AWAY } : undefined);
    await next.clock.until(next.service.start());
    await next.clock.advance(200_000);
    world.store.fault = () => undefined;
    await next.clock.advance(10_000);
    expect(await next.clock.until(done(next, begun))).toMatchObject({ state: 'DONE' });
  });

  it('waits for a store that cannot be reached, and is told as failed where it refuses', async () => {
    const world = makeWorld({ policy: { storeRetrySeconds: 5 } });
    await world.clock.until(world.service.start());
    const id = await finished(world);
    let code: StoreErrorCode | undefined = 'UNREACHABLE';
    world.store.fault = (_operation, key) =>
      code && key.includes('/exports/') && key.endsWith('.mp4')
        ? { when: 'before', error: new StoreError(code, 'gone') }
        : undefined;
    const begun = await world.service.exportSession(id);
    await world.clock.advance(500_000);
    expect(await world.service.export(id, begun.range)).toMatchObject({ state: 'RUNNING' });
    code = undefined;
    await world.clock.advance(15_000);
    expect(await world.service.export(id, begun.range)).toMatchObject({ state: 'DONE' });
    // Nothing can be written, not even that it failed.
    const other = await world.service.exportSession(id, { toChunk: 3 });
    world.store.fault = (operation) =>
      operation === 'put' ? { when: 'before', error: new StoreError('DENIED', 'no') } : undefined;
    await world.clock.advance(200_000);
    world.store.fault = () => undefined;
    await world.clock.advance(15_000);
    const failed = await world.service.export(id, other.range);
    expect(failed).toMatchObject({ state: 'FAILED', failure: { code: 'STORAGE' } });
    expect([...world.store.objects.keys()].filter((key) => key.startsWith('exporting/'))).toEqual([]);
  });

  it('is gone on with by another server when the one that made it is no more', async () => {
    const world = makeWorld();
    const other = makeWorld({ after: world });
    await world.clock.until(world.service.start());
    await world.clock.until(other.service.start());
    const id = await finished(world);
    world.store.fault = (_operation, key) => (key.includes('.mp4') ? { when: 'before', error: AWAY } : undefined);
    const begun = await world.service.exportSession(id);
    await world.clock.advance(10);
    world.crash();
    world.store.fault = () => undefined;
    await other.clock.advance(30_000);
    expect(await other.clock.until(other.service.export(id, begun.range))).toMatchObject({ state: 'DONE' });
  });

  it('whose file is damaged is made again when it is asked for', async () => {
    const world = makeWorld();
    const id = await finished(world);
    const begun = await world.service.exportSession(id);
    await done(world, begun);
    await world.store.put(`sessions/${id}/exports/${begun.range}.json`, Buffer.from('{"state":"DO'));
    await expect(world.service.export(id, begun.range)).rejects.toMatchObject({ code: 'STORAGE' });
    expect(await done(world, await world.service.exportSession(id))).toMatchObject({ state: 'DONE' });
  });

  it('of a session that is deleted meanwhile leaves nothing', async () => {
    const world = makeWorld();
    const id = await finished(world);
    slowDown(world);
    await world.service.exportSession(id);
    await world.clock.advance(1_000);
    await world.clock.until(world.service.deleteSession(id));
    await world.clock.advance(60_000);
    expect([...world.store.objects.keys()].filter((key) => key.includes('export'))).toEqual([]);
  });
});
