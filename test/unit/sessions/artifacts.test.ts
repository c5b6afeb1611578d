import { describe, expect, it, vi } from 'vitest';
import { fatesOf } from '../../../src/api/artifact.js';
import { Checker, type Session, StoreError } from '../../../src/sessions/index.js';
import { makeWorld, readToEnd, type World } from '../../support/fake-service.js';

// Virtual time costs little, but a crowded machine may take its time over it.
vi.setConfig({ testTimeout: 60_000 });

const STORY = { prompt: 'a fox', maxSeconds: 3, pace: 'FASTEST' as const, seed: 3n };

const states = (session: Session) => fatesOf(session).map(({ kind, state }) => `${kind} ${state}`);
const failures = (session: Session) => fatesOf(session).flatMap(({ failure }) => failure?.message ?? []);

/** A session with a chunk that is lost before its video is made, and what brings the chunk back. */
async function withoutVideo(): Promise<{ world: World; id: string; restore: () => void }> {
  const world = makeWorld();
  const { id } = await world.clock.until(world.service.createSession(STORY));
  await world.clock.advance(400);
  const key = `sessions/${id}/chunks/000000.m4s`;
  const lost = world.store.objects.get(key)!;
  world.store.objects.delete(key);
  await readToEnd(world, id);
  return { world, id, restore: () => void world.store.objects.set(key, lost) };
}

const KINDS = ['MP4', 'HLS', 'POSTER', 'TIMELINE'];

describe('what became of artifacts', () => {
  it('is later while a session runs, and done when it has ended', async () => {
    const world = makeWorld();
    const { id } = await world.clock.until(world.service.createSession(STORY));
    expect(states(await world.service.session(id))).toEqual(KINDS.map((kind) => `${kind} LATER`));
    await expect(world.service.remakeArtifacts(id)).rejects.toMatchObject({ code: 'CONFLICT' });
    await readToEnd(world, id);
    const session = await world.service.session(id);
    expect(states(session)).toEqual(KINDS.map((kind) => `${kind} DONE`));
    expect(await world.service.remakeArtifacts(id)).toEqual(session);
  });

  it('is nothing of a session that ended without video', async () => {
    const world = makeWorld();
    const { id } = await world.clock.until(world.service.createSession(STORY));
    await world.clock.until(world.service.stopSession(id));
    await readToEnd(world, id);
    expect(states(await world.service.session(id))).toEqual([]);
  });

  it.each(['UNREACHABLE', 'NO_SPACE', 'DENIED'] as const)(
    'is being made while the store is %s, says why not yet, and is done soon after',
    async (code) => {
      const world = makeWorld({ policy: { storeRetrySeconds: 5 } });
      await world.clock.until(world.service.start());
      const { id } = await world.clock.until(world.service.createSession(STORY));
      let broken = true;
      world.store.fault = (operation, key) =>
        broken && (key.endsWith('/video.mp4') || (operation === 'put' && key.startsWith('servers/')))
          ? { when: 'before', error: new StoreError(code, 'no') }
          : undefined;
      await world.clock.advance(900_000);
      const waiting = await world.service.session(id);
      expect(waiting).toMatchObject({ state: 'COMPLETED', artifacts: [] });
      expect(states(waiting)).toEqual(KINDS.map((kind) => `${kind} MAKING`));
      expect(failures(waiting)[0]).toMatch(/store/);
      expect(await world.service.remakeArtifacts(id)).toEqual(waiting);
      broken = false;
      await world.clock.advance(45_000);
      expect(states(await world.service.session(id))).toEqual(KINDS.map((kind) => `${kind} DONE`));
    },
  );

  it('failed where a chunk is lost, and is made again when that is back', async () => {
    const { world, id, restore } = await withoutVideo();
    const session = await world.service.session(id);
    expect(session.unmade).toMatchObject([{ kind: 'MP4', failure: { code: 'STORAGE' } }]);
    expect(states(session)).toEqual(['MP4 FAILED', 'HLS DONE', 'POSTER DONE', 'TIMELINE DONE']);
    expect(failures(session)).toEqual([expect.stringContaining('000000.m4s is missing') as string]);
    expect(states(await world.service.remakeArtifacts(id))).toContain('MP4 MAKING');
    await world.clock.advance(1_000);
    expect(states(await world.service.session(id))).toContain('MP4 FAILED');
    restore();
    await world.clock.until(world.service.remakeArtifacts(id));
    await world.clock.advance(1_000);
    const made = await world.service.session(id);
    expect(states(made)).toEqual(KINDS.map((kind) => `${kind} DONE`));
    expect(made.unmade).toEqual([]);
    for (const { key, bytes } of made.artifacts) expect(world.store.objects.get(key)?.bytes.length).toBe(bytes);
    const { store, media } = world;
    expect((await new Checker({ store, media }, { repair: false }).session(id)).findings).toEqual([]);
    const other = makeWorld({ after: world });
    expect(states(await other.service.session(id))).toContain('MP4 DONE');
  });

  it('is named and mended by fsck', async () => {
    const { world, id, restore } = await withoutVideo();
    const { store, media } = world;
    const found = async (repair: boolean) =>
      (await new Checker({ store, media }, { repair }).session(id)).findings.map(({ key, problem, repaired }) => [
        key.replace(/.*\//, ''),
        problem,
        repaired,
      ]);
    const unmade = 'was not made when the session ended';
    expect(await found(true)).toEqual([
      ['000000.m4s', 'is missing from the store', false],
      ['video.mp4', unmade, false],
    ]);
    restore();
    expect(await found(false)).toEqual([['video.mp4', unmade, false]]);
    expect(await found(true)).toEqual([['video.mp4', unmade, true]]);
    expect(await found(false)).toEqual([]);
    expect(states(await world.service.session(id))).toContain('MP4 DONE');
  });

  it('made again waits for the store, and leaves nothing of a session that is deleted meanwhile', async () => {
    const { world, id, restore } = await withoutVideo();
    restore();
    world.store.fault = (_operation, key) =>
      key.endsWith('/video.mp4') ? { when: 'before', error: new StoreError('DENIED', 'no') } : undefined;
    await world.service.remakeArtifacts(id);
    await world.clock.advance(100_000);
    expect(states(await world.service.session(id))).toContain('MP4 MAKING');
    await world.clock.until(world.service.deleteSession(id));
    world.store.fault = () => undefined;
    await world.clock.advance(100_000);
    expect([...world.store.objects.keys()].filter((key) => key.includes(id))).toEqual([`sessions/${id}/session.json`]);
  });
});
