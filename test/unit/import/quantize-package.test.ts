import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { dequantized, openSource, quantizePackage, type Tensor } from '../../../src/import/index.js';
import type { PackageToQuantize, QuantizeOptions } from '../../../src/import/quantize-package.js';
import { memoryTensor } from '../../support/memory-tensor.js';
import { writeSafeTensors } from '../../../src/import/writer.js';

let root: string;
let source: PackageToQuantize;
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'longlive-quantize-'));
  source = await makePackage(join(root, 'original'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const MATRIX = 'blocks.0.ffn.0.weight';
const values = (count: number) => Float32Array.from({ length: count }, (_, i) => Math.sin(i * 1.7) * (1 + (i % 5)));

/** Only what quantizing looks at; whether networks are whole is the native core's business. */
async function makePackage(directory: string): Promise<PackageToQuantize> {
  mkdirSync(directory);
  const files: Record<string, { bytes: number; sha256: string }> = {};
  const tensors: Record<string, Tensor[]> = {
    'dit.safetensors': [
      memoryTensor(MATRIX, [6, 10], values(60)),
      memoryTensor('blocks.0.ffn.0.bias', [6], values(6)),
      memoryTensor('head.head.weight', [4, 10], values(40)),
    ],
    'text_encoder.safetensors': [memoryTensor('token_embedding.weight', [8, 4], values(32))],
  };
  for (const [file, list] of Object.entries(tensors)) {
    const named = new Map(list.map((tensor) => [tensor.name, tensor]));
    files[file] = await writeSafeTensors(
      join(directory, file),
      named,
      () => 'F32',
      () => undefined,
    );
  }
  for (const [file, text] of Object.entries({
    'config.json': '{}',
    'vae.safetensors': 'not looked at',
    'README.md': '# card',
  })) {
    writeFileSync(join(directory, file), text);
    const sha256 = createHash('sha256').update(text).digest('hex');
    if (file !== 'README.md') files[file] = { bytes: text.length, sha256 };
  }
  return { directory, manifest: { formatVersion: 1, name: 'original', title: 'Original', license: 'MIT', files } };
}

const quantize = (options: Partial<QuantizeOptions> = {}) =>
  quantizePackage({ source, out: join(root, 'small'), precision: 'int8', ...options });

async function tensorsOf(file: string): Promise<Map<string, Tensor>> {
  const opened = await openSource(join(root, 'small', file));
  await opened.close();
  return new Map(opened.tensors.map((tensor) => [tensor.name, tensor]));
}

describe('quantizing a package', () => {
  it.each([
    ['int8', 'I8'],
    ['fp8', 'F8_E4M3'],
  ] as const)(
    'stores the large matrices in %s with their scales, and nothing else otherwise',
    async (precision, dtype) => {
      await quantize({ precision });
      const tensors = await tensorsOf('dit.safetensors');
      expect(Object.fromEntries([...tensors].map(([name, tensor]) => [name, tensor.dtype]))).toEqual({
        [MATRIX]: dtype,
        [`${MATRIX}_scale`]: 'F32',
        'blocks.0.ffn.0.bias': 'F32',
        'head.head.weight': 'F32',
      });
      expect((await tensorsOf('text_encoder.safetensors')).get('token_embedding.weight')?.dtype).toBe('F32');
    },
  );

  it('stays close to what it was', async () => {
    await quantize({ textEncoder: 'int8' });
    const file = await openSource(join(root, 'small', 'text_encoder.safetensors'));
    const [table] = dequantized(new Map(file.tensors.map((tensor) => [tensor.name, tensor]))).values();
    const got = new Float32Array((await (table as Tensor).read(0, 32)).buffer);
    await file.close();
    values(32).forEach((value, i) => expect(Math.abs((got[i] as number) - value)).toBeLessThan(5 / 127));
  });

  it('writes a manifest that is true of every file', async () => {
    const { files } = await quantize({ name: 'tiny', now: () => new Date(0) });
    const manifest = JSON.parse(readFileSync(join(root, 'small', 'manifest.json'), 'utf8')) as Record<string, unknown>;
    expect(manifest).toMatchObject({
      name: 'tiny',
      title: 'Original (int8)',
      license: 'MIT',
      createdAt: '1970-01-01T00:00:00.000Z',
      files,
    });
    for (const [file, { bytes, sha256 }] of Object.entries(files)) {
      const content = readFileSync(join(root, 'small', file));
      expect([content.length, createHash('sha256').update(content).digest('hex')]).toEqual([bytes, sha256]);
    }
    expect(readdirSync(join(root, 'small')).sort()).toEqual(
      [...Object.keys(files), 'README.md', 'manifest.json'].sort(),
    );
  });

  it('refuses what is quantized already, a name that is none, and a place that is taken', async () => {
    await quantize();
    const again = { ...source, directory: join(root, 'small') };
    await expect(quantize({ source: again, out: join(root, 'smaller') })).rejects.toThrow(
      /already quantized \("blocks/,
    );
    await expect(quantize({ name: 'Not A Name' })).rejects.toThrow(/cannot be the name/);
    await expect(quantize()).rejects.toThrow(/exists already/);
    expect(readdirSync(root).sort()).toEqual(['original', 'small']);
  });

  it('leaves nothing when its trial fails', async () => {
    const trial = async (directory: string) => {
      expect(existsSync(join(directory, 'manifest.json'))).toBe(true);
      throw new Error('it dreams of something else');
    };
    await expect(quantize({ trial })).rejects.toThrow('something else');
    expect(readdirSync(root)).toEqual(['original']);
  });

  it('leaves no package when it is killed, and the next attempt clears up', async () => {
    const module = new URL('../../../src/import/quantize-package.ts', import.meta.url).href;
    const script = `
      const { quantizePackage } = await import(${JSON.stringify(module)});
      setInterval(() => undefined, 1000);
      const trial = () => new Promise(() => console.log('trial'));
      await quantizePackage({ ...JSON.parse(process.argv[1]), trial });`;
    const options = JSON.stringify({ source, out: join(root, 'small'), precision: 'int8' });
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script, options], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(existsSync(join(root, 'small'))).toBe(false);
    expect(readdirSync(root).filter((name) => !/^\.|\.lock$/.test(name))).toEqual(['original']);
    await quantize();
    expect(readdirSync(root).sort()).toEqual(['original', 'small']);
  }, 60_000);
});
