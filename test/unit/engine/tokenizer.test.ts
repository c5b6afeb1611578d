import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { simplified } from '../../../src/engine/text.js';
import { Tokenizer } from '../../../src/engine/tokenizer.js';

interface Vector {
  text: string;
  ids: number[];
}

/** Made with the Hugging Face `tokenizers` library: texts before cleaning, which repaired nothing, and ids with the end token. */
const fixture = (name: string) => readFileSync(new URL(`fixtures/${name}`, import.meta.url), 'utf8');
const json = fixture('tokenizer.json');
const tokenizer = Tokenizer.parse(json);

describe('the tokenizer', () => {
  it.each(JSON.parse(fixture('vectors.json')) as Vector[])('gives the reference ids of $text', ({ text, ids }) => {
    expect([...tokenizer.encode(simplified(text), 10_000)]).toEqual(ids);
  });

  it('cuts long texts so that the end token still ends them', () => {
    const whole = [...tokenizer.encode('a red fox '.repeat(50).trim(), 10_000)];
    const cut = [...tokenizer.encode('a red fox '.repeat(50).trim(), 16)];
    expect(cut).toEqual([...whole.slice(0, 15), 1]);
  });

  it('cuts where the file says, even when the model could take more', () => {
    const definition = JSON.parse(json) as object;
    const with12 = (direction: string) =>
      Tokenizer.parse(
        JSON.stringify({
          ...definition,
          truncation: { direction, max_length: 12, strategy: 'LongestFirst', stride: 0 },
        }),
      );
    const whole = [...tokenizer.encode('a red fox '.repeat(50).trim(), 10_000)];
    expect([...with12('Right').encode('a red fox '.repeat(50).trim(), 10_000)]).toEqual([...whole.slice(0, 11), 1]);
    expect(with12('Right').encode('a red fox '.repeat(50).trim(), 8)).toHaveLength(8);
    expect([...with12('Right').encode('a red fox', 10_000)]).toEqual([...tokenizer.encode('a red fox', 10_000)]);
    expect(() => with12('Left')).toThrow(/truncation/);
  });

  it('never makes a reserved piece of text that spells one', () => {
    expect([...tokenizer.encode('<pad></s><0x41>', 100)].slice(0, -1).every((id) => id > 2)).toBe(true);
  });

  it('refuses what it would get wrong, by name', () => {
    const definition = JSON.parse(json) as { normalizer: unknown; model: { type: string } };
    const other = (change: object) => JSON.stringify({ ...definition, ...change });
    expect(() => Tokenizer.parse(other({ normalizer: { type: 'NFKC' } }))).toThrow(/normalizer/);
    expect(() => Tokenizer.parse(other({ model: { ...definition.model, type: 'BPE' } }))).toThrow(/model/);
  });

  it('refuses what would make much of little: rules within rules, long texts for short ones, long pieces', () => {
    const definition = JSON.parse(json) as { model: { vocab: [string, number][] } };
    const other = (change: object) => Tokenizer.parse(JSON.stringify({ ...definition, ...change }));
    const replace = (content: string) => ({ type: 'Replace', pattern: { String: 'a' }, content });
    const sequence = (...normalizers: object[]) => ({ type: 'Sequence', normalizers });
    expect(() => other({ normalizer: replace('a'.repeat(65)) })).toThrow(/normalizer/);
    let nested = sequence();
    for (let depth = 0; depth < 20_000; depth++) nested = sequence(nested);
    expect(() => other({ normalizer: nested })).toThrow();
    const vocab = [...definition.model.vocab, ['x'.repeat(257), -1]];
    expect(() => other({ model: { ...definition.model, vocab } })).toThrow(/vocab/);
    const growing = other({ normalizer: sequence(...Array.from({ length: 16 }, () => replace('a'.repeat(64)))) });
    expect(() => growing.encode('aaa fox', 100)).toThrow(
      /^The prompt cannot be read: the normalizer of tokenizer.json makes \d+ characters/,
    );
    expect(growing.encode('fox', 100).length).toBeGreaterThan(0);
  });
});

describe('the tokenizer of a shipped package', () => {
  const golden = new URL('../../golden-tokenizer/', import.meta.url);
  const names = existsSync(golden) ? readdirSync(golden).map((file) => file.replace(/\.json$/, '')) : [];

  it.each(names)('%s gives the ids it was trained with', (name) => {
    const definition = readFileSync(new URL(`../../../models/${name}/tokenizer.json`, import.meta.url), 'utf8');
    const shipped = Tokenizer.parse(definition);
    const vectors = JSON.parse(readFileSync(new URL(`${name}.json`, golden), 'utf8')) as Vector[];
    for (const { text, ids } of vectors) expect([...shipped.encode(simplified(text), 10_000)]).toEqual(ids);
  });
});
