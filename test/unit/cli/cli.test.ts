import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { storeUrl } from '../../../src/cli/backend.js';
import { doctorCommand, examine } from '../../../src/cli/doctor.js';
import { EXIT, explain, Failure } from '../../../src/cli/failure.js';
import { generateCommand } from '../../../src/cli/generate.js';
import { quantile, report, summary } from '../../../src/cli/report.js';
import { serveCommand } from '../../../src/cli/serve.js';
import { defaultCacheDirectory } from '../../../src/engine/index.js';
import { ignoredVariables } from '../../../src/server/config.js';
import { ConfigError, configSchema, loadConfig } from '../../../src/server/index.js';
import { DomainError } from '../../../src/sessions/index.js';
import { FAKE_MODEL } from '../../support/fake-engine.js';
import { makeWorld, read, stored } from '../../support/fake-service.js';
import { FakeAddon, writePackage } from '../../support/model-packages.js';

let root: string;
beforeEach(() => (root = mkdtempSync(join(tmpdir(), 'longlive-cli-'))));
afterEach(() => rmSync(root, { recursive: true, force: true }));

const silent = (command: Command) => command.exitOverride().configureOutput({ writeErr: () => undefined });
const generate = (...words: string[]) => silent(generateCommand()).parseAsync(words, { from: 'user' });

describe('longlive generate', () => {
  const good = ['--prompt', 'a fox', '--out', 'v.mp4'];

  it.each([
    ['no prompt', ['--out', 'v.mp4']],
    ['a switch without a time', [...good, '--switch', 'a blue robot']],
    ['a switch without a text', [...good, '--switch', '5:']],
    ['no length', [...good, '--seconds', '0']],
    ['a size of one number', [...good, '--size', '192']],
    ['a negative seed', [...good, '--seed', '-1']],
    ['an unknown mode', [...good, '--switch-mode', 'forget']],
    ['an unknown flag', [...good, '--colour', 'red']],
  ])('refuses %s before it does anything', async (_name, words) => {
    await expect(generate(...words)).rejects.toSatisfy(({ code }: { code: string }) => code.startsWith('commander.'));
  });

  it('finds out first that the output cannot be written', async () => {
    const words = ['--prompt', 'a fox', '--out', join(root, 'no', 'such', 'v.mp4')];
    await expect(generate(...words)).rejects.toMatchObject({ exitCode: EXIT.storage });
  });

  it('says that there is no model, and where it looked', async () => {
    const words = ['--prompt', 'a fox', '--out', join(root, 'v.mp4'), '--models', root];
    const error = await generate(...words).catch((reason: unknown) => reason);
    expect(explain(error)).toMatchObject({ exitCode: EXIT.unavailable });
  });
});

describe('the report of generate', () => {
  it('counts frames, device time and each switch', async () => {
    const world = makeWorld();
    const timeline = [{ prompt: 'one' }, { prompt: 'two', block: 2 }];
    const input = { timeline, maxSeconds: 3, pace: 'FASTEST' as const, seed: 5n };
    const requestedAt = world.clock.now();
    const { id } = await world.clock.until(world.service.createSession(input));
    const events = stored(await world.clock.until(read(world, id)));
    const session = await world.service.session(id);
    const result = report({
      session,
      events,
      model: FAKE_MODEL,
      startedAt: requestedAt - 500,
      requestedAt,
      out: 'v.mp4',
      threads: 2,
    });
    // 5 blocks; a chunk comes with the fifth of six steps of 50 ms, and a recache takes 30 ms.
    expect(result).toMatchObject({
      frames: 57,
      seconds: 57 / 16,
      firstChunkMilliseconds: 280,
      coldStartMilliseconds: 780,
      blockMilliseconds: { p50: 300, p90: 300 },
      recacheMilliseconds: [30],
      switchMilliseconds: [330],
      device: 'cpu',
      precision: 'fp32',
      package: { name: 'fake', version: '1.0.0', digest: 'd1' },
      seed: '5',
    });
    expect(result.generationFps).toBeCloseTo((57 * 1_000) / (5 * 300 - 50 + 30), 1);
    expect(result.peakMemoryBytes).toBeGreaterThan(1e6);
    expect(() => JSON.stringify(result)).not.toThrow();
    expect(summary(result)).toContain('switch 1: 330 ms, of which 30 ms recache');
  });

  it('takes quantiles by nearest rank', () => {
    expect(quantile([4, 1, 3, 2], 0.5)).toBe(2);
    expect(quantile([4, 1, 3, 2], 0.9)).toBe(4);
    expect(quantile([], 0.5)).toBe(0);
  });
});

describe('exit codes', () => {
  it.each([
    [new Failure(EXIT.interrupted, 'm'), EXIT.interrupted],
    [new ConfigError('m'), EXIT.usage],
    [new DomainError('INVALID_INPUT', 'm'), EXIT.usage],
    [new DomainError('MODEL_UNAVAILABLE', 'm'), EXIT.unavailable],
    [new DomainError('STORAGE', 'm'), EXIT.storage],
    [new DomainError('ENGINE', 'm'), EXIT.generation],
  ])('%s', (error, exitCode) => {
    expect(explain(error)).toEqual({ exitCode, message: 'm' });
  });

  it.each([
    ['ENOSPC', undefined, 'A file cannot be used: the disk is full; free some space.'],
    [
      'EROFS',
      '/mnt/x.mp4',
      '/mnt/x.mp4 cannot be used: its file system is read-only; choose another place, or mount it for writing.',
    ],
  ])('say what %s means, without a stack', (code, path, message) => {
    const error = Object.assign(new Error(`${code}: words of the system`), { code, path, syscall: 'write' });
    expect(explain(error)).toEqual({ exitCode: EXIT.storage, message });
  });

  it('shows the stack of what nobody foresaw', () => {
    const { exitCode, message } = explain(new TypeError('oops'));
    expect(exitCode).toBe(EXIT.bug);
    expect(message).toMatch(/oops\n +at /);
  });
});

describe('longlive serve', () => {
  it('has a flag for every setting', () => {
    const flags = serveCommand().options.map((option) => option.attributeName());
    expect(flags).toEqual(Object.keys(configSchema.shape));
  });
});

describe('longlive doctor', () => {
  it.each([
    [{ loras: 'loras' }, 'missing'],
    [{}, 'note'],
  ])('says beforehand that merged adapters have no place: %j', async (settings, status) => {
    const cache = join(root, 'file', 'cache');
    writeFileSync(join(root, 'file'), '');
    const config = loadConfig({}, { models: root, store: join(root, 'data'), modelCache: cache, ...settings });
    const found = (await examine(config)).find(({ topic }) => topic === 'Model cache');
    expect(found).toMatchObject({
      status,
      detail: expect.stringContaining('set --model-cache (LONGLIVE_MODEL_CACHE)') as string,
    });
  });

  it("takes Kubernetes' address of a service called longlive for no port, and says so", () => {
    const environment = { LONGLIVE_PORT: 'tcp://10.0.0.1:4000', LONGLIVE_PORT_4000_TCP_PORT: '4000' };
    expect(loadConfig(environment).port).toBe(4000);
    expect(loadConfig({ ...environment, PORT: '5000' }).port).toBe(5000);
    expect(ignoredVariables(environment)).toEqual([
      expect.stringMatching(/^LONGLIVE_PORT=tcp:\/\/10\.0\.0\.1:4000 is ignored: .*or --port\.$/) as string,
    ]);
    expect(ignoredVariables({ LONGLIVE_PORT: '4001' })).toEqual([]);
    expect(() => loadConfig({ LONGLIVE_PORT: 'four' })).toThrow(/port \(LONGLIVE_PORT\)/);
  });

  it('keeps packages in the temporary directory where there is no home to write to', () => {
    const before = { ...process.env };
    try {
      delete process.env.XDG_CACHE_HOME;
      for (const home of ['/nonexistent', join(root, 'file')]) {
        process.env.HOME = home;
        expect(defaultCacheDirectory()).toBe(join(tmpdir(), `longlive-${process.getuid?.()}`, 'models'));
      }
      process.env.HOME = root;
      expect(defaultCacheDirectory()).toBe(join(root, '.cache', 'longlive', 'models'));
    } finally {
      process.env = before;
    }
  });

  it('names what is missing', async () => {
    const findings = await examine(loadConfig({}, { models: root, store: join(root, 'data') }));
    expect(findings).toContainEqual({
      topic: 'Model',
      status: 'missing',
      detail: `No usable model package in ${root}. Add one with: longlive models add`,
    });
    expect(findings.find(({ topic }) => topic === 'Node.js')).toMatchObject({ status: 'ok' });
  });

  const addon = (cudaBuilt: boolean) => Object.assign(new FakeAddon(), { cudaBuilt });

  it.each([
    [true, 'version test, built with CUDA'],
    [false, 'version test, built without CUDA'],
  ])('says what the core was built with (CUDA: %s), and why a device cannot be used', async (cuda, detail) => {
    const config = loadConfig({}, { models: root, store: join(root, 'data') });
    const findings = await examine(config, () => addon(cuda));
    expect(findings).toContainEqual({ topic: 'Native core', status: 'ok', detail });
    expect(findings).toContainEqual({ topic: 'Device cpu', status: 'ok', detail: 'a CPU, 2 threads' });
    expect(findings).toContainEqual({ topic: 'Device cuda', status: 'note', detail: 'no driver, 2 threads' });
  });

  const packageWith = (name: string, tinyVae: unknown) => {
    const config = {
      ...{ dit: { textLen: 16 }, sampling: { framesPerBlock: 3, denoisingSteps: [1000] }, tinyVae },
      video: { width: 64, height: 64, fps: 16 },
    };
    return writePackage(root, name, { files: { 'config.json': JSON.stringify(config) } });
  };

  it('plans for what is configured, and for the other decoder of a package that has both', async () => {
    const directory = packageWith('large', { channels: [8] });
    const settings = {
      LONGLIVE_DECODER: 'tiny',
      LONGLIVE_PRECISION: 'int8',
      LONGLIVE_ATTENTION: 'int8',
      LONGLIVE_ROPE: 'relative',
    };
    const fake = addon(false);
    const plan = vi.spyOn(fake, 'planMemory');
    const findings = await examine(loadConfig(settings, { models: root, store: join(root, 'data') }), () => fake);
    const memory = findings.filter(({ topic }) => topic.startsWith('Memory large, cuda'));
    expect(memory.map(({ topic }) => topic.split(', ')[2])).toEqual(['decoder tiny', 'decoder full']);
    expect(memory[0]?.detail).toMatch(/^int8 with int8 attention, .*there is no such device here$/);
    const asked = { directory, device: 'cuda', decoder: 'tiny', precision: 'int8', attention: 'int8' };
    expect(plan).toHaveBeenCalledWith(expect.objectContaining(asked), { rope: 'relative' });
  });

  it('plans for the one decoder that a package has', async () => {
    packageWith('plain', null);
    const findings = await examine(loadConfig({}, { models: root, store: join(root, 'data') }), () => addon(false));
    const topics = findings.map(({ topic }) => topic).filter((topic) => topic.startsWith('Memory'));
    expect(topics).toEqual(['Memory plain, cpu, decoder full', 'Memory plain, cuda, decoder full']);
  });

  it('takes the settings that decide about memory as flags', () => {
    const flags = doctorCommand().options.map((option) => option.attributeName());
    expect(flags).toEqual(expect.arrayContaining(['device', 'precision', 'attention', 'decoder']));
  });

  it('reports every GPU, one whose driver refuses to record work, and one without the library of matrix products', async () => {
    const fake = addon(false);
    const [cpu, cuda] = fake.devices();
    if (!cpu || !cuda) throw new Error('no devices');
    const gpu = (index: number, refusedRecordings: number, isa = 'sm_90+cublaslt') => ({
      ...cuda,
      isa,
      index,
      refusedRecordings,
      available: true,
      detail: 'a GPU',
    });
    vi.spyOn(fake, 'devices').mockReturnValue([cpu, gpu(0, 0), gpu(1, 1), gpu(2, 0, 'sm_90')]);
    const findings = await examine(loadConfig({}, { models: root, store: join(root, 'data') }), () => fake);
    const devices = findings.filter(({ topic }) => topic.startsWith('Device cuda'));
    expect(devices).toEqual([
      expect.objectContaining({ topic: 'Device cuda', status: 'ok' }),
      expect.objectContaining({
        topic: 'Device cuda 1',
        status: 'note',
        detail: expect.stringContaining('The GPU driver refuses to record work (CUDA graphs)') as string,
      }),
      expect.objectContaining({
        topic: 'Device cuda 2',
        status: 'note',
        detail: expect.stringContaining('libcublasLt') as string,
      }),
    ]);
  });

  it.each([
    [{ LONGLIVE_REDIS: 'redis://localhost:1' }, /signingKey \(LONGLIVE_SIGNING_KEY\): with Redis/],
    [{ LONGLIVE_HOST: '0.0.0.0', LONGLIVE_JWT_ISSUER: 'https://id.example.com' }, /jwtAudience .* is missing/],
    [{ LONGLIVE_REDIS: 'redis://localhost:1', LONGLIVE_SECRETS: './secrets' }, undefined],
  ])('reports why serve would not start: %j', async (environment, problem) => {
    const settings = loadConfig(environment, { models: root, store: join(root, 'data') });
    const findings = await examine(settings, () => addon(false));
    const missing = findings.find(({ topic, status }) => topic === 'Settings' && status === 'missing');
    if (problem) expect(missing?.detail).toMatch(problem);
    else expect(missing).toBeUndefined();
  });

  it('reports a store that cannot be written', async () => {
    writeFileSync(join(root, 'file'), '');
    const findings = await examine(loadConfig({}, { models: root, store: join(root, 'file', 'data') }));
    expect(findings.find(({ topic }) => topic === 'Store')).toMatchObject({ status: 'missing' });
  });
});

describe('--store', () => {
  it('takes paths and URLs', () => {
    expect(storeUrl('/srv/my data')).toBe('file:///srv/my%20data');
    expect(storeUrl('./data')).toMatch(/^file:\/\/\/.*\/data$/);
    expect(storeUrl('s3://bucket/prefix')).toBe('s3://bucket/prefix');
    expect(storeUrl('file:data')).toBe('file:data');
  });
});
