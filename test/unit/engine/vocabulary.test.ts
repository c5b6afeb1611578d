import { describe, expect, it } from 'vitest';
import { Vocabulary } from '../../../src/engine/vocabulary.js';

const english = new Vocabulary([
  'a',
  'the',
  'fox',
  'red',
  'runs',
  'on',
  'snow',
  'covered',
  'Grass',
  'long-necked',
  'o’clock',
]);

describe('Vocabulary', () => {
  it('names what was never taught, once, as it is written and in the order of the text', () => {
    expect(english.unknown('A cat plays Piano, a red FOX runs; the cat on the piano.')).toEqual([
      'cat',
      'plays',
      'Piano',
    ]);
    expect(english.unknown('the fox runs on the grass')).toEqual([]);
    expect(english.unknown('')).toEqual([]);
    expect(english.unknown('... --- !!! ’')).toEqual([]);
  });

  it('knows a compound by its parts, and a possessive by its owner', () => {
    expect(english.unknown('snow-covered grass, long-necked fox, snow-blind fox')).toEqual(['snow-blind']);
    expect(english.unknown("the fox's grass, the fox’s snow, the cat's")).toEqual(["cat's"]);
    expect(english.unknown("on the o'clock")).toEqual([]);
    expect(english.unknown('necked')).toEqual(['necked']);
  });

  it('takes letters of any kind: accents composed or not, full width, numbers', () => {
    const german = new Vocabulary(['grün', 'über', '4k']);
    expect(german.unknown('GRU\u0308N über ４Ｋ groß 12')).toEqual(['groß', '12']);
  });

  it('divides what is written without spaces into known words', () => {
    const chinese = new Vocabulary(['红色', '红', '狐狸', '在', '草地', '草地上', '跑']);
    expect(chinese.unknown('红色狐狸在草地上跑')).toEqual([]);
    expect(chinese.unknown('红色小猫在草地上弹钢琴')).toEqual(['小猫', '弹钢琴']);
    expect(chinese.unknown('AI狐狸 fox')).toEqual(['AI', 'fox']);
    expect(chinese.unknown('狐狸-fox, AI-狐狸, 狐狸’s, wolf’s-狐狸')).toEqual(['fox', 'AI', 'wolf’s']);
    // The longest word first would leave a character over.
    expect(new Vocabulary(['ก', 'กข', 'ขค']).unknown('กขค')).toEqual([]);
  });

  it('names at most 32, however long the text is, in a time that does not grow with its square', () => {
    const many = Array.from({ length: 2_000 }, (_, index) => `w${index}`).join(' ');
    expect(english.unknown(many)).toHaveLength(32);
    expect(new Vocabulary(['x'.repeat(64)]).unknown('字'.repeat(2_000))).toEqual(['字'.repeat(2_000)]);
  });
});
