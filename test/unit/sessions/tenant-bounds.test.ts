import { expect, it, vi } from 'vitest';
import { LocalWire } from '../../../src/cluster/index.js';
import type { CreateSessionInput, DomainError, Session } from '../../../src/sessions/index.js';
import { makeWorld, type World } from '../../support/fake-service.js';

// Virtual time costs little, but a crowded machine may take its time over it.
vi.setConfig({ testTimeout: 60_000 });

const of = (tenant: string) => ({ caller: { tenant, subject: 'ann' } });
const LIVE = { prompt: 'a fox' } as const;
const FILM = { prompt: 'a fox', pace: 'FASTEST', maxSeconds: 600 } as const;

async function begun(options: Parameters<typeof makeWorld>[0]): Promise<World> {
  const world = makeWorld(options);
  await world.clock.until(world.service.start());
  return world;
}
const create = ({ clock, service }: World, input: CreateSessionInput) => clock.until(service.createSession(input));
const look = ({ clock, service }: World, { id }: Session) => clock.until(service.session(id));
const refusal = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    ({ code, message, retryAfterSeconds }: DomainError) => ({ code, message, retryAfterSeconds }),
  );

it('a tenant has so many running, and another one is not in its way', async () => {
  const world = await begun({ policy: { tenantSessions: 2, maxSessions: 8 } });
  const [first] = [await create(world, { ...LIVE, ...of('acme') }), await create(world, { ...FILM, ...of('acme') })];
  const refused = await refusal(create(world, { ...LIVE, ...of('acme') }));
  expect(refused).toMatchObject({ code: 'RATE_LIMIT' });
  expect(refused?.message).toContain('Your tenant may have 2 sessions running at a time');
  expect(refused?.retryAfterSeconds).toBeGreaterThan(0);
  await create(world, { ...LIVE, ...of('zenith') });
  // Paused ones do not run, and do not come back past the bound.
  await world.clock.until(world.service.pauseSession(first.id));
  await create(world, { ...LIVE, ...of('acme') });
  expect(await refusal(world.clock.until(world.service.resumeSession(first.id)))).toMatchObject({ code: 'RATE_LIMIT' });
  expect(await look(world, first)).toMatchObject({ state: 'PAUSED' });
});

it('a tenant has so many of the pace FASTEST beside others', async () => {
  const world = await begun({ policy: { tenantFastest: 1, maxSessions: 8 } });
  await create(world, { ...FILM, ...of('acme') });
  expect((await refusal(create(world, { ...FILM, ...of('acme') })))?.message).toContain(
    '1 sessions of the pace FASTEST',
  );
  await create(world, { ...LIVE, ...of('acme') });
});

it('what other servers run counts, too', async () => {
  const wire = new LocalWire();
  const policy = { tenantSessions: 2, maxSessions: 1 };
  const one = await begun({ wire, policy });
  const two = await begun({ wire, policy, after: one });
  const three = await begun({ wire, policy, after: one });
  await one.clock.advance(2_000);
  const made = [await create(one, { ...FILM, ...of('acme') }), await create(one, { ...FILM, ...of('acme') })];
  await one.clock.advance(2_000);
  for (const session of made) expect(await look(three, session)).toMatchObject({ state: 'LIVE' });
  for (const world of [one, two, three])
    expect(await refusal(create(world, { ...FILM, ...of('acme') }))).toMatchObject({ code: 'RATE_LIMIT' });
  await create(one, { ...FILM, ...of('zenith') });
});

it('who waits for room while its tenant has as many as it may is passed by others, and begins when it may', async () => {
  const world = await begun({ policy: { tenantSessions: 1, maxSessions: 2 } });
  const patient = { ...FILM, maxWaitSeconds: 3_000 };
  const running = await create(world, { ...FILM, ...of('other') });
  const blocking = await create(world, { ...FILM, ...of('third') });
  const held = await create(world, { ...patient, ...of('acme') });
  const next = await create(world, { ...patient, ...of('acme') });
  expect([held, next].map(({ state }) => state)).toEqual(['QUEUED', 'QUEUED']);
  await world.clock.until(world.service.stopSession(running.id));
  await world.clock.advance(2_000);
  expect(await look(world, held)).toMatchObject({ state: 'LIVE' });
  await world.clock.until(world.service.stopSession(blocking.id));
  await world.clock.advance(2_000);
  expect(await look(world, next)).toMatchObject({ state: 'QUEUED' });
  // There is room, and nobody before it who may have it.
  const passing = await create(world, { ...FILM, ...of('zenith') });
  await world.clock.advance(2_000);
  expect(await look(world, passing)).toMatchObject({ state: 'LIVE' });
  await world.clock.until(world.service.stopSession(passing.id));
  await world.clock.until(world.service.stopSession(held.id));
  await world.clock.advance(2_000);
  expect(await look(world, next)).toMatchObject({ state: 'LIVE' });
});
