import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { EXIT } from '../../../src/cli/failure.js';
import { modelsCommand } from '../../../src/cli/models.js';
import { failureOf } from '../../support/failure.js';
import { safeTensors, storedAs, writePackage } from '../../support/model-packages.js';
import { RangeServer } from '../../support/range-server.js';

// Real files that are synced, on machines that may be busy.
vi.setConfig({ testTimeout: 60_000 });

let root: string;
let models: string;
let said: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'longlive-models-'));
  models = join(root, 'models');
  mkdirSync(models);
  said = '';
  for (const stream of [process.stdout, process.stderr]) {
    vi.spyOn(stream, 'write').mockImplementation((text) => {
      said += String(text);
      return true;
    });
  }
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(root, { recursive: true, force: true });
});

async function run(command: string, ...words: string[]): Promise<string> {
  said = '';
  const places = [
    '--models',
    models,
    ...(['remove', 'configure'].includes(command) ? [] : ['--model-cache', join(root, 'cache')]),
  ];
  const program = modelsCommand();
  for (const each of [program, ...program.commands]) each.exitOverride();
  await program.parseAsync([command, ...words, ...places], { from: 'user' });
  return said;
}

const failure = (command: string, ...words: string[]) => failureOf(run(command, ...words));

describe('longlive models configure', () => {
  const DEEP = {
    dit: { textLen: 16, ropeTableLength: 1024 },
    sampling: {
      ...{ framesPerBlock: 3, windowFrames: 12, sinkFrames: 3, rope: 'absolute', globalSink: true, timestepShift: 5 },
      ...{ denoisingSteps: [1000, 750, 500, 250], warpDenoisingSteps: true, contextNoise: 0 },
    },
    video: { width: 192, height: 112, fps: 16 },
  };
  const write = (config: object = DEEP) =>
    writePackage(models, 'mine', { files: { 'config.json': JSON.stringify(config) } });
  const stored = () => JSON.parse(readFileSync(join(models, 'mine/config.json'), 'utf8')) as typeof DEEP;

  it('changes sampling and renews the manifest', async () => {
    write();
    const told = await run('configure', 'mine', 'sampling.rope=relative', 'denoisingSteps=1000,500');
    expect(told).toContain(
      'sampling.rope: "absolute" -> "relative"\nsampling.denoisingSteps: [1000,750,500,250] -> [1000,500]\n',
    );
    expect(stored()).toEqual({
      ...DEEP,
      sampling: { ...DEEP.sampling, rope: 'relative', denoisingSteps: [1000, 500] },
    });
    expect(await run('verify', 'mine', '--files')).toBe('mine: every file matches its checksum\n');
    expect(readdirSync(join(models, 'mine')).filter((name) => name.endsWith('.new'))).toEqual([]);
    expect(await run('configure', 'mine', 'rope=relative')).toBe(`${join(models, 'mine')}: nothing to change\n`);
  });

  it('reads a config.json with a mark of byte order, and writes it without', async () => {
    write();
    writeFileSync(join(models, 'mine/config.json'), `\ufeff${JSON.stringify(DEEP)}`);
    await run('configure', 'mine', 'rope=relative');
    expect(stored().sampling.rope).toBe('relative');
  });

  it.each(['configure', 'verify'])('says what is wrong with a package that cannot be read: %s', async (command) => {
    write();
    writeFileSync(join(models, 'mine/config.json'), JSON.stringify({ ...DEEP, video: { ...DEEP.video, fps: 500 } }));
    expect(await failure(command, 'mine')).toMatchObject({
      exitCode: EXIT.unavailable,
      message: 'Model package mine: config.json cannot be used: video.fps is 500, but must be at most 240.',
    });
  });

  it('accepts a config.json that was edited, and says so', async () => {
    write();
    writeFileSync(join(models, 'mine/config.json'), JSON.stringify({ ...DEEP, video: { ...DEEP.video, fps: 24 } }));
    expect((await failure('verify', 'mine', '--files')).message).toMatch(
      /config\.json.*longlive models configure mine/s,
    );
    expect(await run('configure', 'mine')).toMatch(/^config\.json was edited; the manifest now matches it\n/);
    expect(await run('verify', 'mine', '--files')).toBe('mine: every file matches its checksum\n');
    expect(stored().video.fps).toBe(24);
  });

  it.each([
    [['rope=sideways'], /sampling\.rope/],
    [['sinkFrames=11'], /sampling\.windowFrames is 12: must hold the sink and one block/],
    [['speed=2'], /"speed=2" is not a package setting.*sampling\.rope/],
  ])('refuses %j and changes nothing', async (settings, message) => {
    write();
    const before = readFileSync(join(models, 'mine/config.json'), 'utf8');
    expect((await failure('configure', 'mine', ...settings)).message).toMatch(message);
    expect(readFileSync(join(models, 'mine/config.json'), 'utf8')).toBe(before);
    expect(await run('verify', 'mine', '--files')).toBe('mine: every file matches its checksum\n');
  });

  it('names what is not there', async () => {
    expect(await failure('configure', 'other', 'rope=relative')).toMatchObject({
      exitCode: EXIT.usage,
      message: expect.stringContaining('No model package "other"') as string,
    });
  });
});

describe('longlive models add', () => {
  it('copies a directory, so that list and verify know it', async () => {
    const dit = safeTensors({ a: { shape: [2], values: [1, 2] } });
    await run('add', writePackage(root, 'near', { files: { 'dit.safetensors': dit } }));
    expect(await run('list')).toMatch(/^near +1\.0\.0 +192x112 +0\.00 GB +fp32, runs in bf16 +Apache-2\.0 +here\n$/);
    expect(JSON.parse(await run('list', '--json'))).toMatchObject([
      { name: 'near', storedPrecision: 'fp32', precision: 'bf16', license: 'Apache-2.0', local: true, state: null },
    ]);
    expect(await run('verify')).toBe('near: every file matches its checksum\n');
  });

  it('fetches from a URL, under another name if asked', async () => {
    const server = new RangeServer();
    const address = `${await server.start()}/packages/far/`;
    const directory = writePackage(root, 'far');
    for (const file of readdirSync(directory)) server.files.set(file, readFileSync(join(directory, file)));
    expect(await run('add', address, '--name', 'mine')).toContain('licence: Apache-2.0');
    await server.stop();
    expect(readdirSync(models)).toEqual(['mine']);
    expect(await run('verify', 'mine', '--files')).toBe('mine: every file matches its checksum\n');
  });

  it('does not replace a package', async () => {
    const near = writePackage(root, 'near');
    await run('add', near);
    const { exitCode, message } = await failure('add', near);
    expect(exitCode).toBe(EXIT.usage);
    expect(message).toContain('longlive models remove near');
  });

  it('refuses damage, and leaves nothing that looks like a package', async () => {
    const near = writePackage(root, 'near');
    writeFileSync(join(near, 'vae.safetensors'), 'x');
    expect(await failure('add', near)).toMatchObject({
      exitCode: EXIT.unavailable,
      message: expect.stringContaining('vae.safetensors does not match the manifest') as string,
    });
    expect(await run('list')).toContain('No model packages found');
  });

  it.each([
    ['a name that is none', () => [writePackage(root, 'near'), '--name', '../x'], EXIT.usage],
    ['a place that is none', () => ['ftp://host/x'], EXIT.usage],
    ['a directory without a package', () => [root], EXIT.unavailable],
  ])('refuses %s', async (_what, words, exitCode) => {
    expect((await failure('add', ...words())).exitCode).toBe(exitCode);
    expect(readdirSync(models)).toEqual([]);
  });
});

describe('longlive models remove', () => {
  it('deletes only when told so, for there is nobody to ask', async () => {
    await run('add', writePackage(root, 'near'));
    expect((await failure('remove', 'near')).message).toContain('--yes');
    expect(existsSync(join(models, 'near'))).toBe(true);
    await run('remove', 'near', '--yes');
    expect(readdirSync(models)).toEqual([]);
  });

  it('says that there is no such package', async () => {
    expect((await failure('remove', 'near', '--yes')).message).toContain('No model package "near"');
  });
});

describe('longlive models list', () => {
  it('says what weights are stored in, and what they are calculated with where that differs', async () => {
    for (const [name, dtype] of Object.entries({ a: 'I8', b: 'F8_E4M3', c: 'I8' })) {
      writePackage(models, name, { files: { 'dit.safetensors': storedAs(dtype) } });
    }
    const cells = async (...words: string[]) =>
      (await run('list', '--device', 'cpu', ...words)).split('\n').map((line) => line.split(/ {2,}/)[4]);
    expect((await cells()).slice(0, 3)).toEqual(['int8', 'fp8, runs in bf16', 'int8']);
    expect((await cells('--precision', 'bf16')).at(0)).toBe('int8, runs in bf16');
  });

  it('keeps the package whose place another version takes, when it is told to', async () => {
    writePackage(models, 'mine');
    const before = readFileSync(join(models, 'mine/manifest.json'));
    const newer = writePackage(root, 'mine', { change: (manifest) => (manifest['version'] = '2.0.0') });
    expect((await failure('add', newer, '--quiet')).message).toContain('--keep-old');
    await run('add', newer, '--quiet', '--keep-old');
    expect(readdirSync(models).sort()).toEqual(['mine', 'mine@1.0.0']);
    expect(readFileSync(join(models, 'mine@1.0.0/manifest.json'))).toEqual(before);
    expect((await run('list')).split('\n').map((line) => line.split(/ {2,}/).slice(0, 2))).toEqual([
      ...[
        ['mine', '2.0.0'],
        ['mine@1.0.0', '1.0.0'],
      ],
      [''],
    ]);
    await run('remove', 'mine@1.0.0', '--yes');
    expect(readdirSync(models)).toEqual(['mine']);
  });

  it('puts an earlier version beside a later one, as it is', async () => {
    writePackage(models, 'mine', { change: (manifest) => (manifest['version'] = '2.0.0') });
    const older = writePackage(root, 'mine');
    await run('add', older, '--quiet', '--name', 'mine@1.0.0');
    expect(readFileSync(join(models, 'mine@1.0.0/manifest.json'))).toEqual(readFileSync(join(older, 'manifest.json')));
    expect((await failure('add', older, '--quiet', '--name', 'mine@3')).message).toContain('or mine@1.0.0');
  });

  it('names what is elsewhere, and asks a service what it has loaded', async () => {
    const server = new RangeServer();
    const origin = await server.start();
    const directory = writePackage(root, 'far');
    for (const file of readdirSync(directory)) server.files.set(file, readFileSync(join(directory, file)));
    models = `${models},${origin}/packages/far/`;
    expect(await run('list')).toMatch(/^far .* runs in bf16 +Apache-2\.0 +elsewhere\n$/);
    const [{ digest }] = JSON.parse(await run('list', '--json')) as [{ digest: string }];
    const answer = { data: { models: [{ digest, state: 'LOADED', precision: 'fp32' }] } };
    server.files.set('graphql', Buffer.from(JSON.stringify(answer)));
    expect(await run('list', '--service', origin)).toMatch(/ runs in fp32 .* loaded\n$/);
    server.files.delete('graphql');
    expect((await failure('list', '--service', origin)).message).toContain('it answered 404');
    expect(await run('verify', 'far', '--files')).toContain('not downloaded');
    await server.stop();
  });
});

describe('what others wrote', () => {
  const FORGED = 'x\nlonglive: forged line';
  const edited = (folder: string, change: (manifest: Record<string, unknown>) => void) => {
    const file = join(folder, 'manifest.json');
    const manifest = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
    change(manifest);
    writeFileSync(file, JSON.stringify(manifest));
  };

  it('forges no line of what is said', async () => {
    mkdirSync(join(root, 'theirs'));
    writePackage(join(root, 'theirs'), 'toy');
    edited(join(root, 'theirs/toy'), (manifest) => {
      for (const text of ['title', 'version', 'license']) manifest[text] = FORGED;
    });
    writePackage(models, 'keyed');
    edited(join(models, 'keyed'), (manifest) => (manifest[FORGED] = 1));
    writePackage(models, FORGED.replace('/', ''));
    edited(join(models, FORGED), (manifest) => (manifest['name'] = 'A/B'));
    mkdirSync(join(models, 'garbage'));
    writeFileSync(join(models, 'garbage/manifest.json'), `{"a":\n${FORGED}`);
    const told = [
      await run('add', join(root, 'theirs/toy')),
      await run('list'),
      (await failure('verify')).message,
      (await failure('add', join(models, 'keyed'))).message,
    ].join('\n');
    expect(told).toContain('x\\u000alonglive: forged line');
    expect(told).not.toMatch(/^longlive: forged/m);
  });
});
