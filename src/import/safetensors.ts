/** Reading safetensors: an 8-byte length, a JSON header, the raw tensors without gaps. */

import { printed } from '../files/printable.js';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { type ByteSource, readSmall } from './bytes.js';
import { parseJson as parseJsonFile } from './beside.js';
import { ImportError, quoted } from './errors.js';
import { LONGEST_NAME, MOST_HEADER_BYTES, MOST_TENSORS } from './limits.js';
import { countOf, isDType, sizeOf, type Tensor, viewTensor } from './tensor.js';

const size = z.number().int().nonnegative();
const entrySchema = z.strictObject({
  dtype: z.string(),
  shape: z.array(size),
  data_offsets: z.tuple([size, size]),
});
const indexSchema = z.object({ weight_map: z.record(z.string(), z.string()) });

/** Whether a file may be one: the length of its header, then the header's brace. */
export function isSafeTensors(head: Uint8Array, fileSize: number): boolean {
  if (head.length < 9 || head[8] !== 0x7b) return false;
  return Buffer.from(head).readBigUInt64LE() <= BigInt(fileSize - 8);
}

export async function readSafeTensors(file: ByteSource): Promise<Tensor[]> {
  return (await readSafeTensorsFile(file)).tensors;
}

/** With what the header says beside the tensors. */
export async function readSafeTensorsFile(
  file: ByteSource,
): Promise<{ tensors: Tensor[]; metadata: ReadonlyMap<string, string> }> {
  const length = Number(Buffer.from(await file.read(0, 8)).readBigUInt64LE());
  if (length > MOST_HEADER_BYTES) {
    throw new ImportError(printed`The header has ${length} bytes; more than ${MOST_HEADER_BYTES} are not read.`);
  }
  const header = parseHeader(await file.read(8, 8 + length));
  const start = 8 + length;
  const tensors: Tensor[] = [];
  const ranges: [number, number][] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    if (name.length > LONGEST_NAME)
      throw new ImportError(printed`Tensor ${quoted(name)} has ${name.length} characters.`);
    const parsed = entrySchema.safeParse(value);
    if (!parsed.success) throw new ImportError(printed`The header describes ${quoted(name)} in an unknown form.`);
    const { dtype, shape, data_offsets } = parsed.data;
    if (!isDType(dtype))
      throw new ImportError(
        printed`Tensor ${quoted(name)} is stored as ${quoted(dtype)}, which is not read. Take the bf16, fp16 or fp32 file.`,
      );
    const [from, to] = data_offsets;
    if (countOf(shape, `Tensor ${quoted(name)}`) * sizeOf(dtype) !== to - from) {
      throw new ImportError(printed`Tensor ${quoted(name)} has a byte count that does not match its shape.`);
    }
    ranges.push(data_offsets);
    const layout = { bytes: file, from: start + from, to: start + to, offset: 0, stride: contiguous(shape) };
    tensors.push(viewTensor(name, dtype, shape, layout));
  }
  checkRanges(ranges, file.size - start);
  return { tensors, metadata: metadataOf(header.__metadata__) };
}

/** Texts by definition; some writers put numbers there. */
function metadataOf(value: unknown): ReadonlyMap<string, string> {
  const entries = typeof value === 'object' && value !== null ? Object.entries(value) : [];
  return new Map(entries.map(([key, each]) => [key, typeof each === 'string' ? each : JSON.stringify(each)]));
}

function parseHeader(bytes: Uint8Array): Record<string, unknown> {
  const text = textOf(bytes);
  const members = membersOf(text);
  const header = parseJson(text);
  if (typeof header !== 'object' || header === null || Array.isArray(header)) {
    throw new ImportError('The header is not JSON: the file is damaged or not a safetensors file.');
  }
  // Of what is there twice JSON.parse takes the last, other readers another one.
  if (members !== Object.keys(header).length) {
    throw new ImportError('The header describes a tensor twice: the file is damaged.');
  }
  return header as Record<string, unknown>;
}

function textOf(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return '';
  }
}

const [QUOTE, BACKSLASH, COMMA, SPACE] = [0x22, 0x5c, 0x2c, 0x20];
const OPENING: ReadonlySet<number> = new Set([0x5b, 0x7b]);
const CLOSING: ReadonlySet<number> = new Set([0x5d, 0x7d]);
/** Header, tensor, shape. */
const DEEPEST = 3;

/** How many members the outermost object has, if this is JSON. Refuses what would unfold when it is parsed. */
function membersOf(json: string): number {
  let [depth, members] = [0, 0];
  for (let at = 0; at < json.length; at++) {
    const code = json.charCodeAt(at);
    if (code <= SPACE) continue;
    if (CLOSING.has(code)) depth--;
    else if (depth === 1) members = Math.max(members, 1) + (code === COMMA ? 1 : 0);
    if (OPENING.has(code)) depth++;
    if (code === QUOTE) at = endOfString(json, at);
    if (depth > DEEPEST) throw new ImportError('The header is nested too deeply.');
    if (members > MOST_TENSORS + 1) throw new ImportError(printed`The file has more than ${MOST_TENSORS} tensors.`);
  }
  return members;
}

/** Where the string ends that begins here. */
function endOfString(json: string, from: number): number {
  let at = from + 1;
  while (at < json.length && json.charCodeAt(at) !== QUOTE) at += json.charCodeAt(at) === BACKSLASH ? 2 : 1;
  return at;
}

/** The tensors have to fill the file, without holes and without overlap. */
function checkRanges(ranges: [number, number][], bytes: number): void {
  let end = 0;
  for (const [from, to] of ranges.sort((a, b) => a[0] - b[0] || a[1] - b[1])) {
    if (from !== end) throw new ImportError('The tensors overlap or leave gaps: the file is damaged.');
    end = to;
  }
  if (end !== bytes)
    throw new ImportError(
      printed`The tensors take ${end} bytes, the file has ${bytes}: it is truncated or damaged. Download it again.`,
    );
}

function contiguous(shape: readonly number[]): number[] {
  return shape.map((_, i) => shape.slice(i + 1).reduce((product, length) => product * length, 1));
}

/** The files that `….safetensors.index.json` names, and which tensors it expects in each. */
export async function readIndex(path: string): Promise<Map<string, string[]>> {
  const parsed = indexSchema.safeParse(await readJson(path));
  if (!parsed.success)
    throw new ImportError(printed`${path} is not an index of weights: it lacks "weight_map". Download it again.`);
  const shards = new Map<string, string[]>();
  for (const [tensor, shard] of Object.entries(parsed.data.weight_map)) {
    if (basename(shard) !== shard || shard.startsWith('.')) {
      throw new ImportError(printed`${path} names the file ${quoted(shard)}, which is not beside it.`);
    }
    const file = join(dirname(path), shard);
    const expected = shards.get(file);
    if (expected) expected.push(tensor);
    else shards.set(file, [tensor]);
  }
  return shards;
}

async function readJson(path: string): Promise<unknown> {
  const bytes = await readSmall(path, MOST_HEADER_BYTES);
  try {
    return parseJsonFile(bytes);
  } catch (error) {
    throw new ImportError(
      printed`${path} cannot be read: ${error instanceof Error ? error.message : ''}. Download it again.`,
    );
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
