import { expect, it, vi } from 'vitest';
import { makeWorld, readToEnd, type World, type WorldOptions } from '../../support/fake-service.js';

// Virtual time costs little, but a crowded machine may take its time over it.
vi.setConfig({ testTimeout: 60_000 });

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

async function finished(world: World): Promise<string> {
  const { id } = await world.clock.until(
    world.service.createSession({ prompt: 'a fox', maxSeconds: 2, pace: 'FASTEST' }),
  );
  await readToEnd(world, id);
  return id;
}

const pass = ({ clock }: World, milliseconds: number) => clock.until(clock.sleep(milliseconds), milliseconds + HOUR);

/** A server that begins when the sessions of another are there, and runs for a while. */
async function later(world: World, policy: WorldOptions['policy'], milliseconds: number): Promise<World> {
  await world.clock.until(world.service.shutdown());
  const next = makeWorld({ after: world, policy: { leaseSeconds: 1e6, idleSeconds: 0, ...policy } });
  await next.clock.until(next.service.start());
  await pass(next, milliseconds);
  return next;
}

const listed = async ({ service }: World) => (await service.sessions()).items.map(({ id }) => id);

it('everything is kept unless the operator says otherwise', async () => {
  const world = makeWorld({ policy: { leaseSeconds: 1e6, idleSeconds: 0 } });
  const id = await finished(world);
  expect(await listed(await later(world, {}, 1_000 * DAY))).toEqual([id]);
});

it('finished sessions go when they are old, and no younger ones', async () => {
  const world = makeWorld({ policy: { leaseSeconds: 1e6, idleSeconds: 0 } });
  await finished(world);
  await pass(world, DAY);
  const young = await finished(world);
  const next = await later(world, { keepDays: 2 }, 1.5 * DAY);
  expect(await listed(next)).toEqual([young]);
  await pass(next, DAY);
  expect(await listed(next)).toEqual([]);
  await next.clock.until(next.service.shutdown());
});

it('the oldest finished sessions go when there is no room for all', async () => {
  const world = makeWorld({ policy: { leaseSeconds: 1e6, idleSeconds: 0 } });
  const ids = [];
  for (let i = 0; i < 4; i++) ids.unshift(await finished(world));
  const bytes = [...world.store.objects].reduce(
    (
      sum,
      [
        key,
        {
          bytes: { length },
        },
      ],
    ) => sum + (key.startsWith('sessions/') ? length : 0),
    0,
  );
  const next = await later(world, { keepGigabytes: (0.6 * bytes) / 1e9 }, HOUR);
  expect(await listed(next)).toEqual(ids.slice(0, 2));
  await next.clock.until(next.service.shutdown());
});
