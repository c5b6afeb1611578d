import { beforeEach, describe, expect, it, vi } from 'vitest';
import { Checker, type Session, type SessionFilter, type SessionLabel } from '../../../src/sessions/index.js';
import { makeWorld, readToEnd, type World } from '../../support/fake-service.js';

vi.setConfig({ testTimeout: 60_000 });

let world: World;
let fox: Session;
let bird: Session;

const make = (prompt: string, more: object = {}) =>
  world.clock.until(world.service.createSession({ prompt, pace: 'FASTEST', maxSeconds: 1, ...more }));
const update = (session: Session, changes: Partial<SessionLabel>, at = world) =>
  at.clock.until(at.service.updateSession(session.id, changes));
const labelOf = (session: Session, at = world) => at.clock.until(at.service.label(session));
const found = async (filter: SessionFilter) =>
  (await world.clock.until(world.service.sessions(filter))).items.map(({ id }) => id);

beforeEach(async () => {
  world = makeWorld();
  fox = await make('A red Fox in the snow');
  await readToEnd(world, fox.id);
  await world.clock.advance(10);
  bird = await make('a bird', { timeline: undefined, maxSeconds: 100 });
});

describe('what people say of a session', () => {
  it('is nothing at first, and then what was said last of each', async () => {
    expect(await labelOf(fox)).toEqual({ title: null, favourite: false });
    await update(fox, { title: '  Winter\n walk ' });
    await update(fox, { favourite: true });
    expect(await labelOf(fox)).toEqual({ title: 'Winter walk', favourite: true });
    await update(fox, { title: ' ' });
    expect(await labelOf(fox)).toEqual({ title: null, favourite: true });
  });

  it('is changed by any server, of a session that another one generates', async () => {
    const other = makeWorld({ after: world, hosts: false });
    await update(bird, { title: 'Flight' }, other);
    expect(await labelOf(bird)).toMatchObject({ title: 'Flight' });
    expect((await world.clock.until(world.service.session(bird.id))).state).not.toBe('FAILED');
  });

  it('keeps both of two changes at the same time', async () => {
    await Promise.all([update(fox, { title: 'Winter walk' }), update(fox, { favourite: true })]);
    expect(await labelOf(fox)).toEqual({ title: 'Winter walk', favourite: true });
  });

  it.each([
    [{}, 'title'],
    [{ title: 'x'.repeat(201) }, 'title'],
    [{ title: 'half \ud83e' }, 'title'],
  ])('refuses %j', async (changes, field) => {
    await expect(async () => world.service.updateSession(fox.id, changes)).rejects.toMatchObject({ field });
  });

  it('goes with its session', async () => {
    await update(fox, { title: 'Winter walk' });
    await world.clock.until(world.service.deleteSession(fox.id));
    await world.clock.advance(1_000);
    expect([...world.store.objects.keys()].filter((key) => key.includes('label'))).toEqual([]);
    await expect(update(fox, { title: 'Still here' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('does not outlive a deletion that came between', async () => {
    const { store } = world;
    const put = store.put.bind(store);
    const spy = vi.spyOn(store, 'put').mockImplementation(async (key, ...rest) => {
      if (!key.endsWith('label.json')) return put(key, ...rest);
      spy.mockRestore();
      await world.service.deleteSession(fox.id);
      return store.put(key, ...rest);
    });
    await update(fox, { title: 'Winter walk' });
    await world.clock.advance(1_000);
    expect([...store.objects.keys()].filter((key) => key.includes('label'))).toEqual([]);
  });

  it('is nothing where it is damaged, which fsck names and removes, and can be said anew', async () => {
    await update(fox, { title: 'Winter walk' });
    const key = `sessions/${fox.id}/label.json`;
    world.store.objects.get(key)!.bytes[25]! ^= 4;
    expect(await labelOf(fox)).toEqual({ title: null, favourite: false });
    expect(await found({ search: 'fox' })).toEqual([fox.id]);
    const check = async (repair: boolean) => {
      const { store, media, clock } = world;
      return (await clock.until(new Checker({ store, media }, { repair }).session(fox.id))).findings;
    };
    expect(await check(false)).toMatchObject([{ key, problem: expect.stringContaining('damaged') as string }]);
    expect(await check(true)).toMatchObject([{ key, repaired: true }]);
    expect(await check(false)).toEqual([]);
    await update(fox, { favourite: true });
    expect(await labelOf(fox)).toEqual({ title: null, favourite: true });
  });
});

describe('a search', () => {
  it('finds words of titles and prompts, in any order, without case and however they are composed', async () => {
    expect(await found({ search: 'snow fox' })).toEqual([fox.id]);
    expect(await found({ search: 'BIRD' })).toEqual([bird.id]);
    expect(await found({ search: 'a' })).toEqual([bird.id, fox.id]);
    expect(await found({ search: 'wolf' })).toEqual([]);
    await update(fox, { title: 'Café' });
    expect(await found({ search: 'cafe\u0301 red' })).toEqual([fox.id]);
    expect(await found({ search: '  ' })).toEqual([bird.id, fox.id]);
  });

  it('finds a prompt that came later', async () => {
    await world.clock.until(world.service.switchPrompt(bird.id, { prompt: 'a heron lands' }));
    await readToEnd(world, bird.id);
    expect(await found({ search: 'heron' })).toEqual([bird.id]);
  });

  it('finds favourites, or the others', async () => {
    await update(bird, { favourite: true });
    expect(await found({ favourite: true })).toEqual([bird.id]);
    expect(await found({ favourite: false })).toEqual([fox.id]);
    expect(await found({ favourite: true, search: 'fox' })).toEqual([]);
  });

  it('goes on behind a full page, and is refused when it is too long', async () => {
    const { service, clock } = world;
    const first = await clock.until(service.sessions({ search: 'a', first: 1 }));
    expect(first.items.map(({ id }) => id)).toEqual([bird.id]);
    const second = await clock.until(service.sessions({ search: 'a', first: 1, after: first.next }));
    expect(second.items.map(({ id }) => id)).toEqual([fox.id]);
    await expect(async () => service.sessions({ search: 'x'.repeat(201) })).rejects.toMatchObject({ field: 'search' });
  });
});
