import type { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { exportCommand } from '../../../src/cli/export.js';
import { generateCommand } from '../../../src/cli/generate.js';
import { importCommand, loraOf } from '../../../src/cli/import.js';
import { modelsCommand } from '../../../src/cli/models.js';
import { numberWithin, wholeNumber } from '../../../src/cli/numbers.js';
import { quantizeCommand } from '../../../src/cli/quantize.js';

const NOT_NUMBERS = [
  '',
  ' ',
  '0x10',
  '1_000',
  'Infinity',
  'NaN',
  '1e999',
  '1,5',
  '1 ',
  '.',
  '5s',
  '١',
  `${'9'.repeat(400)}`,
];

describe('a number of a flag', () => {
  it.each(NOT_NUMBERS)('is not read from %j', (text) => {
    expect(() => numberWithin({ least: -1e9, most: 1e9 })(text)).toThrow(/Expected a number from -1000000000 to/);
  });

  it('is read as people write it, within its limits', () => {
    const read = numberWithin({ least: -2, most: 100 });
    expect(['1', '0.5', '.5', '2.', '-1', '+3', '1e2', '1E-2'].map(read)).toEqual([1, 0.5, 0.5, 2, -1, 3, 100, 0.01]);
    for (const text of ['-2.1', '100.5', '1e3']) expect(() => read(text)).toThrow('Expected a number from -2 to 100.');
    for (const text of ['0', '1.5', '4'])
      expect(() => wholeNumber(1, 3)(text)).toThrow('Expected a whole number from 1 to 3.');
  });

  const commands: [string, () => Command, string[]][] = [
    ['generate --seconds', generateCommand, ['--prompt', 'a fox', '--out', 'x.mp4', '--seconds']],
    ['generate --seed', generateCommand, ['--prompt', 'a fox', '--out', 'x.mp4', '--seed']],
    ['export --from', exportCommand, ['id', '--out', 'x.mp4', '--from']],
    ['export --to', exportCommand, ['id', '--out', 'x.mp4', '--to']],
    ['import --heads', importCommand, ['source', '--out', 'x', '--heads']],
    ['import --text-length', importCommand, ['source', '--out', 'x', '--text-length']],
    ['import --lora-alpha', importCommand, ['source', '--out', 'x', '--lora-alpha']],
    ['quantize --blocks', quantizeCommand, ['package', '--out', 'x', '--precision', 'int8', '--blocks']],
    ['models verify --blocks', modelsCommand, ['verify', 'name', '--blocks']],
  ];
  it.each(commands)('is refused with its flag by longlive %s', async (name, command, words) => {
    for (const text of [...NOT_NUMBERS, '99999999999999999999999']) {
      let said = '';
      const quiet = (each: Command): Command => {
        each.commands.forEach(quiet);
        return each.exitOverride().configureOutput({ writeErr: (line) => (said += line) });
      };
      await expect(quiet(command()).parseAsync([...words, text], { from: 'user' })).rejects.toMatchObject({
        code: 'commander.invalidArgument',
      });
      expect(said).toContain(name.split(' ').at(-1));
      expect(said).toMatch(/Expected a (?:whole )?number from/);
    }
  });

  it('stands behind the last colon of an adapter', () => {
    const of = (text: string) => loraOf(text, [])[0];
    expect(of('a.safetensors')).toEqual({ path: 'a.safetensors', weight: 1 });
    expect(of('a.safetensors:.5')).toEqual({ path: 'a.safetensors', weight: 0.5 });
    expect(of('a.safetensors:1e-1')).toEqual({ path: 'a.safetensors', weight: 0.1 });
    expect(of('s3:a.safetensors')).toEqual({ path: 's3:a.safetensors', weight: 1 });
    for (const text of ['a.safetensors:1.2.3', 'a.safetensors:1e400', 'a.safetensors:1e9']) {
      expect(() => of(text)).toThrow('Expected a number from -100 to 100.');
    }
  });
});
