/** Which words of a prompt a model was never taught, as far as its package says what it was. */

/** Told of one prompt. */
const MOST = 32;
const WORD = /[\p{L}\p{N}][\p{L}\p{M}\p{N}]*(?:['’-][\p{L}\p{M}\p{N}]+)*/gu;
/** Written without spaces between words. */
const UNSPACED =
  /([\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]+)/u;

/** What is left of 狐狸-fox and 狐狸's beside the part without spaces: a joint, which is not of the word. */
const AT_EITHER_END = /^[-'’]+|[-'’]+$/g;
const POSSESSIVE = /^['’]s$/i;

export class Vocabulary {
  private readonly words: ReadonlySet<string>;
  private readonly longest: number;

  /** Single words of any language; upper and lower case are the same. */
  constructor(words: readonly string[]) {
    this.words = new Set(words.map(folded));
    this.longest = Math.max(0, ...words.map(({ length }) => length));
  }

  /**
   * Each once and as it is written, in the order of the text, at most 32. A compound is known where its parts are; of a script
   * without spaces what remains is told when as much as possible was divided into known words.
   */
  unknown(text: string): string[] {
    const found = new Map<string, string>();
    for (const [word] of text.matchAll(WORD)) {
      for (const strange of word.split(UNSPACED).flatMap((part) => this.strangers(part))) {
        if (!found.has(folded(strange))) found.set(folded(strange), strange);
        if (found.size === MOST) return [...found.values()];
      }
    }
    return [...found.values()];
  }

  private strangers(part: string): string[] {
    if (UNSPACED.test(part)) return this.remainders(part);
    const word = part.replace(POSSESSIVE, '').replace(AT_EITHER_END, '');
    return word === '' || this.knows(word) ? [] : [word];
  }

  private knows(word: string): boolean {
    const has = (piece: string) => this.words.has(folded(piece));
    return has(word) || has(word.replace(/['’]s$/i, '')) || (word.includes('-') && word.split('-').every(has));
  }

  /** The stretches that are no known word, of the division that leaves the fewest characters. */
  private remainders(run: string): string[] {
    const characters = [...run];
    /** From a place to the end: characters that are left over, and where the next piece begins. */
    const best = new Array<{ left: number; next: number; known: boolean }>(characters.length + 1);
    best[characters.length] = { left: 0, next: characters.length, known: true };
    for (let at = characters.length - 1; at >= 0; at--) {
      const after = (next: number) => best[next]?.left ?? 0;
      let choice = { left: 1 + after(at + 1), next: at + 1, known: false };
      for (let next = at + 1; next <= Math.min(characters.length, at + this.longest); next++) {
        if (after(next) < choice.left && this.words.has(folded(characters.slice(at, next).join(''))))
          choice = { left: after(next), next, known: true };
      }
      best[at] = choice;
    }
    const stretches: string[] = [];
    let stretch = '';
    for (let at = 0; at < characters.length; at = best[at]?.next ?? characters.length) {
      if (best[at]?.known && stretch !== '') stretches.push(stretch);
      stretch = best[at]?.known ? '' : stretch + characters[at];
    }
    return stretch === '' ? stretches : [...stretches, stretch];
  }
}

function folded(word: string): string {
  return word.normalize('NFKC').toLowerCase().replaceAll('’', "'");
}
