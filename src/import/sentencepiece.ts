/**
 * A SentencePiece model (`spiece.model`, a protobuf) as the tokenizer.json that the Hugging Face converter for T5 makes of it.
 * Only Unigram models are: that is what umT5 has.
 */

import { printed } from '../files/printable.js';
import { BinaryReader } from '@bufbuild/protobuf/wire';
import { ImportError } from './errors.js';
import { MOST_PIECES } from './limits.js';

const UNIGRAM = 1;
const UNKNOWN = 2;
const SPACE = '▁';

interface Piece {
  text: string;
  score: number;
  type: number;
}

interface Model {
  pieces: Piece[];
  modelType: number;
  byteFallback: boolean;
  spaceBehind: boolean;
  endPiece: string;
  characterMap: Uint8Array;
  spaceInFront: boolean;
  spacesEscaped: boolean;
}

/** The tokenizer.json, as an object. */
export function convertSentencePiece(bytes: Uint8Array): object {
  const model = readModel(bytes);
  check(model);
  const unknown = model.pieces.findIndex(({ type }) => type === UNKNOWN);
  const end = model.pieces.findIndex(({ text }) => text === model.endPiece);
  if (unknown < 0 || end < 0) throw new ImportError('The SentencePiece model has no unknown or no end piece.');
  return {
    ...{ version: '1.0', truncation: null, padding: null, added_tokens: [] },
    normalizer: normalizer(model),
    pre_tokenizer: {
      ...{ type: 'Metaspace', replacement: SPACE },
      ...{ prepend_scheme: model.spaceInFront ? 'always' : 'never', split: true },
    },
    post_processor: ending(model.endPiece, end),
    decoder: null,
    model: {
      ...{ type: 'Unigram', unk_id: unknown },
      vocab: model.pieces.map(({ text, score }) => [text, score]),
      byte_fallback: model.byteFallback,
    },
  };
}

function normalizer({ characterMap }: Model): object {
  const map = { type: 'Precompiled', precompiled_charsmap: Buffer.from(characterMap).toString('base64') };
  const spaces = [
    { type: 'Strip', strip_left: false, strip_right: true },
    { type: 'Replace', pattern: { Regex: ' {2,}' }, content: SPACE },
  ];
  return { type: 'Sequence', normalizers: characterMap.length > 0 ? [map, ...spaces] : spaces };
}

function ending(piece: string, id: number): object {
  const text = (name: string) => ({ Sequence: { id: name, type_id: 0 } });
  const end = { SpecialToken: { id: piece, type_id: 0 } };
  return {
    type: 'TemplateProcessing',
    single: [text('A'), end],
    pair: [text('A'), end, text('B'), end],
    special_tokens: { [piece]: { id: piece, ids: [id], tokens: [piece] } },
  };
}

function check({ pieces, modelType, spaceBehind, spacesEscaped }: Model): void {
  if (pieces.length === 0) throw new ImportError('This is neither a tokenizer.json nor a SentencePiece model.');
  if (modelType !== UNIGRAM) throw new ImportError('The SentencePiece model is not a Unigram model, which umT5 has.');
  if (spaceBehind || !spacesEscaped)
    throw new ImportError('The SentencePiece model treats spaces in a way that umT5 does not.');
}

type Fields = Record<number, (reader: BinaryReader) => void>;

/** Field numbers are those of sentencepiece_model.proto. */
function readModel(bytes: Uint8Array): Model {
  const model: Model = {
    ...{ pieces: [], modelType: UNIGRAM, byteFallback: false, spaceBehind: false, endPiece: '</s>' },
    ...{ characterMap: new Uint8Array(), spaceInFront: true, spacesEscaped: true },
  };
  const trainer: Fields = {
    3: (reader) => (model.modelType = reader.int32()),
    24: (reader) => (model.spaceBehind = reader.bool()),
    35: (reader) => (model.byteFallback = reader.bool()),
    47: (reader) => (model.endPiece = reader.string(true)),
  };
  const normalizer: Fields = {
    2: (reader) => (model.characterMap = reader.bytes()),
    3: (reader) => (model.spaceInFront = reader.bool()),
    5: (reader) => (model.spacesEscaped = reader.bool()),
  };
  try {
    readFields(bytes, {
      1: (reader) => {
        model.pieces.push(readPiece(reader.bytes()));
        if (model.pieces.length > MOST_PIECES) throw new ImportError('The SentencePiece model has too many pieces.');
      },
      2: (reader) => readFields(reader.bytes(), trainer),
      3: (reader) => readFields(reader.bytes(), normalizer),
    });
  } catch (error) {
    if (error instanceof ImportError) throw error;
    const message = error instanceof Error ? error.message : String(error);
    throw new ImportError(printed`This is neither a tokenizer.json nor a sound SentencePiece model (${message}).`);
  }
  return model;
}

function readPiece(bytes: Uint8Array): Piece {
  const piece: Piece = { text: '', score: 0, type: 1 };
  readFields(bytes, {
    1: (reader) => (piece.text = reader.string(true)),
    2: (reader) => (piece.score = reader.float()),
    3: (reader) => (piece.type = reader.int32()),
  });
  if (!Number.isFinite(piece.score)) throw new ImportError('The SentencePiece model has a piece without a score.');
  return piece;
}

function readFields(bytes: Uint8Array, fields: Fields): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    const read = fields[number];
    if (read) read(reader);
    else reader.skip(type, number);
  }
}
