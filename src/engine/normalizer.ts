/**
 * What a tokenizer does to a text before it cuts it: the `normalizer` of tokenizer.json. The one that matters is
 * `Precompiled`, SentencePiece's table of characters and what stands for them, kept as a double-array trie; it is applied
 * exactly as the Hugging Face library applies it, whose ids the text encoders were used with.
 */

import { z } from 'zod';

type Definition =
  | { type: 'Precompiled'; precompiled_charsmap: string }
  | { type: 'Lowercase' }
  | { type: 'Strip'; strip_left: boolean; strip_right: boolean }
  | { type: 'Replace'; pattern: { String: string } | { Regex: ' {2,}' }; content: string }
  | { type: 'Sequence'; normalizers: Definition[] };

/** Sequences within sequences; files in use have one. */
const DEEPEST = 4;

export const normalizerSchema: z.ZodType<Definition> = schemaOf(DEEPEST);

function schemaOf(depth: number): z.ZodType<Definition> {
  return z.discriminatedUnion('type', [
    z.object({ type: z.literal('Precompiled'), precompiled_charsmap: z.base64() }),
    z.object({ type: z.literal('Lowercase') }),
    z.object({ type: z.literal('Strip'), strip_left: z.boolean(), strip_right: z.boolean() }),
    z.object({
      type: z.literal('Replace'),
      pattern: z.union([
        z.strictObject({ String: z.string().min(1) }),
        // Regular expressions of a stranger are not run; this is the one that T5 has.
        z.strictObject({ Regex: z.literal(' {2,}') }),
      ]),
      content: z.string().max(64),
    }),
    z.object({
      type: z.literal('Sequence'),
      normalizers: z.array(depth === 0 ? z.never() : schemaOf(depth - 1)).max(16),
    }),
  ]);
}

export type Normalize = (text: string) => string;

/** Of what a text may become; the longest prompt, of characters that stand for eighteen others. */
const MOST_CHARACTERS = 40_000;

/** Throws an Error that names what is damaged. */
export function normalizerOf(definition: Definition | null): Normalize {
  const normalize = normalizing(definition);
  return (text) => bounded(normalize(text));
}

function normalizing(definition: Definition | null): Normalize {
  if (!definition) return (text) => text;
  switch (definition.type) {
    case 'Precompiled': {
      const table = new CharacterTable(Buffer.from(definition.precompiled_charsmap, 'base64'));
      return (text) => table.normalize(text);
    }
    case 'Lowercase': // of each character alone: a sigma at the end of a word is one like any other
      return (text) => Array.from(text, (character) => character.toLowerCase()).join('');
    case 'Strip':
      return (text) => strip(text, definition.strip_left, definition.strip_right);
    case 'Replace': {
      const { pattern, content } = definition;
      return (text) => text.replaceAll('String' in pattern ? pattern.String : / {2,}/g, () => content);
    }
    case 'Sequence': {
      const steps = definition.normalizers.map(normalizing);
      return (text) => steps.reduce((before, step) => bounded(step(before)), text);
    }
  }
}

function bounded(text: string): string {
  if (text.length <= MOST_CHARACTERS) return text;
  const made = `the normalizer of tokenizer.json makes ${text.length} characters of it, more than ${MOST_CHARACTERS}`;
  throw new Error(
    `The prompt cannot be read: ${made}. Take a tokenizer.json from where the package comes from, or another package.`,
  );
}

/** White_Space of Unicode. */
const WHITE_SPACE = '[\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]+';
const LEADING = new RegExp(`^${WHITE_SPACE}`);
const TRAILING = new RegExp(`${WHITE_SPACE}$`);

function strip(text: string, left: boolean, right: boolean): string {
  const began = left ? text.replace(LEADING, '') : text;
  return right ? began.replace(TRAILING, '') : began;
}

/** Words of a text, without the white space between them. */
export function splitWhiteSpace(text: string): string[] {
  return text.split(new RegExp(WHITE_SPACE)).filter((word) => word !== '');
}

/** Clusters of more bytes are looked up character by character. */
const LONGEST_CLUSTER = 5;

const LEAF = 1 << 8;
const LABEL = 0x800000ff;
const VALUE = 0x7fffffff;

class CharacterTable {
  private readonly units: Uint32Array;
  private readonly texts: Uint8Array;
  private readonly clusters = new Intl.Segmenter('und', { granularity: 'grapheme' });

  /** Length of the trie, its units, then what they lead to, each text ended by a zero. */
  constructor(bytes: Buffer) {
    const length = bytes.length >= 4 ? bytes.readUInt32LE(0) : 0;
    if (length === 0 || length % 4 !== 0 || length > bytes.length - 4) {
      throw new Error('tokenizer.json has a damaged precompiled_charsmap.');
    }
    this.units = Uint32Array.from({ length: length / 4 }, (_, i) => bytes.readUInt32LE(4 + 4 * i));
    this.texts = bytes.subarray(4 + length);
  }

  normalize(text: string): string {
    let normalized = '';
    for (const { segment } of this.clusters.segment(text)) {
      const bytes = Buffer.from(segment);
      const whole = bytes.length <= LONGEST_CLUSTER ? this.lookUp(bytes) : undefined;
      normalized +=
        whole ?? Array.from(segment, (character) => this.lookUp(Buffer.from(character)) ?? character).join('');
    }
    return normalized;
  }

  /** What stands for the shortest known beginning of these bytes. */
  private lookUp(bytes: Uint8Array): string | undefined {
    let at = offset(this.unit(0));
    for (const byte of bytes) {
      if (byte === 0) return undefined;
      at ^= byte;
      const unit = this.unit(at);
      if ((unit & LABEL) >>> 0 !== byte) return undefined;
      at ^= offset(unit);
      if (unit & LEAF) return this.textAt(this.unit(at) & VALUE);
    }
    return undefined;
  }

  /** Beyond the end of a damaged table is a unit that no byte matches. */
  private unit(at: number): number {
    return this.units[at] ?? LABEL;
  }

  private textAt(from: number): string {
    const end = this.texts.indexOf(0, from);
    return Buffer.from(this.texts.subarray(from, end < 0 ? undefined : end)).toString('utf8');
  }
}

function offset(unit: number): number {
  return (unit >>> 10) << ((unit & (1 << 9)) >>> 6);
}
