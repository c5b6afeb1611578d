import { describe, expect, it } from 'vitest';
import { type CreateSessionInput, DomainError, type EncoderName, type ModelInfo } from '../../../src/sessions/index.js';
import { FAKE_MODEL } from '../../support/fake-engine.js';
import { chunksOf, makeWorld, read, successorOf, type World } from '../../support/fake-service.js';

const model = (change: Partial<ModelInfo> = {}): ModelInfo => ({
  ...FAKE_MODEL,
  loras: [
    { name: 'ink', digest: 'i1', bytes: 10, matrices: 1 },
    { name: 'rain', digest: 'r1', bytes: 10, matrices: 1 },
  ],
  ...change,
});
const INPUT: CreateSessionInput = { prompt: 'a fox', pace: 'FASTEST', seed: 7n, maxSeconds: 10 };
const WITH_INK: CreateSessionInput = { ...INPUT, loras: [{ name: 'ink', weight: 0.5 }, { name: 'rain' }] };

async function create(world: World, input: CreateSessionInput): Promise<string> {
  return (await world.clock.until(world.service.createSession(input))).id;
}

async function pictures(world: World, id: string): Promise<string[]> {
  const events = await world.clock.until(read(world, id, { inline: true }));
  return chunksOf(events).map(({ data }) => new TextDecoder().decode(data));
}

/** Another worker over the same store, with what it has installed. */
async function elsewhere(world: World, models: ModelInfo[], encoders?: EncoderName[]): Promise<World> {
  await world.clock.until(world.service.shutdown());
  return makeWorld({ after: world, models, encoders });
}

describe('a session with adapters', () => {
  it('says which, makes other pictures than without, and the same ones again', async () => {
    const world = makeWorld({ models: [model()] });
    const id = await create(world, WITH_INK);
    expect((await world.service.session(id)).loras).toEqual([
      { name: 'ink', weight: 0.5, digest: 'i1' },
      { name: 'rain', weight: 1, digest: 'r1' },
    ]);
    const first = await pictures(world, id);
    expect(await pictures(world, await create(world, WITH_INK))).toEqual(first);
    expect(await pictures(world, await create(world, INPUT))).not.toEqual(first);
  });

  it('goes on elsewhere with the same ones', async () => {
    const world = makeWorld({ models: [model()], policy: { checkpointBlocks: 1_000 } });
    const whole = await pictures(world, await create(world, WITH_INK));
    const id = await create(world, WITH_INK);
    await world.clock.advance(1_500);
    const next = await successorOf(world, { models: [model({ state: 'AVAILABLE' })] });
    expect((await next.service.session(id)).loras?.map(({ name }) => name)).toEqual(['ink', 'rain']);
    expect(await pictures(next, id)).toEqual(whole);
  });

  it.each([
    [
      'another version of the model',
      [model({ digest: 'd2', version: '2.0.0' })],
      /made with model "fake@1\.0\.0" .*; here "fake" is version 2\.0\.0\. Install that package in a directory called fake@1\.0\.0 to/,
    ],
    ['another package of that version', [model({ digest: 'd2' })], /here "fake" is another package of that version/],
    ['no such model', [model({ name: 'other', digest: 'd2' })], /model "fake@1\.0\.0" .*; it is not installed here/],
    [
      'another version of an adapter',
      [model({ loras: [{ name: 'ink', digest: 'i2', bytes: 10, matrices: 1 }] })],
      /LoRA "ink" is installed in a different version/,
    ],
    ['no such adapter', [model({ loras: [] })], /LoRA "ink" is not installed/],
  ])('is not resumed where there is %s, and stays as it is', async (_what, models, message) => {
    const world = makeWorld({ models: [model()] });
    const id = await create(world, { ...WITH_INK, maxSeconds: undefined });
    await world.clock.advance(2_000);
    const next = await elsewhere(world, models);
    const resuming = next.clock.until(next.service.resumeSession(id));
    await expect(resuming).rejects.toMatchObject({ code: 'MODEL_UNAVAILABLE' });
    await expect(resuming).rejects.toThrow(message);
    expect((await next.service.session(id)).state).toBe('PAUSED');
    const right = await elsewhere(next, [model()]);
    expect((await right.clock.until(right.service.resumeSession(id))).state).toBe('LIVE');
    await right.clock.until(right.service.stopSession(id));
  });
});

describe('a session of a package whose name another version took', () => {
  const NEW = model({ digest: 'd2', version: '2.0.0' });
  const OLD = model({ name: 'fake@1.0.0' });

  async function replaced(models: ModelInfo[]): Promise<{ id: string; next: World }> {
    const world = makeWorld({ models: [model()], policy: { checkpointBlocks: 1 } });
    const id = await create(world, { ...INPUT, maxSeconds: undefined });
    await world.clock.advance(2_000);
    return { id, next: await elsewhere(world, models) };
  }

  it('resumes and forks while the old one is installed beside it', async () => {
    const { id, next } = await replaced([NEW, OLD]);
    const { chunks } = await next.service.session(id);
    await next.clock.until(next.service.resumeSession(id));
    await next.clock.advance(2_000);
    expect(await next.service.session(id)).toMatchObject({ state: 'LIVE', model: 'fake', modelDigest: 'd1' });
    expect((await next.service.session(id)).chunks).toBeGreaterThan(chunks);
    const fork = await next.clock.until(next.service.forkSession(id, { pace: 'FASTEST', maxSeconds: 10 }));
    expect(fork).toMatchObject({ model: 'fake', modelDigest: 'd1', modelVersion: '1.0.0' });
    await next.clock.advance(20_000);
    expect(await next.service.session(fork.id)).toMatchObject({ state: 'COMPLETED' });
    expect(new Set(next.engine.preloaded)).toEqual(new Set(['fake@1.0.0']));
    await next.clock.until(next.service.stopSession(id));
  });

  it('names the package that it was made with, and none that took its name', async () => {
    const { id, next } = await replaced([NEW]);
    const session = await next.service.session(id);
    expect(session).toMatchObject({ model: 'fake', modelVersion: '1.0.0', modelDigest: 'd1' });
    expect(await next.service.modelOf(session)).toBeUndefined();
    next.engine.taught = ['fox'];
    const { unknownWords } = await next.service.switchPrompt(id, { prompt: 'a wolf' });
    expect(unknownWords).toBeUndefined();
    next.engine.arriving.push(OLD);
    expect(await next.service.modelOf(session)).toMatchObject({ name: 'fake@1.0.0', version: '1.0.0', digest: 'd1' });
    expect((await next.service.switchPrompt(id, { prompt: 'a wolf' })).unknownWords).toEqual(['a', 'wolf']);
  });

  it('goes on by itself when the old one is put beside it only later', async () => {
    const { id, next } = await replaced([NEW]);
    const resume = () => next.clock.until(next.service.resumeSession(id));
    await expect(resume()).rejects.toMatchObject({ code: 'MODEL_UNAVAILABLE' });
    await expect(next.clock.until(next.service.forkSession(id))).rejects.toThrow(/fake@1\.0\.0/);
    next.engine.arriving.push(OLD);
    expect(await resume()).toMatchObject({ state: 'LIVE' });
    await next.clock.until(next.service.stopSession(id));
  });

  it('plays and is completed for download without the old one', async () => {
    const { id, next } = await replaced([NEW]);
    const { chunks } = await next.service.session(id);
    const events = await next.clock.until(
      read(next, id, { inline: true }, (event) => event.type === 'FrameChunk' && event.chunk === chunks - 1),
    );
    expect(chunksOf(events).every(({ data }) => data !== undefined)).toBe(true);
    expect(await next.service.playlist(id)).toContain('chunks/');
    expect(await next.clock.until(next.service.stopSession(id))).toMatchObject({ state: 'STOPPED' });
    await next.clock.advance(1_000);
    const { artifacts } = await next.service.session(id);
    expect(artifacts.map(({ kind }) => kind)).toContain('MP4');
    const part = await next.clock.until(next.service.exportSession(id, { toChunk: 2 }));
    await next.clock.advance(1_000);
    expect(await next.service.export(id, part.range)).toMatchObject({ state: 'DONE' });
  });

  it('never goes on with the new one, though that came while it was being loaded', async () => {
    const infos = [model()];
    const world = makeWorld({ models: infos });
    const preload = world.engine.preload.bind(world.engine);
    world.engine.preload = async (...request) => {
      infos[0] = NEW;
      return preload(...request);
    };
    const id = await create(world, INPUT);
    await world.clock.advance(1_000);
    expect(await world.service.session(id)).toMatchObject({ state: 'FAILED', failure: { code: 'MODEL_UNAVAILABLE' } });
    expect(world.engine.opened).toEqual([]);
  });
});

describe('a model that cannot be loaded', () => {
  const gone = new DomainError('MODEL_UNAVAILABLE', 'The model package cannot be fetched: no route.');

  it('ends a session that has nothing yet', async () => {
    const world = makeWorld();
    world.engine.failToPrepare = () => gone;
    const id = await create(world, INPUT);
    await world.clock.advance(100);
    expect(await world.service.session(id)).toMatchObject({ state: 'FAILED', failure: { code: 'MODEL_UNAVAILABLE' } });
  });

  it('pauses a session that has something, which goes on when it can be loaded', async () => {
    const world = makeWorld();
    const id = await create(world, { ...INPUT, maxSeconds: undefined });
    await world.clock.advance(2_000);
    const next = await elsewhere(world, [FAKE_MODEL]);
    next.engine.failToPrepare = () => gone;
    await next.clock.until(next.service.resumeSession(id));
    await next.clock.advance(100);
    const { message, code } = gone;
    expect(await next.service.session(id)).toMatchObject({
      state: 'PAUSED',
      reason: 'MODEL',
      failure: { code, message },
    });
    next.engine.failToPrepare = undefined;
    await next.clock.until(next.service.resumeSession(id));
    const { chunks } = await next.service.session(id);
    await next.clock.advance(2_000);
    expect((await next.service.session(id)).chunks).toBeGreaterThan(chunks);
    expect((await next.service.session(id)).failure).toBeUndefined();
    await next.clock.until(next.service.stopSession(id));
  });

  it('does not keep a session from being stopped or paused while it is on its way', async () => {
    const world = makeWorld();
    world.engine.preload = () => world.clock.sleep(3_600_000);
    const [stopped, paused] = [await create(world, INPUT), await create(world, INPUT)];
    await world.clock.advance(1_000);
    const before = world.clock.now();
    expect((await world.clock.until(world.service.stopSession(stopped))).state).toBe('STOPPED');
    expect((await world.clock.until(world.service.pauseSession(paused))).state).toBe('PAUSED');
    expect(world.clock.now() - before).toBeLessThan(1_000);
    world.engine.preload = async () => undefined;
    await world.clock.until(world.service.resumeSession(paused));
    await world.clock.advance(20_000);
    expect(await world.service.session(paused)).toMatchObject({ state: 'COMPLETED' });
  });

  it('is loaded without holding up other sessions on the device', async () => {
    const world = makeWorld();
    const running = await create(world, { ...INPUT, maxSeconds: undefined });
    await world.clock.advance(1_000);
    const preload = world.engine.preload.bind(world.engine);
    world.engine.preload = async (...request) => {
      await world.clock.sleep(5_000);
      return preload(...request);
    };
    const waiting = await create(world, INPUT);
    const before = (await world.service.session(running)).chunks;
    await world.clock.advance(4_000);
    expect((await world.service.session(running)).chunks).toBeGreaterThan(before + 5);
    expect((await world.service.session(waiting)).chunks).toBe(0);
    await world.clock.until(world.service.stopSession(running));
  });
});

describe('a model that was added while the service runs', () => {
  it('is listed when somebody looks', async () => {
    const world = makeWorld();
    world.engine.arriving.push(model({ name: 'new' }));
    expect(world.service.models().map(({ name }) => name)).toEqual(['fake']);
    expect((await world.service.findModels()).map(({ name }) => name)).toEqual(['fake', 'new']);
  });

  it('is found by the session that names it', async () => {
    const world = makeWorld();
    world.engine.arriving.push(model({ name: 'new' }));
    const id = await create(world, { ...INPUT, model: 'new' });
    expect(await world.service.session(id)).toMatchObject({ model: 'new' });
    await expect(world.clock.until(world.service.createSession({ ...INPUT, model: 'none' }))).rejects.toMatchObject({
      code: 'MODEL_UNAVAILABLE',
      field: 'model',
    });
  });

  it('is found by the session that is resumed with it', async () => {
    const world = makeWorld({ policy: { checkpointBlocks: 1 } });
    const id = await create(world, INPUT);
    await world.clock.advance(1_500);
    const next = await elsewhere(world, [model({ name: 'other', digest: 'd2' })]);
    next.engine.arriving.push(FAKE_MODEL);
    await next.clock.until(next.service.start());
    await next.clock.until(next.service.resumeSession(id));
    expect((await next.service.session(id)).state).not.toBe('FAILED');
  });
});

describe('the encoder of a session', () => {
  const both: EncoderName[] = ['openh264', 'minih264'];

  async function begun(encoders: EncoderName[], maxSeconds?: number): Promise<{ world: World; id: string }> {
    const world = makeWorld({ encoders });
    const id = await create(world, { ...INPUT, maxSeconds });
    await world.clock.advance(2_000);
    return { world, id };
  }

  it('is the first that its server has, and stays so where others come first', async () => {
    const { world, id } = await begun(both);
    expect(await world.service.session(id)).toMatchObject({ encoder: 'openh264' });
    const next = await elsewhere(world, [FAKE_MODEL], ['minih264', 'openh264']);
    expect((await next.clock.until(next.service.resumeSession(id))).state).toBe('LIVE');
    await next.clock.advance(500);
    expect(next.media.opened).toEqual(['openh264']);
    expect(await next.service.session(id)).toMatchObject({ encoder: 'openh264' });
    await next.clock.until(next.service.stopSession(id));
  });

  it('is missed by name where it is not, and the session stays as it is', async () => {
    const { world, id } = await begun(both);
    const next = await elsewhere(world, [FAKE_MODEL], ['minih264']);
    const resuming = next.clock.until(next.service.resumeSession(id));
    await expect(resuming).rejects.toMatchObject({ code: 'ENCODER_UNAVAILABLE' });
    await expect(resuming).rejects.toThrow('"openh264"');
    expect((await next.service.session(id)).state).toBe('PAUSED');
    const forking = next.clock.until(next.service.forkSession(id, { atChunk: 1 }));
    await expect(forking).rejects.toMatchObject({ code: 'ENCODER_UNAVAILABLE' });
    const right = await elsewhere(next, [FAKE_MODEL], both);
    expect((await right.clock.until(right.service.resumeSession(id))).state).toBe('LIVE');
    await right.clock.until(right.service.stopSession(id));
  });

  it('pauses a session whose server has died, where it is not', async () => {
    const { world, id } = await begun(both, 60);
    const next = await successorOf(world, { encoders: ['minih264'] });
    await next.clock.advance(5_000);
    expect(await next.service.session(id)).toMatchObject({
      ...{ state: 'PAUSED', reason: 'MEDIA', failure: { code: 'ENCODER_UNAVAILABLE' } },
    });
  });

  it("of a fork is its parent's", async () => {
    const { world, id } = await begun(['minih264']);
    const next = await elsewhere(world, [FAKE_MODEL], both);
    const fork = await next.clock.until(next.service.forkSession(id, { atChunk: 1 }));
    expect(fork).toMatchObject({ encoder: 'minih264' });
    await next.clock.until(next.service.stopSession(fork.id));
  });
});
