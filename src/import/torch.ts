/**
 * PyTorch checkpoints: what `torch.save` writes, as a zip archive (since 1.6) or as the older row of pickles. Tensors are
 * read by our own interpreter (pickle.ts): every name that a checkpoint may call stands in this file.
 */

import { printed } from '../files/printable.js';
import { crc32 } from 'node:zlib';
import { type ByteSource, inPages } from './bytes.js';
import { ImportError, quoted } from './errors.js';
import { Allowance, LONGEST_NAME, MOST_PICKLE_BYTES, MOST_TENSORS } from './limits.js';
import { type Builder, unpickle } from './pickle.js';
import { COST, Dict, fill, Global, Tuple } from './pickle-values.js';
import type { Metadata } from './strength.js';
import { countOf, type DType, manyDimensions, MOST_DIMENSIONS, sizeOf, type Tensor, viewTensor } from './tensor.js';
import { metadataOf } from './torch-metadata.js';
import { readZip, type ZipEntry } from './zip.js';

/** Joins the keys of nested dicts in names: `generator//model.patch_embedding.weight`. */
export const NESTED = '//';

const DEEPEST = 16;

const STORAGES: Record<string, DType> = {
  DoubleStorage: 'F64',
  FloatStorage: 'F32',
  HalfStorage: 'F16',
  BFloat16Storage: 'BF16',
  LongStorage: 'I64',
  IntStorage: 'I32',
  ShortStorage: 'I16',
  CharStorage: 'I8',
  ByteStorage: 'U8',
  BoolStorage: 'BOOL',
  Float8_e4m3fnStorage: 'F8_E4M3',
  Float8_e5m2Storage: 'F8_E5M2',
  ComplexFloatStorage: 'C64',
  ComplexDoubleStorage: 'C128',
};

const DTYPES: Record<string, DType> = {
  'torch.float64': 'F64',
  'torch.float32': 'F32',
  'torch.float16': 'F16',
  'torch.bfloat16': 'BF16',
  'torch.int64': 'I64',
  'torch.int32': 'I32',
  'torch.int16': 'I16',
  'torch.int8': 'I8',
  'torch.uint8': 'U8',
  'torch.bool': 'BOOL',
  'torch.float8_e4m3fn': 'F8_E4M3',
  'torch.float8_e5m2': 'F8_E5M2',
  'torch.float8_e8m0fnu': 'F8_E8M0',
  'torch.uint16': 'U16',
  'torch.uint32': 'U32',
  'torch.uint64': 'U64',
  'torch.complex64': 'C64',
  'torch.complex128': 'C128',
};

/** What a persistent id names. */
class Storage {
  constructor(
    readonly key: string,
    readonly dtype: DType,
    /** In elements of that type. */
    readonly count: number,
  ) {}

  get bytes(): number {
    return this.count * sizeOf(this.dtype);
  }
}

class StoredTensor {
  constructor(
    readonly storage: Storage,
    readonly dtype: DType,
    readonly offset: number,
    readonly shape: readonly number[],
    readonly stride: readonly number[],
  ) {}
}

/** A name or value that stands for itself and that nobody looks into. */
class Inert {}

export interface Checkpoint {
  tensors: Tensor[];
  metadata: Metadata;
}

/** Where the bytes of a storage lie. */
type Locate = (storage: Storage) => { from: number; to: number };

/** All tensors of a checkpoint, and what it says beside them. */
export async function readTorch(file: ByteSource): Promise<Checkpoint> {
  const entries = await readZip(file);
  const folder = folderOf(entries);
  const pickle = entries.get(`${folder}/data.pkl`) as ZipEntry;
  if (pickle.to - pickle.from > MOST_PICKLE_BYTES)
    throw new ImportError(
      printed`The checkpoint has a pickle of more than ${MOST_PICKLE_BYTES} bytes, which is too large to be one.`,
    );
  await checkByteOrder(file, entries.get(`${folder}/byteorder`));
  const bytes = await file.read(pickle.from, pickle.to);
  if (crc32(bytes) !== pickle.crc32 && pickle.crc32 !== 0)
    throw new ImportError('The checkpoint is damaged: its pickle differs from its checksum.');
  const position = { at: 0 };
  const allowance = new Allowance(() => position.at);
  const value = unpickle(bytes, builder, position, allowance);
  if (position.at !== bytes.length) throw new ImportError('The pickle is damaged: there is data after its end.');
  const tensors = flatten(named(value, allowance), file, ({ key, bytes: length }) => {
    const entry = entries.get(`${folder}/data/${key}`);
    if (!entry) throw new ImportError(printed`The checkpoint lacks the data of storage ${quoted(key)}.`);
    if (entry.to - entry.from !== length) {
      throw new ImportError(
        printed`The checkpoint is damaged: storage ${quoted(key)} has ${entry.to - entry.from} of ${length} bytes.`,
      );
    }
    return entry;
  });
  return { tensors, metadata: metadataOf(value, allowance) };
}

function folderOf(entries: Map<string, ZipEntry>): string {
  const folders = [...entries.keys()].filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  if (folders.length === 1) return (folders[0] as string).slice(0, -'/data.pkl'.length);
  if ([...entries.keys()].some((name) => name.includes('/code/'))) {
    throw new ImportError('This is a TorchScript archive, which holds a program; save its state dict instead.');
  }
  throw new ImportError('This zip archive is not a PyTorch checkpoint: it has no data.pkl.');
}

async function checkByteOrder(file: ByteSource, entry: ZipEntry | undefined): Promise<void> {
  if (!entry || entry.to - entry.from > 16) return;
  const order = Buffer.from(await file.read(entry.from, entry.to)).toString('latin1');
  if (order !== 'little')
    throw new ImportError(
      printed`The checkpoint is not little-endian but ${quoted(order)}; save it again on another machine.`,
    );
}

const LEGACY_MAGIC = 0x1950a86a20f9469cfc6cn;
const LEGACY_PROTOCOL = 1001;

/** Whether a file begins as a checkpoint of before PyTorch 1.6 does. */
export function isLegacyTorch(head: Uint8Array): boolean {
  return head[0] === 0x80 && head[1] === 2 && head[2] === 0x8a && head[3] === 10;
}

/** Magic number, protocol, system, object, keys of the storages; then each storage as its length and its bytes. */
export async function readLegacyTorch(file: ByteSource): Promise<Checkpoint> {
  const head = await file.read(0, Math.min(file.size, MOST_PICKLE_BYTES));
  const position = { at: 0 };
  const allowance = new Allowance(() => position.at);
  const [magic, protocol, system, value, keys] = Array.from({ length: 5 }, () =>
    unpickle(head, builder, position, allowance),
  );
  if (magic !== LEGACY_MAGIC || protocol !== LEGACY_PROTOCOL)
    throw new ImportError('This is not a PyTorch checkpoint.');
  if (system instanceof Dict && system.entries.get('little_endian') === false) {
    throw new ImportError('The checkpoint is big-endian; save it again on another machine.');
  }
  if (!Array.isArray(keys)) throw new ImportError('The checkpoint is damaged: it does not list its storages.');
  const tensors = named(value, allowance);
  const starts = await legacyStorages(file, tensors, keys, position.at);
  const placed = flatten(tensors, file, (storage) => {
    const from = starts.get(storage.key);
    if (from === undefined)
      throw new ImportError(printed`The checkpoint lacks the data of storage ${quoted(storage.key)}.`);
    return { from, to: from + storage.bytes };
  });
  return { tensors: placed, metadata: metadataOf(value, allowance) };
}

async function legacyStorages(
  file: ByteSource,
  tensors: readonly NamedTensor[],
  keys: unknown[],
  from: number,
): Promise<Map<string, number>> {
  const used = new Map(tensors.map(({ tensor: { storage } }) => [storage.key, storage]));
  const starts = new Map<string, number>();
  const pages = inPages(file);
  let at = from;
  for (const key of keys) {
    const storage = typeof key === 'string' ? used.get(key) : undefined;
    if (!storage || starts.has(storage.key)) {
      throw new ImportError('The checkpoint has data that no tensor describes; save it again with a newer PyTorch.');
    }
    const count = await pages.read(at, at + 8);
    if (Buffer.from(count).readBigUInt64LE() !== BigInt(storage.count)) {
      throw new ImportError(
        printed`The checkpoint is damaged: storage ${quoted(storage.key)} has a length that does not match its tensors.`,
      );
    }
    starts.set(storage.key, at + 8);
    at += 8 + storage.bytes;
  }
  if (at > file.size) throw new ImportError('The file is truncated.');
  return starts;
}

function flatten(tensors: readonly NamedTensor[], file: ByteSource, locate: Locate): Tensor[] {
  return tensors.map(({ name, tensor: { storage, dtype, offset, shape, stride } }) => {
    const { from, to } = locate(storage);
    return viewTensor(name, dtype, shape, { bytes: file, from, to, offset, stride });
  });
}

interface NamedTensor {
  name: string;
  tensor: StoredTensor;
}

/** The tensors in nested dicts. Containers may refer to each other, so depth is bounded, and every visit counts. */
function named(value: unknown, allowance: Allowance): NamedTensor[] {
  const tensors: NamedTensor[] = [];
  const visit = (item: unknown, name: string, depth: number) => {
    if (item instanceof StoredTensor) {
      allowance.spend(COST.container + COST.character * name.length);
      tensors.push({ name, tensor: item });
      if (tensors.length > MOST_TENSORS)
        throw new ImportError(printed`The checkpoint has more than ${MOST_TENSORS} tensors.`);
    }
    if (!(item instanceof Dict)) return;
    if (depth >= DEEPEST) throw new ImportError(printed`The checkpoint is nested more than ${DEEPEST} levels deep.`);
    for (const [key, inner] of item.entries) {
      allowance.spend(COST.entry);
      visit(inner, joined(name, String(key), depth), depth + 1);
    }
  };
  visit(value, '', 0);
  return tensors;
}

function joined(outer: string, key: string, depth: number): string {
  if (outer.length + key.length <= LONGEST_NAME) return depth === 0 ? key : `${outer}${NESTED}${key}`;
  throw new ImportError(
    printed`The checkpoint has the name ${quoted(outer || key)} of more than ${LONGEST_NAME} characters.`,
  );
}

// -- what a checkpoint may call

type Call = (args: readonly unknown[], allowance: Allowance) => unknown;

const CALLS: Record<string, Call> = {
  'collections.OrderedDict': ([items], allowance) => dictOf(items, allowance),
  'collections.defaultdict': ([, items], allowance) => dictOf(items, allowance),
  'builtins.dict': ([items], allowance) => dictOf(items, allowance),
  'builtins.set': ([items]) => itemsOf(items ?? []),
  'builtins.frozenset': ([items]) => itemsOf(items ?? []),
  '__builtin__.set': ([items]) => itemsOf(items ?? []),
  '__builtin__.frozenset': ([items]) => itemsOf(items ?? []),
  'torch.Size': ([items]) => new Tuple(itemsOf(items ?? [])),
  'torch.device': () => new Inert(),
  // Bytes, which nobody looks into.
  '_codecs.encode': () => new Inert(),
  'torch._utils._rebuild_tensor': ([storage, offset, shape, stride]) => tensorOf(storage, offset, shape, stride),
  'torch._utils._rebuild_tensor_v2': ([storage, offset, shape, stride]) => tensorOf(storage, offset, shape, stride),
  'torch._utils._rebuild_tensor_v3': ([storage, offset, shape, stride, , , dtype]) =>
    tensorOf(storage, offset, shape, stride, dtype),
  'torch._utils._rebuild_parameter': ([tensor]) => asTensor(tensor),
  'torch._utils._rebuild_parameter_with_state': ([tensor]) => asTensor(tensor),
};

const builder: Builder = {
  call(path, args, allowance) {
    const call = Object.hasOwn(CALLS, path) ? CALLS[path] : undefined;
    if (call) return call(args, allowance);
    throw new ImportError(
      printed`The checkpoint calls ${quoted(path)}, which is not needed to load weights and is not run. ` +
        'If you trust the file, load it in PyTorch and save its state dict as safetensors.',
    );
  },

  persistent(id) {
    const [kind, type, key, , count, view] = id instanceof Tuple ? id.items : [];
    if (kind !== 'storage' || !(type instanceof Global))
      throw new ImportError('The checkpoint does not refer to a storage.');
    if (view !== undefined && view !== null) {
      throw new ImportError('The checkpoint has views of storages as of PyTorch 0.3; save it again with a newer one.');
    }
    return new Storage(asText(key), storageType(type.path), asCount(count));
  },
};

function storageType(path: string): DType {
  if (path === 'torch.storage.UntypedStorage' || path === 'torch.UntypedStorage') return 'U8';
  const name = /^torch\.(?:cuda\.)?(\w+)$/.exec(path)?.[1] ?? '';
  const dtype = Object.hasOwn(STORAGES, name) ? STORAGES[name] : undefined;
  if (dtype) return dtype;
  throw new ImportError(printed`The checkpoint has a storage of type ${quoted(path)}, which is not known.`);
}

function tensorOf(storage: unknown, offset: unknown, shape: unknown, stride: unknown, type?: unknown): StoredTensor {
  if (!(storage instanceof Storage)) throw new ImportError('The checkpoint has a tensor without a storage.');
  const sizes = sizesOf(shape);
  countOf(sizes, 'A tensor');
  const dtype = type === undefined ? storage.dtype : dtypeOf(type);
  return new StoredTensor(storage, dtype, asCount(offset), sizes, sizesOf(stride));
}

function sizesOf(value: unknown): number[] {
  const items = itemsOf(value);
  if (items.length > MOST_DIMENSIONS) throw new ImportError(manyDimensions('A tensor', items.length));
  return items.map(asCount);
}

function dtypeOf(type: unknown): DType {
  const path = type instanceof Global ? type.path : 'something';
  const dtype = Object.hasOwn(DTYPES, path) ? DTYPES[path] : undefined;
  if (!dtype) throw new ImportError(printed`The checkpoint has a tensor of type ${quoted(path)}, which is not known.`);
  return dtype;
}

function dictOf(items: unknown, allowance: Allowance): Dict {
  const dict = new Dict();
  if (items instanceof Dict) {
    allowance.spend(items.entries.size * COST.entry);
    for (const [key, value] of items.entries) dict.entries.set(key, value);
    return dict;
  }
  const pairs = itemsOf(items ?? []);
  allowance.spend(pairs.length * COST.entry);
  for (const pair of pairs) {
    const keyAndValue = itemsOf(pair);
    if (keyAndValue.length !== 2) throw new ImportError('The checkpoint has a dict whose items are not pairs.');
    fill(dict, keyAndValue);
  }
  return dict;
}

function itemsOf(value: unknown): readonly unknown[] {
  if (value instanceof Tuple) return value.items;
  if (Array.isArray(value)) return value;
  throw new ImportError('The checkpoint has another value where a list is expected.');
}

function asTensor(value: unknown): StoredTensor {
  if (value instanceof StoredTensor) return value;
  throw new ImportError('The checkpoint has a parameter that is not a tensor.');
}

function asText(value: unknown): string {
  if (typeof value === 'string') return value;
  throw new ImportError('The checkpoint has another value where a string is expected.');
}

function asCount(value: unknown): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new ImportError('The checkpoint has a size or offset that is not a whole number.');
}
