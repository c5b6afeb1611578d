import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { LocalCluster } from '../../../src/cluster/index.js';
import { type NativeEngine, openEngine } from '../../../src/engine/index.js';
import { PackageCache } from '../../../src/packages/index.js';
import { createMediaFactory } from '../../../src/media/index.js';
import { SessionService } from '../../../src/sessions/index.js';
import { openStore } from '../../../src/storage/index.js';
import { randomOf } from '../../support/fake-service.js';
import { safeTensors } from '../../support/model-packages.js';

/** Pocket on the native core, with and without an adapter that is made here. */

const MODELS = fileURLToPath(new URL('../../../models', import.meta.url));
const { dit } = JSON.parse(readFileSync(join(MODELS, 'pocket/config.json'), 'utf8')) as {
  dit: { dim: number; numLayers: number };
};
const WIDTH = dit.dim;
const RANK = 2;

let root: string;
let engine: NativeEngine;
let sessions: SessionService;
const media = createMediaFactory({ threads: 1 });

function writeLora(name: string, change: (width: number) => number = (width) => width): void {
  const random = randomOf(5);
  const matrix = (rows: number, columns: number) => ({
    shape: [rows, columns],
    values: Array.from({ length: rows * columns }, () => 0.2 * (random() - 0.5)),
  });
  const tensors = Array.from({ length: dit.numLayers }, (_, block) => `blocks.${block}.self_attn.o`).flatMap((module) => [
    [`${module}.lora_A.weight`, matrix(RANK, change(WIDTH))] as const,
    [`${module}.lora_B.weight`, matrix(WIDTH, RANK)] as const,
  ]);
  writeFileSync(join(root, 'loras', `${name}.safetensors`), safeTensors(Object.fromEntries(tensors)));
}

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'longlive-pocket-loras-'));
  mkdirSync(join(root, 'loras'));
  writeLora('sketch');
  writeLora('narrow', (width) => width - 1);
  const cache = new PackageCache({ directory: join(root, 'cache'), limitBytes: 1e9 });
  engine = await openEngine({ models: MODELS, loras: join(root, 'loras'), cache, device: 'cpu', threads: 2 });
  const store = openStore(pathToFileURL(join(root, 'data')).href);
  sessions = new SessionService({ engine, media, store, cluster: new LocalCluster() });
});

afterAll(async () => {
  await sessions.shutdown();
  await media.close();
  await engine.close();
  rmSync(root, { recursive: true, force: true });
});

/** Digest of all the video of a session. */
async function video(loras: { name: string; weight?: number }[], model = 'pocket'): Promise<string> {
  const input = { prompt: 'a red fox walks over green grass', width: 64, height: 64, seed: 3n, maxSeconds: 0.5, model, loras };
  const { id } = await sessions.createSession({ ...input, pace: 'FASTEST' });
  const hash = createHash('sha256');
  for await (const event of sessions.subscribe(id)) {
    if (event.type === 'SessionEnded') expect(event).toMatchObject({ state: 'COMPLETED' });
    if (event.type !== 'FrameChunk') continue;
    hash.update(await readFile(join(root, 'data', `sessions/${id}/chunks/${String(event.chunk).padStart(6, '0')}.m4s`)));
  }
  return hash.digest('hex');
}

test('an adapter changes the video by its weight, the same way every time', async () => {
  const plain = await video([]);
  const adapted = await video([{ name: 'sketch' }]);
  expect(adapted).not.toBe(plain);
  expect(await video([{ name: 'sketch', weight: 1 }])).toBe(adapted);
  expect(await video([{ name: 'sketch', weight: 0.5 }])).not.toBe(adapted);
  expect(await video([{ name: 'sketch', weight: 0 }])).toBe(plain);
}, 240_000);

test('an adapter for a network of another width is refused with both shapes', async () => {
  const refused = sessions.createSession({ prompt: 'a fox', loras: [{ name: 'narrow' }] });
  await expect(refused).rejects.toMatchObject({ code: 'INVALID_INPUT', field: 'loras[0].name' });
  const why = `blocks.0.self_attn.o.weight is [${WIDTH}, ${WIDTH}], the adapter is made for [${WIDTH}, ${WIDTH - 1}]`;
  await expect(refused).rejects.toThrow(why);
});

test('an adapter changes the video of a package in int8 too, which goes on to run in int8', async () => {
  const plain = await video([], 'pocket-int8');
  const adapted = await video([{ name: 'sketch' }], 'pocket-int8');
  expect(adapted).not.toBe(plain);
  expect(adapted).not.toBe(await video([{ name: 'sketch' }]));
  expect(await video([{ name: 'sketch', weight: 1 }], 'pocket-int8')).toBe(adapted);
  const info = engine.models().find(({ name }) => name === 'pocket-int8');
  expect(info).toMatchObject({ storedPrecision: 'int8', precision: 'int8' });
}, 240_000);
