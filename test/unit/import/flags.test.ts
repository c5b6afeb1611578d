import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EXIT, explain } from '../../../src/cli/failure.js';
import { importCommand, optionsOf } from '../../../src/cli/import.js';

/** What the flags of a command line become. */
function parse(...words: string[]): ReturnType<typeof optionsOf> {
  let options: ReturnType<typeof optionsOf> | undefined;
  const command = importCommand()
    .exitOverride()
    .configureOutput({ writeErr: () => undefined })
    .action((sources: string[], flags: Parameters<typeof optionsOf>[1]) => {
      options = optionsOf(sources, flags);
    });
  command.parse(words, { from: 'user' });
  return options as ReturnType<typeof optionsOf>;
}

describe('the flags of longlive import', () => {
  it('have defaults', () => {
    const { sources, out, precision, loras, hints, ...rest } = parse('a.pt', 'b', '--out', 'models/x');
    expect({ sources, out, precision, loras, hints }).toEqual({
      ...{ sources: ['a.pt', 'b'], out: 'models/x', precision: 'bf16', loras: [], hints: {} },
    });
    expect(Object.keys(rest).sort()).toEqual(['addProduct', 'checkTokenizer', 'ema']);
    expect(rest.ema).toBeUndefined();
  });

  it('say everything that an import can be told', () => {
    const options = parse(
      ...['base.pt', '--out', 'm', '--precision', 'fp8', '--text-encoder', 'int8', '--ema'],
      ...[
        '--lora',
        'lora.pt',
        '--lora',
        'C:/my:styles/ink.safetensors:0.75',
        '--lora',
        'less.pt:-1',
        '--lora-alpha',
        '64',
      ],
      ...['--tokenizer', 'spiece.model', '--name', 'n', '--title', 'T', '--license', 'L', '--heads', '12'],
      ...['--text-length', '226'],
    );
    expect(options).toMatchObject({
      ...{ precision: 'fp8', textEncoder: 'int8', ema: true, tokenizer: 'spiece.model' },
      ...{ name: 'n', title: 'T', license: 'L', hints: { numHeads: 12, textLen: 226 } },
      loras: [
        { path: 'lora.pt', weight: 1, alpha: 64 },
        { path: 'C:/my:styles/ink.safetensors', weight: 0.75, alpha: 64 },
        { path: 'less.pt', weight: -1, alpha: 64 },
      ],
    });
  });

  it('take a file whose name ends like a weight for what it is', () => {
    const root = mkdtempSync(join(tmpdir(), 'longlive-flags-'));
    try {
      writeFileSync(join(root, 'style:2'), '');
      const [file, both] = [join(root, 'style:2'), `${join(root, 'style:2')}:0.5`];
      expect(parse('a.pt', '--out', 'm', '--lora', file, '--lora', both).loras).toEqual([
        { path: file, weight: 1 },
        { path: file, weight: 0.5 },
      ]);
    } finally {
      rmSync(root, { recursive: true, force: true });
    }
  });

  it.each([
    ['no source', ['--out', 'm']],
    ['no place to go', ['a.pt']],
    ['an unknown precision', ['a.pt', '--out', 'm', '--precision', 'int4']],
    ['a text encoder in fp8', ['a.pt', '--out', 'm', '--text-encoder', 'fp8']],
    ['an adapter without a file', ['a.pt', '--out', 'm', '--lora', '']],
    ['an alpha of nothing', ['a.pt', '--out', 'm', '--lora-alpha', '0']],
    ['half a head', ['a.pt', '--out', 'm', '--heads', '1.5']],
    ['an unknown flag', ['a.pt', '--out', 'm', '--speed', 'high']],
  ])('refuse %s', (_what, words) => {
    expect(() => parse(...words)).toThrow(
      expect.objectContaining({ code: expect.stringMatching(/^commander\./) as string }),
    );
  });
});

describe('longlive import', () => {
  let root: string;
  beforeEach(() => (root = mkdtempSync(join(tmpdir(), 'longlive-flags-'))));
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  it('ends with a sentence and a code of its own when there is nothing to import', async () => {
    const error = await importCommand()
      .parseAsync([root, '--out', join(root, 'm')], { from: 'user' })
      .catch((reason: unknown) => reason);
    expect(explain(error)).toEqual({
      exitCode: EXIT.unavailable,
      message: expect.stringMatching(/tokenizer|lack/) as string,
    });
  });
});
