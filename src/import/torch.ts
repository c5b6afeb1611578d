/**
 * PyTorch checkpoints: what `torch.save` writes, as a zip archive (since 1.6) or as the older row of pickles. Tensors are
 * read by our own interpreter (pickle.ts): every name that a checkpoint may call stands in this file.
 */

import { crc32 } from 'node:zlib';
import type { ByteSource } from './bytes.js';
import { ImportError } from './errors.js';
import { type Builder, Dict, fill, Global, Tuple, unpickle } from './pickle.js';
import { countOf, type DType, sizeOf, type Tensor, viewTensor } from './tensor.js';
import { readZip, type ZipEntry } from './zip.js';

/** Joins the keys of nested dicts in names: `generator//model.patch_embedding.weight`. */
export const NESTED = '//';

const MOST_PICKLE_BYTES = 64 * 2 ** 20;
const DEEPEST = 16;
const MOST_VISITS = 1_000_000;
const MOST_TENSORS = 100_000;

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

/** Where the bytes of a storage lie. */
type Locate = (storage: Storage) => { from: number; to: number };

/** All tensors of a checkpoint. */
export async function readTorch(file: ByteSource): Promise<Tensor[]> {
  const entries = await readZip(file);
  const folder = folderOf(entries);
  const pickle = entries.get(`${folder}/data.pkl`) as ZipEntry;
  if (pickle.to - pickle.from > MOST_PICKLE_BYTES)
    throw new ImportError('The checkpoint has a pickle too large to be one.');
  await checkByteOrder(file, entries.get(`${folder}/byteorder`));
  const bytes = await file.read(pickle.from, pickle.to);
  if (crc32(bytes) !== pickle.crc32 && pickle.crc32 !== 0)
    throw new ImportError('The checkpoint is damaged: its pickle differs from its checksum.');
  const { value, end } = unpickle(bytes, builder);
  if (end !== bytes.length) throw new ImportError('The pickle is damaged: something follows its end.');
  return flatten(value, file, ({ key, bytes: length }) => {
    const entry = entries.get(`${folder}/data/${key}`);
    if (!entry) throw new ImportError(`The checkpoint lacks the data of storage ${key}.`);
    if (entry.to - entry.from !== length) {
      throw new ImportError(
        `The checkpoint is damaged: storage ${key} has ${entry.to - entry.from} of ${length} bytes.`,
      );
    }
    return entry;
  });
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
  if (order !== 'little') throw new ImportError(`The checkpoint is ${order}-endian; save it again on another machine.`);
}

const LEGACY_MAGIC = 0x1950a86a20f9469cfc6cn;
const LEGACY_PROTOCOL = 1001;

/** Whether a file begins as a checkpoint of before PyTorch 1.6 does. */
export function isLegacyTorch(head: Uint8Array): boolean {
  return head[0] === 0x80 && head[1] === 2 && head[2] === 0x8a && head[3] === 10;
}

/** Magic number, protocol, system, object, keys of the storages; then each storage as its length and its bytes. */
export async function readLegacyTorch(file: ByteSource): Promise<Tensor[]> {
  const head = await file.read(0, Math.min(file.size, MOST_PICKLE_BYTES));
  let end = 0;
  const [magic, protocol, system, value, keys] = Array.from({ length: 5 }, () => {
    const part = unpickle(head, builder, end);
    end = part.end;
    return part.value;
  });
  if (magic !== LEGACY_MAGIC || protocol !== LEGACY_PROTOCOL)
    throw new ImportError('This is not a PyTorch checkpoint.');
  if (system instanceof Dict && system.entries.get('little_endian') === false) {
    throw new ImportError('The checkpoint is big-endian; save it again on another machine.');
  }
  if (!Array.isArray(keys)) throw new ImportError('The checkpoint is damaged: it does not list its storages.');
  const starts = await legacyStorages(file, value, keys, end);
  return flatten(value, file, (storage) => {
    const from = starts.get(storage.key);
    if (from === undefined) throw new ImportError(`The checkpoint lacks the data of storage ${storage.key}.`);
    return { from, to: from + storage.bytes };
  });
}

async function legacyStorages(
  file: ByteSource,
  value: unknown,
  keys: unknown[],
  from: number,
): Promise<Map<string, number>> {
  const used = new Map<string, Storage>();
  for (const { tensor } of walk(value)) used.set(tensor.storage.key, tensor.storage);
  const starts = new Map<string, number>();
  let at = from;
  for (const key of keys) {
    const storage = typeof key === 'string' ? used.get(key) : undefined;
    if (!storage || starts.has(storage.key)) {
      throw new ImportError('The checkpoint has data that no tensor describes; save it again with a newer PyTorch.');
    }
    const count = await file.read(at, at + 8);
    if (Buffer.from(count).readBigUInt64LE() !== BigInt(storage.count)) {
      throw new ImportError(
        `The checkpoint is damaged: storage ${storage.key} has another length than its tensors say.`,
      );
    }
    starts.set(storage.key, at + 8);
    at += 8 + storage.bytes;
  }
  if (at > file.size) throw new ImportError('The file is truncated.');
  return starts;
}

function flatten(value: unknown, file: ByteSource, locate: Locate): Tensor[] {
  const tensors: Tensor[] = [];
  for (const { name, tensor } of walk(value)) {
    const { storage, dtype, offset, shape, stride } = tensor;
    const { from, to } = locate(storage);
    tensors.push(viewTensor(name, dtype, shape, { bytes: file, from, to, offset, stride }));
    if (tensors.length > MOST_TENSORS) throw new ImportError(`The checkpoint has more than ${MOST_TENSORS} tensors.`);
  }
  return tensors;
}

/** The tensors in nested dicts. Containers may refer to each other, so depth and steps are bounded. */
function* walk(value: unknown): Generator<{ name: string; tensor: StoredTensor }> {
  let visits = 0;
  function* visit(item: unknown, path: readonly string[]): Generator<{ name: string; tensor: StoredTensor }> {
    if (++visits > MOST_VISITS) throw new ImportError('The checkpoint has too many values.');
    if (item instanceof StoredTensor) yield { name: path.join(NESTED), tensor: item };
    if (!(item instanceof Dict)) return;
    if (path.length >= DEEPEST) throw new ImportError(`The checkpoint is nested more than ${DEEPEST} levels deep.`);
    for (const [key, inner] of item.entries) yield* visit(inner, [...path, String(key)]);
  }
  yield* visit(value, []);
}

// -- what a checkpoint may call

type Call = (args: readonly unknown[]) => unknown;

const CALLS: Record<string, Call> = {
  'collections.OrderedDict': ([items]) => dictOf(items),
  'collections.defaultdict': ([, items]) => dictOf(items),
  'builtins.dict': ([items]) => dictOf(items),
  'builtins.set': ([items]) => itemsOf(items ?? []),
  'builtins.frozenset': ([items]) => itemsOf(items ?? []),
  '__builtin__.set': ([items]) => itemsOf(items ?? []),
  '__builtin__.frozenset': ([items]) => itemsOf(items ?? []),
  'torch.Size': ([items]) => new Tuple(itemsOf(items ?? [])),
  'torch.device': () => new Inert(),
  '_codecs.encode': ([text]) => Buffer.from(asText(text), 'latin1'),
  'torch._utils._rebuild_tensor': ([storage, offset, shape, stride]) => tensorOf(storage, offset, shape, stride),
  'torch._utils._rebuild_tensor_v2': ([storage, offset, shape, stride]) => tensorOf(storage, offset, shape, stride),
  'torch._utils._rebuild_tensor_v3': ([storage, offset, shape, stride, , , dtype]) =>
    tensorOf(storage, offset, shape, stride, dtype),
  'torch._utils._rebuild_parameter': ([tensor]) => asTensor(tensor),
  'torch._utils._rebuild_parameter_with_state': ([tensor]) => asTensor(tensor),
};

const builder: Builder = {
  call(path, args) {
    const call = Object.hasOwn(CALLS, path) ? CALLS[path] : undefined;
    if (call) return call(args);
    throw new ImportError(
      `The checkpoint calls ${quoted(path)}, which an importer of weights has no use for and does not run. ` +
        'If you trust the file, load it in PyTorch and save its state dict.',
    );
  },

  persistent(id) {
    const [kind, type, key, , count, view] = id instanceof Tuple ? id.items : [];
    if (kind !== 'storage' || !(type instanceof Global)) throw new ImportError('The checkpoint refers to no storage.');
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
  throw new ImportError(`The checkpoint has a storage of type ${quoted(path)}, which is not known.`);
}

function tensorOf(storage: unknown, offset: unknown, shape: unknown, stride: unknown, type?: unknown): StoredTensor {
  if (!(storage instanceof Storage)) throw new ImportError('The checkpoint has a tensor without a storage.');
  const sizes = itemsOf(shape).map(asCount);
  countOf(sizes);
  const dtype = type === undefined ? storage.dtype : dtypeOf(type);
  return new StoredTensor(storage, dtype, asCount(offset), sizes, itemsOf(stride).map(asCount));
}

function dtypeOf(type: unknown): DType {
  const path = type instanceof Global ? type.path : 'something';
  const dtype = Object.hasOwn(DTYPES, path) ? DTYPES[path] : undefined;
  if (!dtype) throw new ImportError(`The checkpoint has a tensor of type ${quoted(path)}, which is not known.`);
  return dtype;
}

function dictOf(items: unknown): Dict {
  const dict = new Dict();
  if (items instanceof Dict) {
    for (const [key, value] of items.entries) dict.entries.set(key, value);
  } else {
    for (const pair of itemsOf(items ?? [])) fill(dict, itemsOf(pair));
  }
  return dict;
}

function itemsOf(value: unknown): readonly unknown[] {
  if (value instanceof Tuple) return value.items;
  if (Array.isArray(value)) return value;
  throw new ImportError('The checkpoint has something else where a list should be.');
}

function asTensor(value: unknown): StoredTensor {
  if (value instanceof StoredTensor) return value;
  throw new ImportError('The checkpoint has a parameter that is no tensor.');
}

function asText(value: unknown): string {
  if (typeof value === 'string') return value;
  throw new ImportError('The checkpoint has something else where a text should be.');
}

function asCount(value: unknown): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new ImportError('The checkpoint has a size or offset that is not a whole number.');
}

/** A name from a stranger's file, fit for a terminal. */
function quoted(path: string): string {
  return JSON.stringify(path.length > 100 ? `${path.slice(0, 100)}…` : path);
}
