import { describe, expect, it, vi } from 'vitest';
import { Checker, type SessionReport } from '../../../src/sessions/index.js';
import { sealText } from '../../../src/sessions/stored/checksum.js';
import { chunksOf, makeWorld, read, readToEnd, type World } from '../../support/fake-service.js';

// Virtual time costs little, but a crowded machine may take its time over it.
vi.setConfig({ testTimeout: 60_000 });

const STORY = { prompt: 'a fox', maxSeconds: 12, pace: 'FASTEST' as const, seed: 3n };

/** A finished session of 17 chunks with four checkpoints, a fork of it, and one that is paused. */
async function sample(): Promise<{ world: World; id: string; fork: string; paused: string }> {
  const world = makeWorld({ policy: { checkpointBlocks: 4, idleSeconds: 0 } });
  const { service, clock } = world;
  const { id } = await clock.until(service.createSession(STORY));
  await readToEnd(world, id);
  const { id: fork } = await clock.until(
    service.forkSession(id, { atChunk: 9, prompt: 'a bird', pace: 'FASTEST', maxSeconds: 12 }),
  );
  await readToEnd(world, fork);
  const { id: paused } = await clock.until(service.createSession({ ...STORY, maxSeconds: undefined }));
  await clock.until(read(world, paused, {}, (event) => event.type === 'FrameChunk' && event.chunk === 80));
  await clock.until(service.shutdown());
  return { world, id, fork, paused };
}

async function check({ store, media, clock }: World, repair = false): Promise<SessionReport[]> {
  const reports: SessionReport[] = [];
  const all = async () => {
    for await (const report of new Checker({ store, media }, { repair }).all()) reports.push(report);
  };
  await Promise.race([all(), clock.sleep(1e9)]);
  return reports;
}

const problems = (reports: SessionReport[]) =>
  reports.flatMap(({ findings }) => findings.map(({ key, problem, repaired }) => ({ key, problem, repaired })));

function flip(world: World, key: string, at = 40): void {
  world.store.objects.get(key)!.bytes[at]! ^= 4;
}

/** As a later release would write it. */
function makeNewer(world: World, id: string): void {
  const entry = world.store.objects.get(`sessions/${id}/session.json`)!;
  const record = JSON.parse(new TextDecoder().decode(entry.bytes)) as object;
  const later = { ...record, formatVersion: 99, check: undefined };
  entry.bytes = new TextEncoder().encode(sealText(JSON.stringify(later)));
}

describe('fsck', () => {
  it('finds nothing wrong with what the service wrote', async () => {
    const { world, id, fork, paused } = await sample();
    const reports = await check(world);
    expect(problems(reports)).toEqual([]);
    expect(Object.fromEntries(reports.map(({ sessionId, ...rest }) => [sessionId, rest]))).toMatchObject({
      [id]: { state: 'COMPLETED', chunks: 17, checkpoints: 4 },
      [fork]: { state: 'COMPLETED', chunks: 17, checkpoints: 3 },
      [paused]: { state: 'PAUSED' },
    });
  });

  it('throws nothing away when the log is lost, and leaves a finished session finished', async () => {
    const { world, id } = await sample();
    const prefix = `sessions/${id}/`;
    for (const key of [...world.store.objects.keys()])
      if (key.startsWith(`${prefix}log/`)) world.store.objects.delete(key);
    const before = new Map(
      [...world.store.objects].map(([key, { bytes }]) => [key, Buffer.from(bytes).toString('hex')]),
    );
    const found = problems(await check(world, true)).filter(({ key }) => key.startsWith(prefix));
    expect(found).toContainEqual({
      key: `${prefix}session.json`,
      problem: expect.stringMatching(/^records \d+ events, but the log has 0, and \d+ chunks are not in it$/) as string,
      repaired: false,
    });
    const after = new Map(
      [...world.store.objects].map(([key, { bytes }]) => [key, Buffer.from(bytes).toString('hex')]),
    );
    for (const [key, bytes] of before) if (key.startsWith(prefix)) expect(after.get(key), key).toBe(bytes);
  });

  it('takes no other session for the one whose folder it lies in', async () => {
    const { world, id, paused } = await sample();
    world.store.objects.set(`sessions/${paused}/session.json`, world.store.objects.get(`sessions/${id}/session.json`)!);
    const found = problems(await check(world, true));
    expect(found).toContainEqual({
      key: `sessions/${paused}/session.json`,
      problem: 'is the record of another session',
      repaired: false,
    });
  });

  const repairable: [string, string, (world: World, prefix: string, id: string) => string][] = [
    [
      'a flipped bit in the log',
      'is damaged in event 6',
      (world, prefix) => {
        flip(world, `${prefix}log/000000.jsonl`, 900);
        return `${prefix}log/000000.jsonl`;
      },
    ],
    [
      'a damaged checkpoint',
      'checksum differs',
      (world, prefix) => {
        flip(world, `${prefix}checkpoints/000016.safetensors`, 3);
        return `${prefix}checkpoints/000016.safetensors`;
      },
    ],
    [
      'a checkpoint of what is not there',
      'is at block 40, but the log has 17 chunks',
      (world, prefix) => {
        const key = `${prefix}checkpoints/000040.safetensors`;
        world.store.objects.set(key, world.store.objects.get(`${prefix}checkpoints/000016.safetensors`)!);
        return key;
      },
    ],
    [
      'a chunk that no log knows',
      'is not in the log',
      (world, prefix) => {
        const key = `${prefix}chunks/000017.m4s`;
        world.store.objects.set(key, world.store.objects.get(`${prefix}chunks/000016.m4s`)!);
        return key;
      },
    ],
    [
      'no MP4',
      'is missing',
      (world, prefix) => {
        world.store.objects.delete(`${prefix}video.mp4`);
        return `${prefix}video.mp4`;
      },
    ],
    [
      'another MP4',
      'checksum differs',
      (world, prefix) => {
        flip(world, `${prefix}video.mp4`);
        return `${prefix}video.mp4`;
      },
    ],
    [
      'a cut timeline',
      'bytes, but',
      (world, prefix) => {
        const entry = world.store.objects.get(`${prefix}timeline.jsonl`)!;
        entry.bytes = entry.bytes.slice(0, 20);
        return `${prefix}timeline.jsonl`;
      },
    ],
    [
      'another playlist',
      'checksum differs',
      (world, prefix) => {
        flip(world, `${prefix}index.m3u8`);
        return `${prefix}index.m3u8`;
      },
    ],
    [
      'no place in the list',
      'is missing: the session is in no index',
      (world, _prefix, id) => {
        const key = [...world.store.objects.keys()].find((name) => name.startsWith('by-date/') && name.endsWith(id))!;
        world.store.objects.delete(key);
        return key;
      },
    ],
    [
      'the mark of one that is not finished',
      'still exists although',
      (world, _prefix, id) => {
        world.store.objects.set(`unfinished/${id}`, { bytes: new Uint8Array(), etag: '"x"', contentType: '' });
        return `unfinished/${id}`;
      },
    ],
    [
      'an entry of a session that is gone',
      'to a session that does not exist',
      (world) => {
        world.store.objects.set('by-date/1-x', { bytes: new Uint8Array(), etag: '"x"', contentType: '' });
        return 'by-date/1-x';
      },
    ],
  ];

  it.each(repairable)('names and repairs %s', async (_what, problem, damage) => {
    const { world, id } = await sample();
    const before = new Map([...world.store.objects].map(([key, { bytes }]) => [key, Buffer.from(bytes)]));
    const key = damage(world, `sessions/${id}/`, id);
    const expected = expect.stringContaining(problem) as string;
    expect(problems(await check(world))).toEqual([{ key, problem: expected, repaired: false }]);
    expect(problems(await check(world, true))).toEqual([{ key, problem: expected, repaired: true }]);
    expect(problems(await check(world))).toEqual([]);
    // But for what was damaged beyond use, all is as it was.
    for (const [name, { bytes }] of world.store.objects)
      expect([name, Buffer.from(bytes)]).toEqual([name, before.get(name)]);
    for (const name of before.keys()) {
      if (!name.includes('/checkpoints/')) expect(world.store.objects.has(name)).toBe(true);
    }
  });

  it.each([
    ['chunks/000003.m4s', 'checksum differs'],
    ['init.mp4', 'checksum differs'],
    ['session.json', 'checksum differs'],
  ])('names damage of %s, which it cannot repair', async (file, problem) => {
    const { world, id } = await sample();
    const key = `sessions/${id}/${file}`;
    flip(world, key, 0);
    const found = problems(await check(world, true)).filter((finding) => finding.key.includes(id));
    expect(found[0]).toMatchObject({ key, repaired: false });
    expect(found[0]?.problem).toMatch(file === 'session.json' ? /is (not JSON|damaged)/ : problem);
  });

  it('makes exports again that are lost or damaged, and removes what belongs to none', async () => {
    const { world, id } = await sample();
    const next = makeWorld({ after: world });
    const { range } = await next.service.exportSession(id, { fromChunk: 2, toChunk: 5 });
    const done = async () => (await next.service.export(id, range)).state === 'DONE';
    while (!(await done())) await next.clock.advance(100);
    expect(problems(await check(next))).toEqual([]);
    const [mp4, timeline, json, other] = ['mp4', 'jsonl', 'json', 'none.mp4'].map(
      (end) => `sessions/${id}/exports/${range}.${end}`,
    ) as [string, string, string, string];
    const whole = new Map([mp4, timeline].map((key) => [key, Uint8Array.from(next.store.objects.get(key)!.bytes)]));
    flip(next, mp4);
    next.store.objects.delete(timeline);
    await next.store.put(other, new Uint8Array(3));
    expect(problems(await check(next, true))).toEqual([
      { key: mp4, problem: 'is damaged: its checksum differs', repaired: true },
      { key: timeline, problem: 'is missing from the store', repaired: true },
      { key: other, problem: 'belongs to no export', repaired: true },
    ]);
    expect(problems(await check(next))).toEqual([]);
    for (const [key, bytes] of whole) expect(Uint8Array.from(next.store.objects.get(key)!.bytes)).toEqual(bytes);
    flip(next, json);
    expect(problems(await check(next, true))).toEqual([
      { key: json, problem: 'is damaged: its checksum differs', repaired: true },
    ]);
    expect(problems(await check(next))).toEqual([]);
    expect(await next.service.export(id, range)).toMatchObject({ state: 'DONE', fromChunk: 2, toChunk: 5 });
    const beyond = json.replace(range, '000002-000500');
    await next.store.put(beyond, next.store.objects.get(json)!.bytes);
    expect(problems(await check(next, true))).toEqual([
      { key: beyond, problem: 'describes another export', repaired: true },
    ]);
    expect(problems(await check(next))).toEqual([]);
  });

  it('names the missing mark of a fork at the fork and at its parent, which may be deleted, and writes it', async () => {
    const { world, id, fork } = await sample();
    const { clock } = world;
    const next = makeWorld({ after: world });
    const { id: last } = await clock.until(
      next.service.forkSession(fork, { atChunk: 5, pace: 'FASTEST', maxSeconds: 12 }),
    );
    await readToEnd(next, last);
    await clock.until(next.service.deleteSession(fork));
    await clock.advance(1_000);
    const marks = [
      [id, fork],
      [fork, last],
    ].map(([parent, child]) => `sessions/${parent}/forks/${child}`);
    const before = marks.map((key) => world.store.objects.get(key));
    expect(before.every(Boolean)).toBe(true);
    for (const key of marks) world.store.objects.delete(key);
    const found = (await check(next)).flatMap(({ sessionId, findings }) =>
      findings.map(({ key }) => [sessionId, key].join()),
    );
    expect(found.sort()).toEqual(
      [
        [id, marks[0]],
        [last, marks[0]],
        [fork, marks[1]],
        [last, marks[1]],
      ]
        .map((pair) => pair.join())
        .sort(),
    );
    const repaired = problems(await check(next, true));
    expect(repaired.map((finding) => [finding.key, finding.repaired])).toEqual(
      expect.arrayContaining(marks.map((key) => [key, true])),
    );
    expect(problems(await check(next))).toEqual([]);
  });

  it('names and removes the marks of forks that are gone, and what was kept for them', async () => {
    const { world, id, fork, paused } = await sample();
    const next = makeWorld({ after: world });
    const stale = [`sessions/${id}/forks/${'0'.repeat(26)}`, `sessions/${id}/forks/${paused}`];
    for (const key of stale) await next.store.put(key, Buffer.from('0'));
    expect(problems(await check(next))).toEqual(
      stale.map((key) => ({ key, problem: 'is the mark of a fork that does not exist', repaired: false })),
    );
    await check(next, true);
    expect(problems(await check(next))).toEqual([]);
    await next.clock.until(next.service.deleteSession(id));
    await next.clock.advance(1_000);
    for (const key of [...next.store.objects.keys()])
      if (key.includes(fork) && !key.includes(`forks/`)) next.store.objects.delete(key);
    expect(problems(await check(next, true))).toEqual([]); // A mark that young may be of a fork that is being made.
    await next.store.put(`sessions/${id}/forks/${fork}`, Buffer.from('0'));
    const left = await check(next, true);
    expect(problems(left).map(({ key, repaired }) => [key, repaired])).toContainEqual([
      `sessions/${id}/forks/${fork}`,
      true,
    ]);
    await next.clock.until(makeWorld({ after: next }).service.start());
    await next.clock.advance(10_000);
    await check(next, true);
    await next.clock.until(makeWorld({ after: next }).service.start());
    await next.clock.advance(10_000);
    expect([...next.store.objects.keys()].filter((key) => key.includes(id))).toEqual([`sessions/${id}/session.json`]);
    expect(problems(await check(next))).toEqual([]);
  });

  describe('a copy of a session that ran', () => {
    /** The store as a copy has it that took some files of the session so many blocks later than others. */
    async function copied(files: RegExp, later: RegExp): Promise<{ copy: World; id: string; then: number }> {
      const world = makeWorld({ policy: { checkpointBlocks: 4, idleSeconds: 0 } });
      const { id } = await world.clock.until(
        world.service.createSession({ ...STORY, maxSeconds: undefined, timeline: undefined }),
      );
      const reach = (chunk: number) =>
        world.clock.until(read(world, id, {}, (event) => event.type === 'FrameChunk' && event.chunk === chunk));
      await reach(40);
      await world.clock.until(world.service.switchPrompt(id, { prompt: 'a robot' }));
      await reach(50);
      const copy = makeWorld({ policy: { idleSeconds: 0 } });
      const take = (which: RegExp) => {
        for (const [key, entry] of world.store.objects) if (which.test(key)) copy.store.objects.set(key, { ...entry });
      };
      take(files);
      const then = (await world.service.session(id)).chunks;
      await world.clock.until(world.service.switchPrompt(id, { prompt: 'a ship' }));
      await reach(150);
      await world.clock.until(world.service.pauseSession(id));
      take(later);
      return { copy, id, then };
    }

    async function goesOn(copy: World, id: string, chunks: number): Promise<void> {
      await copy.clock.until(copy.service.start());
      await copy.clock.advance(30_000);
      await copy.clock.until(copy.service.resumeSession(id));
      await copy.clock.until(
        read(copy, id, { inline: true }, (event) => event.type === 'FrameChunk' && event.chunk === chunks + 3),
      );
      await copy.clock.until(copy.service.stopSession(id));
      const events = await readToEnd(copy, id);
      expect(chunksOf(events).map(({ chunk }) => chunk)).toEqual(chunksOf(events).map((_, i) => i));
      expect(events.map(({ sequence }) => sequence)).toEqual(events.map((_, i) => i + 1));
      expect((await copy.service.session(id)).artifacts.map(({ kind }) => kind)).toContain('MP4');
      // What was copied later and was not made again is in the way of nothing.
      expect(problems(await check(copy, true)).every(({ repaired }) => repaired)).toBe(true);
      expect(problems(await check(copy))).toEqual([]);
    }

    it('that took the records first, then the logs, then the rest, is whole', async () => {
      const { copy, id, then } = await copied(/session\.json$|\/log\//, /^(?!.*(session\.json$|\/log\/))/);
      await goesOn(copy, id, then);
    });

    it('whose record is ahead of its log goes on where the log ends', async () => {
      const { copy, id, then } = await copied(/^(?!.*session\.json$)/, /session\.json$|by-date|unfinished/);
      await goesOn(copy, id, then);
    });

    it('whose log is ahead of its chunks is mended, loses no prompt and goes on', async () => {
      const { copy, id, then } = await copied(/\/chunks\/|\/checkpoints\//, /^(?!.*\/(chunks|checkpoints)\/)/);
      const found = problems(await check(copy, true));
      expect(found[0]).toMatchObject({
        problem: `tells of chunks ${then} to 150, which are not in the store, as in a copy of a session that ran`,
        repaired: true,
      });
      expect(found.every(({ repaired }) => repaired)).toBe(true);
      expect(problems(await check(copy))).toEqual([]);
      await goesOn(copy, id, then);
      expect((await copy.service.session(id)).timeline.map(({ prompt }) => prompt)).toEqual([
        'a fox',
        'a robot',
        'a ship',
      ]);
    });

    it('is left alone where all its chunks are missing, or one in the middle is', async () => {
      const { copy, id } = await copied(/nothing/, /./);
      const chunks = [...copy.store.objects.keys()].filter((key) => key.includes('/chunks/'));
      const log = () =>
        [...copy.store.objects].filter(([key]) => key.includes('/log/')).map(([key, { etag }]) => key + etag);
      const before = log();
      copy.store.objects.delete(`sessions/${id}/chunks/000020.m4s`);
      await check(copy, true);
      for (const key of chunks) copy.store.objects.delete(key);
      await check(copy, true);
      expect(log()).toEqual(before);
    });
  });

  it("finds a parent's lost chunk at its fork too", async () => {
    const { world, id, fork } = await sample();
    world.store.objects.delete(`sessions/${id}/chunks/000003.m4s`);
    const reports = await check(world);
    const wrong = reports.filter(({ findings }) => findings.length > 0).map(({ sessionId }) => sessionId);
    expect(wrong.sort()).toEqual([id, fork].sort());
  });

  it('ends a log that was torn off at its last whole line, and what is left goes on', async () => {
    const { world, paused } = await sample();
    const key = `sessions/${paused}/log/000001.jsonl`;
    const entry = world.store.objects.get(key)!;
    entry.bytes = entry.bytes.slice(0, -400);
    const found = problems(await check(world, true));
    expect(found.map((finding) => [finding.key, finding.repaired])).toContainEqual([key, true]);
    expect(found.every(({ repaired }) => repaired)).toBe(true);
    expect(problems(await check(world))).toEqual([]);
    const next = makeWorld({ after: world });
    const { chunks } = await next.service.session(paused);
    await next.clock.until(next.service.resumeSession(paused));
    await next.clock.until(read(next, paused, {}, (event) => event.type === 'FrameChunk' && event.chunk === chunks));
    await next.clock.until(next.service.stopSession(paused));
    await readToEnd(next, paused);
    expect(problems(await check(next))).toEqual([]);
  });

  it('touches nothing behind a part of the log that is lost', async () => {
    const { world, paused } = await sample();
    const entry = world.store.objects.get(`sessions/${paused}/log/000000.jsonl`)!;
    entry.bytes = Buffer.from(new TextDecoder().decode(entry.bytes).split('\n').toSpliced(9, 2).join('\n'));
    const keys = [...world.store.objects.keys()];
    expect(problems(await check(world, true))).toMatchObject([{ problem: 'is damaged in event 10', repaired: false }]);
    expect([...world.store.objects.keys()]).toEqual(keys);
  });

  describe('where a later release wrote a session', () => {
    it.each(['id', 'fork', 'paused'] as const)('names that one as such, and checks all others (%s)', async (which) => {
      const { world, ...ids } = await sample();
      const newer = ids[which];
      makeNewer(world, newer);
      flip(world, `sessions/${ids.id}/chunks/000003.m4s`, 0);
      const wrong = (await check(world, true)).filter(({ findings }) => findings.length > 0);
      const lines = wrong.map(({ sessionId, newer, findings }) => [sessionId, newer, findings.map(({ key }) => key)]);
      const damaged = [ids.id, ids.fork].filter((one) => one !== newer);
      expect(lines).toHaveLength(damaged.length + 1);
      expect(lines).toContainEqual([newer, true, [`sessions/${newer}/session.json`]]);
      for (const one of damaged)
        expect(lines).toContainEqual([one, undefined, [`sessions/${ids.id}/chunks/000003.m4s`]]);
    });

    it('removes nothing that it may play, and deletes what it does not', async () => {
      const { world, id, fork, paused } = await sample();
      makeNewer(world, fork);
      // Nobody can tell what it plays.
      for (const key of [...world.store.objects.keys()])
        if (key.startsWith(`sessions/${fork}/log/`) || key.startsWith(`sessions/${id}/forks/`))
          world.store.objects.delete(key);
      const next = makeWorld({ after: world });
      const chunks = () => [...world.store.objects.keys()].filter((key) => key.startsWith(`sessions/${id}/chunks/`));
      const before = chunks();
      await next.clock.until(next.service.deleteSession(id));
      await next.clock.advance(1_000);
      expect(chunks()).toEqual(before);
      expect((await check(next, true)).filter(({ findings }) => findings.length > 0)).toMatchObject([{ newer: true }]);
      expect(chunks()).toEqual(before);
      expect(world.store.objects.has(`deleting/${id}`)).toBe(true);
      expect(await next.service.session(paused)).toMatchObject({ state: 'PAUSED' });
    });

    it('goes on deleting others where its log tells what it plays', async () => {
      const { world, id, fork, paused } = await sample();
      makeNewer(world, fork);
      const next = makeWorld({ after: world });
      for (const one of [paused, id]) await next.clock.until(next.service.deleteSession(one));
      await next.clock.advance(1_000);
      const left = [...world.store.objects.keys()].filter((key) => key.includes(paused));
      expect(left).toEqual([`sessions/${paused}/session.json`]);
      const kept = [...world.store.objects.keys()].filter((key) => key.startsWith(`sessions/${id}/chunks/`));
      expect(kept).toHaveLength(9);
    });
  });

  it('names a damaged chunk once, and says that the video cannot be made again without it', async () => {
    const { world, id } = await sample();
    const next = makeWorld({ after: world });
    const { range } = await next.service.exportSession(id, { fromChunk: 12, toChunk: 15 });
    const done = async () => (await next.service.export(id, range)).state === 'DONE';
    while (!(await done())) await next.clock.advance(100);
    const [chunk, video, part] = ['chunks/000013.m4s', 'video.mp4', `exports/${range}.mp4`].map(
      (file) => `sessions/${id}/${file}`,
    ) as [string, string, string];
    flip(next, chunk, 0);
    next.store.objects.delete(video);
    next.store.objects.delete(part);
    for (const repair of [true, false, true]) {
      expect((await check(next, repair)).flatMap(({ findings }) => findings)).toEqual([
        { key: chunk, problem: 'is damaged: its checksum differs', repaired: false },
        ...[video, part].map((key) => ({
          ...{ key, problem: 'is missing from the store', repaired: false },
          obstacle: `cannot be made again without ${chunk}`,
        })),
      ]);
    }
  });

  it.each(['finished', 'paused'])(
    'takes the lost poster of a %s session from a fork, and a fork from its parent',
    async (state) => {
      const { world, id, fork, paused } = await sample();
      const parent = state === 'paused' ? paused : id;
      const next = makeWorld({ after: world });
      const child =
        state === 'finished'
          ? fork
          : (await next.clock.until(next.service.forkSession(parent, { atChunk: 9, pace: 'FASTEST', maxSeconds: 12 })))
              .id;
      await readToEnd(next, child);
      const [mine, other] = [parent, child].map((one) => `sessions/${one}/poster.webp`) as [string, string];
      const { bytes } = next.store.objects.get(mine)!;
      for (const [lost, from] of [
        [mine, other],
        [other, mine],
      ] as const) {
        next.store.objects.delete(lost);
        const finding = { key: lost, problem: 'is missing from the store', remedy: `copied from ${from}` };
        expect((await check(next)).flatMap(({ findings }) => findings)).toEqual([{ ...finding, repaired: false }]);
        expect((await check(next, true)).flatMap(({ findings }) => findings)).toEqual([{ ...finding, repaired: true }]);
        expect(next.store.objects.get(lost)?.bytes).toEqual(bytes);
      }
      for (const key of [mine, other]) next.store.objects.delete(key);
      for (const repair of [true, false]) {
        const found = (await check(next, repair)).flatMap(({ findings }) => findings);
        expect(found.map(({ key }) => key).sort()).toEqual([mine, other].sort());
        for (const finding of found)
          expect(finding).toMatchObject({
            repaired: false,
            obstacle: 'cannot be made again, and no parent or fork of the session has it',
          });
      }
    },
  );

  it('copies no poster that is not the one that was written', async () => {
    const { world, id, fork } = await sample();
    flip(world, `sessions/${fork}/poster.webp`, 0);
    world.store.objects.delete(`sessions/${id}/poster.webp`);
    const found = problems(await check(world, true));
    expect(found.map(({ key, repaired }) => [key.slice(-11), repaired])).toEqual([
      ['poster.webp', false],
      ['poster.webp', false],
    ]);
  });
});
