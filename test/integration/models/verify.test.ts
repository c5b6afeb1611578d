import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CASES } from '../../../src/cli/verification/cases.js';
import { film } from '../../../src/cli/verification/film.js';
import { readReference } from '../../../src/cli/verification/reference.js';
import { page, type Report } from '../../../src/cli/verification/report.js';
import { verifyModel, type VerifyOptions } from '../../../src/cli/verification/verify.js';
import { openEngine } from '../../../src/engine/index.js';
import { toRgb } from '../../../src/media/poster.js';

/** Pocket, and what somebody broke of it; small pictures, so that it is quick. */

const POCKET = fileURLToPath(new URL('../../../models/pocket', import.meta.url));
const SIZE = { width: 96, height: 64 };
const BLOCKS = 3;

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'longlive-verify-'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** A package whose every file matches its checksum, and one of whose tensors is something else. */
function broken(name: string, file: string, tensor: string, change: (bytes: Buffer) => void): string {
  const directory = join(root, name);
  cpSync(POCKET, directory, { recursive: true });
  const bytes = readFileSync(join(directory, file));
  const length = Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + length)) as Record<string, { data_offsets: [number, number] }>;
  const [from, to] = header[tensor]!.data_offsets;
  change(bytes.subarray(8 + length + from, 8 + length + to));
  writeFileSync(join(directory, file), bytes);
  const manifest = JSON.parse(readFileSync(join(directory, 'manifest.json'), 'utf8')) as {
    files: Record<string, { sha256: string }>;
  };
  manifest.files[file]!.sha256 = createHash('sha256').update(bytes).digest('hex');
  writeFileSync(join(directory, 'manifest.json'), JSON.stringify(manifest));
  return directory;
}

async function verify(models: string, options: VerifyOptions = {}): Promise<{ report: Report; html: string }> {
  await using engine = await openEngine({ models, threads: 2, preload: false });
  const { report, strips } = await verifyModel(engine, engine.models()[0]!, { blocks: BLOCKS, size: SIZE, ...options });
  return { report, html: page(report, strips) };
}

const failed = ({ checks }: Report): string[] => [
  ...new Set(checks.filter(({ status }) => status === 'failed').map(({ check }) => check)),
];

describe('longlive models verify', { timeout: 240_000 }, () => {
  it('finds nothing wrong with Pocket, and says so in a page that needs nothing else', async () => {
    const { report, html } = await verify(POCKET);
    expect(failed(report)).toEqual([]);
    expect(report).toMatchObject({ verdict: 'ok', package: { name: 'pocket' }, size: { ...SIZE, fps: 16 }, reference: null });
    expect(report.checks.map(({ check }) => check)).toContain('a new prompt changes the pictures');
    expect(html.match(/data:image\/jpeg/g)).toHaveLength(3);
    expect(html).not.toMatch(/src="(?!data:)|href=/);
    expect(JSON.stringify(report)).not.toContain(root);
  });

  it('finds a video network that makes no numbers', async () => {
    const huge = broken('huge', 'dit.safetensors', 'head.head.weight', (bytes) => bytes.fill(0x7f));
    const { report, html } = await verify(huge, { blocks: 1 });
    expect(report.verdict).toBe('failed');
    expect(failed(report)).toContain('latents are numbers');
    expect(html).toContain('<span class="failed">');
  });

  it('reports a package that cannot even be loaded, without places of this machine', async () => {
    const nan = broken('nan', 'dit.safetensors', 'head.head.weight', (bytes) => bytes.fill(0xff));
    const { report } = await verify(nan, { blocks: 1 });
    expect(failed(report)).toEqual(['generates']);
    expect(report.checks[0]!.detail).toBe('dit.safetensors: tensor "head.head.weight": contains NaN or infinity');
  });

  it('finds a decoder that shows grey', async () => {
    const grey = broken('grey', 'vae.safetensors', 'decoder.head.2.weight', (bytes) => bytes.fill(0));
    expect(failed((await verify(grey)).report)).toEqual(expect.arrayContaining(['not grey', 'not frozen']));
  });

  it('finds a video network that does not listen to its prompt', async () => {
    const deaf = broken('deaf', 'dit.safetensors', 'text_embedding.2.weight', (bytes) => bytes.fill(0));
    expect(failed((await verify(deaf)).report)).toContain('a new prompt changes the pictures');
  });

  it('compares with pictures of a reference, where there are any', async () => {
    const [first, second] = CASES;
    await using engine = await openEngine({ models: POCKET, threads: 2 });
    const made = await film(engine, 'pocket', first!, SIZE, 1);
    const { i420, count } = made.blocks[0]!;
    const bytes = i420.length / count;
    const rgb = Array.from({ length: count }, (_, i) =>
      toRgb(i420.subarray(i * bytes, (i + 1) * bytes), SIZE.width, SIZE.height),
    );
    const file = join(root, 'reference.safetensors');
    // The second case's are negatives: not what the package shows.
    const films = { [first!.name]: Buffer.concat(rgb), [second!.name]: Buffer.concat(rgb).map((value) => 255 - value) };
    writeFileSync(file, safetensors(films, [count, SIZE.height, SIZE.width, 3]));
    const { report, html } = await verify(POCKET, { blocks: 1, reference: await readReference(file) });
    const of = (name: string) => report.checks.find((c) => c.case === name && c.check.includes('first block'))?.status;
    expect([report.reference, of('plain'), of('switched')]).toEqual(['this test', 'ok', 'failed']);
    expect(report.checks).toContainEqual(expect.objectContaining({ case: 'other', check: 'as the reference', status: 'note' }));
    expect(html.match(/data:image\/jpeg/g)).toHaveLength(5);
  });
});

function safetensors(films: Record<string, Uint8Array>, shape: number[]): Buffer {
  let at = 0;
  const entries = Object.entries(films).map(([name, { length }]) => {
    const data_offsets = [at, (at += length)];
    return [`${name}.frames`, { dtype: 'U8', shape, data_offsets }];
  });
  const header = Buffer.from(JSON.stringify({ __metadata__: { made: 'this test' }, ...Object.fromEntries(entries) }));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, ...Object.values(films)]);
}
