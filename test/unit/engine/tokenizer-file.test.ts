import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readTokenizer } from '../../../src/engine/tokenizer-file.js';

const GOOD = readFileSync(fileURLToPath(new URL('./fixtures/tokenizer.json', import.meta.url)), 'utf8');

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'longlive-tokenizer-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

describe('the tokenizer of a package', () => {
  const CHECK = 'To check it: longlive models verify mine --files';

  it('is told to be missing, with what to do and without the place', async () => {
    await expect(readTokenizer('mine', root)).rejects.toMatchObject({
      code: 'MODEL_UNAVAILABLE',
      message: `The model package mine is damaged: tokenizer.json is missing. ${CHECK}`,
    });
  });

  it.each([
    ['{', /^The model package mine is damaged: tokenizer\.json is not JSON: .*\. Download it again\. To check it: /],
    [
      JSON.stringify({ model: { type: 'BPE' } }),
      /tokenizer\.json is not supported: model\.type is "BPE", but must be "Unigram"; .*\. Take that of umT5, a Unigram model with Metaspace\. To check/,
    ],
  ])('is told to be of no use: %s', async (json, message) => {
    writeFileSync(join(root, 'tokenizer.json'), json);
    await expect(readTokenizer('mine', root)).rejects.toThrow(message);
  });

  it('may begin with a mark of byte order', async () => {
    writeFileSync(join(root, 'tokenizer.json'), `\ufeff${GOOD}`);
    expect((await readTokenizer('mine', root)).encode('fox', 16).length).toBeGreaterThan(1);
  });
});
