import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import type { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { psnr, relativeError } from '../../../src/cli/calibration.js';
import { EXIT } from '../../../src/cli/failure.js';
import { quantizeCommand, table } from '../../../src/cli/quantize.js';

let root: string;
beforeEach(() => (root = mkdtempSync(join(tmpdir(), 'longlive-quantize-'))));
afterEach(() => rmSync(root, { recursive: true, force: true }));

const silent = (command: Command) => command.exitOverride().configureOutput({ writeErr: () => undefined });
const quantize = (...words: string[]) => silent(quantizeCommand()).parseAsync(words, { from: 'user' });

describe('longlive quantize', () => {
  const good = ['package', '--out', 'small', '--precision', 'int8'];

  it.each([
    ['no package', good.slice(1)],
    ['no place', ['package', '--precision', 'int8']],
    ['no precision', ['package', '--out', 'small']],
    ['a precision that saves nothing', ['package', '--out', 'small', '--precision', 'bf16']],
    ['a text encoder in fp8', [...good, '--text-encoder', 'fp8']],
    ['half a block', [...good, '--blocks', '0.5']],
  ])('refuses %s before it does anything', async (_name, words) => {
    await expect(quantize(...words)).rejects.toSatisfy(({ code }: { code: string }) => code.startsWith('commander.'));
  });

  it('says that there is no package, and that there are no prompts', async () => {
    const words = [root, '--out', join(root, 'small'), '--precision', 'int8'];
    await expect(quantize(...words)).rejects.toMatchObject({ exitCode: EXIT.unavailable });
    writeFileSync(join(root, 'prompts'), '\n \n');
    await expect(quantize(...words, '--prompts', join(root, 'prompts'))).rejects.toMatchObject({
      exitCode: EXIT.usage,
    });
    await expect(quantize(...words, '--prompts', join(root, 'none'))).rejects.toThrow(/cannot be read/);
  });
});

describe('the loss of a quantized package', () => {
  it('is the relative error of latents and the PSNR of frames', () => {
    expect(relativeError(Float32Array.of(3, 4), Float32Array.of(3, 4.5))).toBeCloseTo(0.1);
    expect(relativeError(new Float32Array(2), new Float32Array(2))).toBe(0);
    expect(psnr(Uint8Array.of(10, 20), Uint8Array.of(10, 20))).toBe(Infinity);
    expect(psnr(Uint8Array.of(0, 0), Uint8Array.of(255, 255))).toBeCloseTo(0);
    expect(psnr(Uint8Array.of(0, 0, 0, 0), Uint8Array.of(1, 1, 1, 1))).toBeCloseTo(48.13, 2);
  });

  it('is shown beside the sizes', () => {
    const files = [
      { file: 'dit.safetensors', before: 8e6, after: 4e6 },
      { file: 'vae.safetensors', before: 2e6, after: 2e6 },
    ];
    const loss = [
      { prompt: 'a fox', latents: 0.0123, psnr: 41.26 },
      { prompt: 'a robot', latents: 0, psnr: Infinity },
    ];
    const text = table({ directory: '/models/small', precision: 'int8', files, loss });
    expect(text).toMatch(/^dit\.safetensors +8\.00 MB +4\.00 MB +x 0\.50$/m);
    expect(text).toMatch(/^all +10\.00 MB +6\.00 MB +x 0\.60$/m);
    expect(text).toMatch(/^a fox +1\.23 % +41\.3 dB$/m);
    expect(text).toMatch(/^a robot +0\.00 % +equal$/m);
    expect(text).toContain(`Next: longlive models verify --models ${relative('', '/models/small')}`);
  });
});
