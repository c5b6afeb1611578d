/**
 * The text tokenizer of a model package: Hugging Face `tokenizer.json` with a Unigram model, byte fallback and Metaspace,
 * as SentencePiece models become. The text is normalised (normalizer.ts), then cut.
 * A text is cut into the pieces whose scores add up to the most (Viterbi); what no piece covers becomes UTF-8 bytes.
 * Reserved pieces spelt out in a prompt are text like any other.
 */

import { z } from 'zod';
import { printed } from '../files/printable.js';
import { problemsOf } from '../files/schema-problems.js';
import { type Normalize, normalizerOf, normalizerSchema, splitWhiteSpace } from './normalizer.js';

/** `add_prefix_space` is what older files say instead of `prepend_scheme`. */
const metaspaceSchema = z.object({
  type: z.literal('Metaspace'),
  replacement: z.string().default('▁'),
  add_prefix_space: z.boolean().default(true),
  prepend_scheme: z.enum(['always', 'first', 'never']).optional(),
  split: z.boolean().default(true),
});

/** As T5 had it: words first. */
const wordsSchema = z.object({
  type: z.literal('Sequence'),
  pretokenizers: z.tuple([z.object({ type: z.literal('WhitespaceSplit') }), metaspaceSchema]),
});

/** Of a vocabulary; every place of a text is tried with pieces of every length. */
const LONGEST_PIECE = 256;

/** Longer texts are cut, for every use of the package. */
const truncationSchema = z.object({
  direction: z.literal('Right'),
  max_length: z.number().int().positive(),
});

const schema = z.object({
  truncation: truncationSchema.nullish(),
  normalizer: normalizerSchema.nullable(),
  pre_tokenizer: z.discriminatedUnion('type', [metaspaceSchema, wordsSchema]),
  post_processor: z.object({
    type: z.literal('TemplateProcessing'),
    single: z.array(
      z.union([
        z.object({ Sequence: z.object({ id: z.literal('A') }) }),
        z.object({ SpecialToken: z.object({ id: z.string() }) }),
      ]),
    ),
    special_tokens: z.record(z.string(), z.object({ ids: z.array(z.number().int()) })),
  }),
  model: z.object({
    type: z.literal('Unigram'),
    unk_id: z.number().int(),
    vocab: z.array(z.tuple([z.string().max(LONGEST_PIECE), z.number()])).min(1),
    byte_fallback: z.boolean().default(false),
  }),
});

type Definition = z.infer<typeof schema>;

interface Piece {
  id: number;
  score: number;
}

/** Best way to cut a text up to some position. */
interface Cut {
  from: number;
  id: number;
  score: number;
}

/** With or without a mark of byte order. */
function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text.replace(/^\ufeff/, ''));
  } catch (error) {
    throw new Error(
      printed`tokenizer.json is not JSON: ${error instanceof Error ? error.message : ''}. Download it again.`,
    );
  }
}

/** How much worse than the worst piece an unknown character is. */
const UNKNOWN_PENALTY = 10;

export class Tokenizer {
  private readonly pieces = new Map<string, Piece>();
  private readonly longest: number;
  private readonly unknownScore: number;
  private readonly before: number[];
  private readonly after: number[];
  private readonly normalize: Normalize;

  private constructor(private readonly definition: Definition) {
    const { vocab } = definition.model;
    this.normalize = normalizerOf(definition.normalizer);
    // As in the original, a piece that occurs twice has the id and score of its last occurrence.
    vocab.forEach(([piece, score], id) => this.pieces.set(piece, { id, score }));
    this.longest = vocab.reduce((most, [piece]) => Math.max(most, piece.length), 0);
    this.unknownScore = vocab.reduce((least, [, score]) => Math.min(least, score), Infinity) - UNKNOWN_PENALTY;
    const text = definition.post_processor.single.findIndex((part) => 'Sequence' in part);
    this.before = this.specials(0, text);
    this.after = this.specials(text + 1);
  }

  /** Throws an Error that names what this tokenizer cannot do. */
  static parse(json: string): Tokenizer {
    const value = jsonOf(json);
    const parsed = schema.safeParse(value);
    if (parsed.success) return new Tokenizer(parsed.data);
    throw new Error(
      `tokenizer.json is not supported: ${problemsOf(parsed.error, value)}. Take that of umT5, a Unigram model with Metaspace.`,
    );
  }

  /** Ids of a text with its special tokens; cut so that these still end it when longer than `limit` or than the file allows. */
  encode(text: string, limit: number): Int32Array {
    const ids = this.words(this.normalize(text)).flatMap((word) => this.cut(word));
    const most = Math.min(limit, this.definition.truncation?.max_length ?? limit);
    const room = Math.max(0, most - this.before.length - this.after.length);
    return Int32Array.from([...this.before, ...ids.slice(0, room), ...this.after]);
  }

  private specials(from: number, to?: number): number[] {
    const { single, special_tokens } = this.definition.post_processor;
    return single.slice(from, to).flatMap((part) => {
      if (!('SpecialToken' in part)) return [];
      return special_tokens[part.SpecialToken.id]?.ids ?? [];
    });
  }

  private words(text: string): string[] {
    const { pre_tokenizer: rule } = this.definition;
    if (rule.type === 'Metaspace') return metaspace(text, rule);
    return splitWhiteSpace(text).flatMap((word) => metaspace(word, rule.pretokenizers[1]));
  }

  private cut(word: string): number[] {
    const best = this.bestCuts(word);
    const { unk_id: unknown } = this.definition.model;
    const ids: number[][] = [];
    for (let to = word.length; to > 0;) {
      let { from, id } = best[to] as Cut;
      // Neighbouring unknown characters are one unknown piece.
      while (id === unknown && from > 0 && best[from]?.id === unknown) ({ from, id } = best[from] as Cut);
      ids.push(id === unknown ? this.bytes(word.slice(from, to)) : [id]);
      to = from;
    }
    return ids.reverse().flat();
  }

  private bestCuts(word: string): (Cut | undefined)[] {
    const best = new Array<Cut | undefined>(word.length + 1);
    best[0] = { from: 0, id: -1, score: 0 };
    for (let from = 0; from < word.length;) {
      const start = (best[from] as Cut).score;
      const next = from + characterLength(word, from);
      let known = false;
      for (let to = next; to <= Math.min(word.length, from + this.longest); to++) {
        const piece = this.pieces.get(word.slice(from, to));
        if (!piece) continue;
        improve(best, to, { from, id: piece.id, score: start + piece.score });
        known ||= to === next;
      }
      if (!known) {
        improve(best, next, { from, id: this.definition.model.unk_id, score: start + this.unknownScore });
      }
      from = next;
    }
    return best;
  }

  private bytes(text: string): number[] {
    const { unk_id: unknown, byte_fallback: fallback } = this.definition.model;
    if (!fallback) return [unknown];
    const ids = Array.from(new TextEncoder().encode(text), (byte) => this.pieces.get(byteName(byte))?.id);
    return ids.every((id) => id !== undefined) ? ids : [unknown];
  }
}

/** Spaces become visible, and words begin with one. */
function metaspace(text: string, rule: z.infer<typeof metaspaceSchema>): string[] {
  const { replacement, add_prefix_space: prefix, split } = rule;
  const scheme = rule.prepend_scheme ?? (prefix ? 'always' : 'never');
  if (text === '') return [];
  let marked = text.replaceAll(' ', replacement);
  if (scheme !== 'never' && !marked.startsWith(replacement)) marked = replacement + marked;
  if (!split) return [marked];
  const words = marked.split(replacement).map((word, i) => (i === 0 ? word : replacement + word));
  return words.filter((word) => word !== '');
}

function improve(best: (Cut | undefined)[], to: number, cut: Cut): void {
  const known = best[to];
  if (!known || cut.score > known.score) best[to] = cut;
}

function characterLength(text: string, at: number): number {
  return (text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1;
}

function byteName(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;
}
