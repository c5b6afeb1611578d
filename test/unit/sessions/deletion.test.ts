import { describe, expect, it, vi } from 'vitest';
import { Checker, type ForkSessionInput, type StoredEvent, StoreError } from '../../../src/sessions/index.js';
import { pictureOf } from '../../support/fake-media.js';
import { chunksOf, expectWhole, makeParent, makeWorld, readToEnd, type World } from '../../support/fake-service.js';

// Virtual time costs little, but a crowded machine may take its time over it.
vi.setConfig({ testTimeout: 60_000 });

const STORY = { prompt: 'a fox', maxSeconds: 12, pace: 'FASTEST' as const, seed: 3n };
const OUTAGE = new StoreError('UNREACHABLE', 'no route to host');

async function finished(world: World, input: object = {}): Promise<string> {
  const { id } = await world.clock.until(world.service.createSession({ ...STORY, ...input }));
  await readToEnd(world, id);
  return id;
}

async function forkOf(world: World, id: string, atChunk: number, input: ForkSessionInput = {}): Promise<string> {
  const { id: fork } = await world.clock.until(
    world.service.forkSession(id, { atChunk, pace: 'FASTEST', maxSeconds: 12, prompt: 'a bird', ...input }),
  );
  await readToEnd(world, fork);
  return fork;
}

async function remove(world: World, id: string): Promise<void> {
  await world.clock.until(world.service.deleteSession(id));
  await world.clock.advance(1);
}

const filesOf = ({ store }: World, id: string) =>
  [...store.objects.keys()].filter((key) => key.includes(id)).map((key) => key.replace(`sessions/${id}/`, ''));
const chunkFiles = (world: World, id: string) => filesOf(world, id).filter((file) => file.startsWith('chunks/')).length;
const pictures = (events: StoredEvent[]) => chunksOf(events).map(({ data }) => pictureOf(data).picture);

async function expectFsckClean({ store, media }: World): Promise<void> {
  const findings = [];
  for await (const report of new Checker({ store, media }, { repair: false }).all()) findings.push(...report.findings);
  expect(findings).toEqual([]);
}

describe('a deleted session', () => {
  it.each([1, 2])('that is its own ancestor (%i) by damaged records is removed with its files', async (length) => {
    const world = makeWorld();
    const ids = [await finished(world), ...(length === 2 ? [await finished(world)] : [])];
    for (const [i, id] of ids.entries()) {
      const parent = ids[(i + 1) % ids.length] as string;
      await makeParent(world, id, parent);
      await world.store.put(`sessions/${parent}/forks/${id}`, Buffer.from('0'));
    }
    const next = makeWorld({ after: world });
    for (const id of ids) await remove(next, id);
    await next.clock.advance(10_000);
    for (const id of ids) expect(filesOf(next, id)).toEqual(['session.json']);
    expect([...next.store.objects.keys()].filter((key) => /^deleting\/[a-z0-9]+$/.test(key))).toEqual([]);
  });

  it('is gone with all its files, and deleting it again answers the same', async () => {
    const world = makeWorld();
    const [id, other] = [await finished(world), await finished(world)];
    const deleted = await world.clock.until(world.service.deleteSession(id));
    await world.clock.advance(1_000);
    expect(filesOf(world, id)).toEqual(['session.json']);
    expect(world.store.text(`sessions/${id}/session.json`)).not.toContain('fox');
    for (const asked of [world, makeWorld({ after: world })]) {
      await expect(asked.service.session(id)).rejects.toMatchObject({
        code: 'NOT_FOUND',
        message: /was deleted on 20/,
      });
      await expect(asked.service.stopSession(id)).rejects.toMatchObject({ code: 'NOT_FOUND' });
      await expect(asked.service.resumeSession(id)).rejects.toMatchObject({ code: 'NOT_FOUND' });
      await expect(asked.service.forkSession(id)).rejects.toMatchObject({ code: 'NOT_FOUND' });
      expect((await asked.service.sessions()).items.map((session) => session.id)).toEqual([other]);
      expect(await asked.clock.until(asked.service.deleteSession(id))).toEqual(deleted);
    }
    expectWhole(await readToEnd(world, other), 17);
    await expectFsckClean(world);
  });

  it('is ended first when it is not', async () => {
    const world = makeWorld();
    const { id } = await world.clock.until(world.service.createSession({ prompt: 'a fox', pace: 'FASTEST' }));
    await world.clock.advance(3_000);
    await remove(world, id);
    expect(filesOf(world, id)).toEqual(['session.json']);
    expect(world.engine.active).toBe(0);
    expect(world.service.status().sessions).toEqual({});
    const { id: paused } = await world.clock.until(world.service.createSession({ prompt: 'a fox', pace: 'FASTEST' }));
    await world.clock.advance(3_000);
    await world.clock.until(world.service.shutdown());
    const next = makeWorld({ after: world });
    await remove(next, paused);
    expect(filesOf(next, paused)).toEqual(['session.json']);
  });

  it('was never there, or is not of this service: NOT_FOUND', async () => {
    const world = makeWorld();
    for (const id of ['0'.repeat(26), 'x', '../../etc']) {
      await expect(world.service.deleteSession(id)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    }
    expect([...world.store.objects.keys()]).toEqual([]);
  });

  it('never lends its idempotency key to another one', async () => {
    const world = makeWorld();
    const id = await finished(world, { idempotencyKey: 'k' });
    await remove(world, id);
    const again = world.service.createSession({ ...STORY, idempotencyKey: 'k' });
    await expect(world.clock.until(again)).rejects.toMatchObject({ code: 'CONFLICT', message: /has been deleted/ });
  });

  it('can be one whose record nobody can read', async () => {
    const world = makeWorld();
    const id = await finished(world);
    world.store.objects.get(`sessions/${id}/session.json`)!.bytes[0] = 0;
    await world.store.put('deleting/forks-are-marked', new Uint8Array());
    await remove(world, id);
    expect(filesOf(world, id)).toEqual(['session.json']);
    await expect(world.service.session(id)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

describe('the forks of a deleted session', () => {
  it('stay whole: they play, download and go on, and what only they play is all that is kept', async () => {
    const world = makeWorld({ policy: { checkpointBlocks: 4 } });
    const id = await finished(world);
    const fork = await forkOf(world, id, 9);
    const before = await readToEnd(world, fork);
    await remove(world, id);
    expect(filesOf(world, id).sort()).toEqual(
      [
        ...Array.from({ length: 9 }, (_, n) => `chunks/00000${n}.m4s`),
        `forks/${fork}`,
        'init.mp4',
        'session.json',
      ].sort(),
    );
    const next = makeWorld({ after: world });
    const events = await readToEnd(next, fork);
    expect(pictures(events)).toEqual(pictures(before));
    expect(await next.service.playlist(fork)).toContain(`${id}/chunks/000008`);
    const again = await forkOf(next, fork, 5);
    expectWhole(await readToEnd(next, again), 17);
    await expectFsckClean(next);
  });

  it('let go of what they played when they are deleted, whichever goes first and however deep they go', async () => {
    for (const order of [
      [0, 1, 2, 3],
      [3, 2, 1, 0],
      [1, 0, 3, 2],
      [0, 2, 1, 3],
    ]) {
      const world = makeWorld({ policy: { checkpointBlocks: 4 } });
      const first = await finished(world);
      const second = await forkOf(world, first, 11);
      const third = await forkOf(world, second, 6);
      const other = await forkOf(world, first, 3);
      const all = [first, second, third, other];
      const left = new Set(all);
      for (const index of order) {
        await remove(world, all[index] as string);
        left.delete(all[index] as string);
        for (const id of left) expectWhole(await readToEnd(makeWorld({ after: world }), id), 17);
        const inherited = left.has(second) ? 11 : left.has(third) ? 6 : left.has(other) ? 3 : 0;
        if (!left.has(first)) expect([order, index, chunkFiles(world, first)]).toEqual([order, index, inherited]);
        await expectFsckClean(world);
      }
      expect(
        [...world.store.objects.keys()].filter((key) => !/session\.json$|^deployment\/|^servers\//.test(key)),
      ).toEqual([]);
    }
  });

  it('hold what they inherited against their own logs, however deep they go', async () => {
    const world = makeWorld();
    const id = await finished(world);
    const fork = await forkOf(world, id, 9);
    await forkOf(world, fork, 5);
    await remove(world, id);
    await remove(world, fork);
    for (const file of ['init.mp4', 'chunks/000004.m4s']) {
      const key = `sessions/${id}/${file}`;
      const { bytes } = world.store.objects.get(key)!;
      const { service } = makeWorld({ after: world });
      await expect(service.checkMedia(key, bytes)).resolves.toBeUndefined();
      const damaged = Uint8Array.from(bytes);
      damaged[0]! ^= 1;
      await expect(service.checkMedia(key, damaged)).rejects.toMatchObject({ code: 'STORAGE', key });
    }
  });

  it('made by a release that did not mark them are found', async () => {
    const world = makeWorld();
    const id = await finished(world);
    const fork = await forkOf(world, id, 9);
    world.store.objects.delete(`sessions/${id}/forks/${fork}`);
    await remove(world, id);
    expect(chunkFiles(world, id)).toBe(9);
    expectWhole(await readToEnd(makeWorld({ after: world }), fork), 17);
  });

  /** The mark that releases before this one made, once per store: nothing was looked for any more where it was. */
  const MARKED = 'deleting/forks-are-marked';

  it('that are marked nowhere stay whole, also when the service has deleted others before', async () => {
    const world = makeWorld();
    await world.store.put(MARKED, new Uint8Array());
    await remove(world, await finished(world));
    const first = await finished(world);
    const second = await forkOf(world, first, 9);
    const third = await forkOf(world, second, 5);
    for (const [parent, fork] of [
      [first, second],
      [second, third],
    ])
      world.store.objects.delete(`sessions/${parent}/forks/${fork}`);
    for (const asked of [world, makeWorld({ after: world })]) {
      const kept = asked === world ? [first, 9] : [second, 5];
      await remove(asked, kept[0] as string);
      await asked.clock.advance(10_000);
      expectWhole(await readToEnd(makeWorld({ after: world }), third), 17);
      if (asked === world) expect(chunkFiles(world, first)).toBe(9);
    }
    // Only the third plays anything of the first now, and the marks are there again.
    expect(chunkFiles(world, first)).toBe(5);
    await expectFsckClean(world);
    await remove(world, third);
    await world.clock.advance(10_000);
    for (const id of [first, second, third]) expect(filesOf(world, id)).toEqual(['session.json']);
  });

  it.each(['damaged', 'missing'])('whose record is %s stay whole, marked or not', async (what) => {
    for (const marked of [true, false]) {
      const world = makeWorld();
      const id = await finished(world);
      const fork = await forkOf(world, id, 9);
      await world.store.put(MARKED, new Uint8Array());
      if (!marked) world.store.objects.delete(`sessions/${id}/forks/${fork}`);
      const record = `sessions/${fork}/session.json`;
      const whole = world.store.objects.get(record)!;
      if (what === 'damaged') await world.store.put(record, Buffer.from('{'));
      else world.store.objects.delete(record);
      for (let hours = 0; hours < 2; hours++) await world.clock.advance(3_000_000);
      const next = makeWorld({ after: world });
      await remove(next, id);
      await next.clock.advance(10_000);
      expect([marked, chunkFiles(next, id)]).toEqual([marked, 9]);
      world.store.objects.set(record, whole);
      expectWhole(await readToEnd(makeWorld({ after: world }), fork), 17);
    }
  });

  it('of a fork that was deleted though nobody could read its record stay whole', async () => {
    const world = makeWorld();
    const first = await finished(world);
    const second = await forkOf(world, first, 9);
    const third = await forkOf(world, second, 5);
    await world.store.put(`sessions/${second}/session.json`, Buffer.from('{'));
    const next = makeWorld({ after: world });
    for (const id of [second, first]) await remove(next, id);
    await next.clock.advance(10_000);
    expectWhole(await readToEnd(makeWorld({ after: next }), third), 17);
    expect(chunkFiles(next, first)).toBe(5);
  });

  it('that are being made meanwhile are either refused or whole', async () => {
    for (let at = 0; at < 14; at++) {
      const world = makeWorld({ policy: { checkpointBlocks: 4 } });
      const id = await finished(world);
      // The deletion begins at every one of the fork's writes.
      let writes = 0;
      let deletion: Promise<unknown> | undefined;
      world.store.fault = (operation, key) => {
        if (operation === 'put' && key.includes('fork') && !key.startsWith('deleting/')) writes++;
        if (writes >= at && !deletion && operation === 'put') deletion = world.service.deleteSession(id);
        return undefined;
      };
      const made = await world.clock
        .until(world.service.forkSession(id, { atChunk: 9, pace: 'FASTEST', maxSeconds: 12, idempotencyKey: 'fork' }))
        .catch((error: unknown) => error);
      await world.clock.until(Promise.resolve(deletion ?? world.service.deleteSession(id)));
      world.store.fault = () => undefined;
      await world.clock.advance(60_000);
      const next = makeWorld({ after: world });
      await next.clock.until(next.service.start());
      await next.clock.advance(1_000);
      if (made instanceof Error) expect(made).toMatchObject({ code: 'NOT_FOUND' });
      else expectWhole(await readToEnd(next, (made as { id: string }).id), 17);
    }
  });
});

/** From now on nothing more fits into the store than what is in it. */
function fill({ store }: World): void {
  const size = () => [...store.objects.values()].reduce((sum, { bytes }) => sum + bytes.length, 0);
  const most = size();
  const put = store.put.bind(store);
  store.put = async (key, body, options) => {
    if (body.length > 0 && size() + body.length > most) throw new StoreError('NO_SPACE', `${key}: the disk is full`);
    return put(key, body, options);
  };
}

describe('where the store is full, a session', () => {
  it('that is finished can be deleted, and its forks stay whole', async () => {
    const world = makeWorld();
    const [id, other] = [await finished(world), await finished(world)];
    const fork = await forkOf(world, id, 9);
    fill(world);
    for (const gone of [id, other]) await remove(world, gone);
    await world.clock.advance(1);
    expect(filesOf(world, other)).toEqual(['session.json']);
    expect(chunkFiles(world, id)).toBe(9);
    expectWhole(await readToEnd(makeWorld({ after: world }), fork), 17);
    await expectFsckClean(world);
  });

  it('that filled it can be deleted, at its own server and at another one', async () => {
    for (const elsewhere of [false, true]) {
      const world = makeWorld();
      const { id } = await world.clock.until(world.service.createSession({ prompt: 'a fox', pace: 'FASTEST' }));
      await world.clock.advance(1_500);
      fill(world);
      await world.clock.advance(120_000);
      expect((await world.service.session(id)).reason).toBe('STORAGE');
      const asked = elsewhere ? makeWorld({ after: world }) : world;
      const began = world.clock.now();
      await world.clock.until(asked.service.deleteSession(id));
      expect(world.clock.now() - began).toBeLessThan(20_000);
      // Its owner finds out, and what it wrote meanwhile goes, too.
      await asked.clock.until(asked.service.start());
      await world.clock.advance(700_000);
      expect(filesOf(world, id)).toEqual(['session.json']);
      expect([world.engine.active, world.service.status().sessions]).toEqual([0, {}]);
      await expect(world.service.session(id)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    }
  });

  it('is either whole or deleted after a crash at any moment of its deletion', async () => {
    for (let at = 0; at < 60; at += 2) {
      const world = makeWorld({ policy: { checkpointBlocks: 4 } });
      const id = await finished(world);
      // Nothing that can be made again is there to make room with.
      for (const file of ['video.mp4', 'timeline.jsonl', 'index.m3u8'])
        world.store.objects.delete(`sessions/${id}/${file}`);
      fill(world);
      let left = at;
      const put = world.store.put.bind(world.store);
      const remove = world.store.delete.bind(world.store);
      const limited = <T>(work: () => Promise<T>): Promise<T> =>
        left-- > 0 ? work() : new Promise<T>(() => undefined);
      world.store.put = (...given) => limited(() => put(...given));
      world.store.delete = (key) => limited(() => remove(key));
      void world.service.deleteSession(id).catch(() => undefined);
      await world.clock.advance(1);
      Object.assign(world.store, { put, delete: remove });
      world.crash();
      const next = makeWorld({ after: { ...world, store: world.store } });
      await next.clock.until(next.service.start().catch(() => undefined));
      await next.clock.advance(120_000);
      if (filesOf(next, id).length > 1) expect([at, chunkFiles(next, id)]).toEqual([at, 17]);
      else await expect(next.service.session(id)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    }
  });
});

describe('a deletion that is cut short', () => {
  it('is completed by whoever comes next, wherever that was', async () => {
    for (let at = 0; at < 40; at += 3) {
      const world = makeWorld();
      const id = await finished(world);
      const fork = await forkOf(world, id, 4);
      let left = at;
      const remove = world.store.delete.bind(world.store);
      world.store.delete = async (key) => {
        if (left-- <= 0) throw OUTAGE;
        return remove(key);
      };
      void world.service.deleteSession(id).catch(() => undefined);
      await world.clock.advance(1);
      world.store.delete = remove;
      const next = makeWorld({ after: { ...world, store: world.store } });
      await next.clock.until(next.service.start());
      await next.clock.advance(120_000);
      await expect(next.service.session(id)).rejects.toMatchObject({ code: 'NOT_FOUND' });
      expect([at, chunkFiles(next, id), filesOf(next, id).length]).toEqual([at, 4, 7]);
      expectWhole(await readToEnd(next, fork), 17);
    }
  });
});
