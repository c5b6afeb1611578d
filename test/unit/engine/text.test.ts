import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { cleanPrompt } from '../../../src/engine/text.js';

/** Made by fixtures/make_clean_vectors.py with ftfy and Python's html module. */
const vectors = JSON.parse(readFileSync(new URL('fixtures/clean_vectors.json', import.meta.url), 'utf8')) as [
  text: string,
  cleaned: string,
][];

describe('the cleaning of prompts', () => {
  it('is the reference’s', () => {
    expect(vectors.length).toBeGreaterThan(300);
    for (const [text, cleaned] of vectors) expect(cleanPrompt(text), JSON.stringify(text)).toBe(cleaned);
  });

  it('changes most of the texts that are broken, and none that is plain', () => {
    expect(vectors.filter(([text, cleaned]) => text !== cleaned).length).toBeGreaterThan(150);
    const plain = 'A red fox <runs> through "snow"; 100% cinematic, f/1.8, 35mm {a|b} ~ `x` \\ ^_^';
    expect(cleanPrompt(`  ${plain}\n\n`)).toBe(plain);
  });

  it('leaves a stretch of other damage in a text with much of it, and mends what all of it has', () => {
    expect(cleanPrompt('a cafÃ© and a red fox')).toBe('a café and a red fox');
    const cyrillic = 'Рыжая лиса бежит по зелёной траве под ярким солнцем, а за ней летит птица.';
    expect(cleanPrompt(cyrillic)).toBe(cyrillic);
    const misread = Buffer.from('狐狸在草地上奔跑，天空中下着雨，远处有一座小桥和一条河。').toString('latin1');
    expect(cleanPrompt(misread)).toBe('狐狸在草地上奔跑,天空中下着雨,远处有一座小桥和一条河。');
  });

  it('takes the time of a text whatever it holds', () => {
    const began = process.cpuUsage();
    for (const part of ['Ã©â€™', '&', '&amp;amp;', 'Â ', 'â€', '\u001b[', '&#x1', 'ｆ', ' \t'])
      cleanPrompt(part.repeat(20_000 / part.length));
    // Damage that the library mends one character at a time.
    cleanPrompt('Â'.repeat(6_000) + '‘'.repeat(4_000));
    cleanPrompt(`${'Â'.repeat(38)}${'‘'.repeat(26)}${'a'.repeat(1_936)}`);
    const { user, system } = process.cpuUsage(began);
    expect(user + system).toBeLessThan(10_000_000);
  });
});
