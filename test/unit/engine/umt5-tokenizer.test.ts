import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { convertSentencePiece } from '../../../src/import/sentencepiece.js';
import { Tokenizer } from '../../../src/engine/tokenizer.js';

interface Vector {
  text: string;
  /** With the normaliser and pre-tokenizer that newer files have, and with those of older ones. */
  ids: number[];
  classic: number[];
}

interface Definition {
  normalizer: { normalizers: { precompiled_charsmap?: string }[] };
  pre_tokenizer: object;
}

/** Made by fixtures/make_umt5_like.py with the reference libraries. */
const fixture = (name: string) => readFileSync(new URL(`fixtures/${name}`, import.meta.url));
const vectors = JSON.parse(fixture('umt5_like_vectors.json').toString()) as Vector[];
const definition = convertSentencePiece(fixture('umt5_like.model')) as Definition;
const json = JSON.stringify(definition);
const changed = (change: object) => JSON.stringify({ ...definition, ...change });

describe('a tokenizer of umT5’s kind', () => {
  const modern = Tokenizer.parse(json);
  const [precompiled, strip, replace] = definition.normalizer.normalizers;
  const classic = Tokenizer.parse(
    changed({
      normalizer: { type: 'Sequence', normalizers: [precompiled, strip, { ...replace, content: ' ' }] },
      pre_tokenizer: {
        type: 'Sequence',
        pretokenizers: [{ type: 'WhitespaceSplit' }, { type: 'Metaspace', replacement: '▁', add_prefix_space: true }],
      },
    }),
  );

  it.each(vectors)('gives the reference ids of $text', ({ text, ids, classic: older }) => {
    expect([...modern.encode(text, 10_000)]).toEqual(ids);
    expect([...classic.encode(text, 10_000)]).toEqual(older);
  });

  it('is what the reference library makes of its SentencePiece model', () => {
    const expected = JSON.parse(fixture('umt5_like.json').toString()) as Definition;
    const [map] = expected.normalizer.normalizers;
    expect(map).toEqual({ type: 'Precompiled', precompiled_charsmap: '' });
    Object.assign(map as object, precompiled);
    expect(definition).toEqual(expected);
    expect(precompiled?.precompiled_charsmap?.length).toBeGreaterThan(100_000);
  });

  it('needs its character map', () => {
    const without = Tokenizer.parse(changed({ normalizer: null }));
    const differing = vectors.filter(({ text, ids }) => [...without.encode(text, 10_000)].join() !== ids.join());
    expect(differing.length).toBeGreaterThan(5);
  });

  it('refuses a damaged character map and expressions it does not know', () => {
    const map = (bytes: Buffer) =>
      changed({ normalizer: { type: 'Precompiled', precompiled_charsmap: bytes.toString('base64') } });
    expect(() => Tokenizer.parse(map(Buffer.alloc(0)))).toThrow(/damaged/);
    expect(() => Tokenizer.parse(map(Buffer.from([255, 255, 0, 0])))).toThrow(/damaged/);
    expect(() => Tokenizer.parse(changed({ normalizer: { ...replace, pattern: { Regex: '(a+)+$' } } }))).toThrow(
      /normalizer/,
    );
  });

  it('survives any character map', () => {
    const table = Buffer.alloc(4 + 1024 + 16);
    table.writeUInt32LE(1024);
    for (let seed = 1; seed <= 200; seed++) {
      let state = seed;
      for (let i = 4; i < table.length; i++) table[i] = (state = (state * 48271) % 0x7fffffff) & 255;
      const normalizer = { type: 'Precompiled', precompiled_charsmap: table.toString('base64') };
      expect(Tokenizer.parse(changed({ normalizer })).encode('a fox 狐 ｶﾞ', 64).length).toBeGreaterThan(0);
    }
  });
});
