import { describe, expect, it } from 'vitest';
import { speedNotice } from '../../../src/cli/report.js';
import { rehearse } from '../../../src/sessions/index.js';
import { FAKE_MODEL } from '../../support/fake-engine.js';
import { makeWorld, read } from '../../support/fake-service.js';

// A block of the fake model plays 0.75 s and takes four steps, the pictures and the context.

describe('a rehearsal', () => {
  it('says how fast the device is before anybody asked for a session, and the service knows its capacity from then on', async () => {
    const { clock, service } = makeWorld({ times: { step: 50, recache: 30 } });
    expect(service.status().devices[0]?.capacity).toBeUndefined();
    const rehearsal = await clock.until(service.rehearse(5));
    expect(rehearsal).toMatchObject({ blockMilliseconds: 300, speed: 2.5, complete: true });
    expect(service.status().devices[0]).toMatchObject({ blockMilliseconds: 300, capacity: 2 });
    expect(service.status().devices[0]?.realtimeSessions).toBe(0);
  });

  it('begins no other step when its time is over, and says what it knows', async () => {
    const { clock, engine } = makeWorld({ times: { step: 4_000, recache: 30 } });
    const began = clock.now();
    const rehearsal = await clock.until(rehearse(FAKE_MODEL, { engine, clock, limitSeconds: 5 }));
    expect(rehearsal).toMatchObject({ blockMilliseconds: 8_000, complete: false });
    expect(clock.now() - began).toBeLessThan(9_000);
    expect(engine.active).toBe(0);
  });

  it('lets sessions go first, and ends when one has told how fast the device is', async () => {
    const world = makeWorld({ times: { step: 100, recache: 30 } });
    const { clock, service, engine } = world;
    const trying = service.rehearse(60);
    const { id } = await clock.until(service.createSession({ prompt: 'a fox', maxSeconds: 3 }));
    await clock.until(read(world, id));
    expect(await trying).toBeUndefined();
    expect(engine.mostConcurrent).toBe(1);
    expect(engine.active).toBe(0);
  });

  it('is left out where nobody wants it, and fails where the model does', async () => {
    const { clock, service, engine } = makeWorld();
    expect(await service.rehearse(0)).toBeUndefined();
    engine.failToPrepare = () => new Error('no room');
    await expect(clock.until(service.rehearse(5))).rejects.toThrow('no room');
  });
});

describe('the notice of a machine that', () => {
  const notice = (speed: number, complete = true) =>
    speedNotice({ model: FAKE_MODEL, speed, complete, blockMilliseconds: 1 });

  it('is fast enough says only how fast', () => {
    expect(notice(2.5)).toMatchObject({ enough: true, text: expect.stringMatching(/makes 2\.5 s .*\)\.$/) as string });
  });

  it.each([
    [1.1, true, /makes 1\.1 s .*hardly faster than it plays.*Try/],
    [0.8, true, /makes 0\.80 s .*slower than it plays.*stall/],
    [0.05, false, /makes at most 0\.050 s /],
  ])('is not, at %d, says what to do', (speed, complete, text) => {
    expect(notice(speed, complete)).toMatchObject({ enough: false, text: expect.stringMatching(text) as string });
  });
});
