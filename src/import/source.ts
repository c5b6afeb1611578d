/** Opens whatever holds tensors: a checkpoint, safetensors, an index of several files, or shards that have none. */

import { printed } from '../files/printable.js';
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { ByteSource } from './bytes.js';
import { openBytes } from './bytes.js';
import { counted, ImportError, lined, inFile, listed, quoted, shown } from './errors.js';
import { INDEX_FILES, OTHER_FILES, SHARD_FILE } from './layouts.js';
import { isSafeTensors, readIndex, readSafeTensorsFile } from './safetensors.js';
import type { Metadata } from './strength.js';
import type { Tensor } from './tensor.js';
import { isLegacyTorch, readLegacyTorch, readTorch } from './torch.js';

export interface Source {
  path: string;
  /** All files that it is read from. */
  files: readonly string[];
  tensors: Tensor[];
  /** What a safetensors header says beside the tensors. */
  metadata: Metadata;
  close(): Promise<void>;
}

export async function openSource(path: string): Promise<Source> {
  return inFile(path, async () => {
    const other = otherFile(path);
    if (other !== undefined) throw new ImportError(printed`${path} is ${other}`);
    if (INDEX_FILES.test(path)) return openIndexed(path);
    const shards = await shardsOf(path);
    return shards ? joined(path, shards) : openFile(path);
  });
}

/** The tensors of a file, by what the file begins with. */
export async function readTensors(file: ByteSource): Promise<Tensor[]> {
  return (await readFile(file)).tensors;
}

async function readFile(file: ByteSource): Promise<{ tensors: Tensor[]; metadata: Metadata }> {
  const head = await file.read(0, Math.min(16, file.size));
  if (head[0] === 0x50 && head[1] === 0x4b) return readTorch(file);
  if (isLegacyTorch(head)) return readLegacyTorch(file);
  if (isSafeTensors(head, file.size)) return readSafeTensorsFile(file);
  throw new ImportError(unknownFormat(head));
}

function unknownFormat(head: Uint8Array): string {
  const begin = Buffer.from(head).toString('latin1');
  if (begin.startsWith('GGUF')) return 'GGUF files hold quantized weights; take the original checkpoint.';
  if (begin.startsWith('version https'))
    return 'This is a Git LFS pointer, not the file itself; fetch it with: git lfs pull';
  if (begin.startsWith('<')) return 'This is a web page, not a checkpoint; the download failed. Download it again.';
  if (begin.startsWith('\x89HDF')) return 'This is an HDF5 file, not a checkpoint of PyTorch.';
  if (head.length === 0) return 'The file is empty: it is neither a PyTorch checkpoint nor a safetensors file.';
  if (head[0] === 0x80) return 'This is a bare pickle, not a PyTorch checkpoint.';
  return 'This is neither a PyTorch checkpoint nor a safetensors file, or it is damaged.';
}

/** What a file is that is not read, by its name, and what to do. */
export function otherFile(path: string): string | undefined {
  const found = OTHER_FILES.find(({ name }) => name.test(path));
  return found && `${found.title}; ${found.advice.replace('FOLDER', dirname(path))}.`;
}

/** Whether a folder is a checkpoint of torch.distributed, which is converted as a whole. */
export function distributedCheckpoint(folder: string, names: readonly string[]): string | undefined {
  if (!names.some((name) => /\.distcp$/i.test(name))) return undefined;
  return (
    `a checkpoint of torch.distributed (DCP); convert it: ` +
    `python -m torch.distributed.checkpoint.format_utils dcp_to_torch ${folder} model.pt`
  );
}

async function openFile(path: string): Promise<Source> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory()) throw new ImportError(printed`${path} is a folder; name the file in it.`);
  const file = await openBytes(path);
  try {
    return { path, files: [path], ...(await readFile(file)), close: () => file.close() };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function openIndexed(path: string): Promise<Source> {
  const shards = await readIndex(path);
  const missing = (await Promise.all([...shards.keys()].map(absent))).flat();
  if (missing.length > 0)
    throw new ImportError(
      lined(printed`${path} names missing files:`, listed(missing), 'Download them into the same folder.'),
    );
  return openAll(path, shards);
}

/** The shards of which a file is one; nothing where it stands alone, or is the only one. */
async function shardsOf(path: string): Promise<string[] | undefined> {
  const [, stem, , count, ending] = SHARD_FILE.exec(basename(path)) ?? [];
  if (stem === undefined) return undefined;
  const siblings = await readdir(dirname(path)).catch(() => [] as string[]);
  const byIndex = new Map<number, string>();
  for (const name of siblings) {
    const shard = SHARD_FILE.exec(name);
    if (shard?.[1] === stem && shard[3] === count && shard[4] === ending) byIndex.set(Number(shard[2]), name);
  }
  const total = Number(count);
  const first = byIndex.has(0) ? 0 : 1;
  const missing = Array.from({ length: Math.min(total, MOST_SHARDS) }, (_, i) => first + i).filter(
    (i) => !byIndex.has(i),
  );
  if (total > MOST_SHARDS)
    throw new ImportError(printed`${path} is one of ${total} shards; the limit is ${MOST_SHARDS}.`);
  if (missing.length > 0) {
    const names = missing.map((i) => `shard ${i} of ${total}`);
    throw new ImportError(
      lined(
        printed`${join(dirname(path), `${stem}-…-of-${count}${ending}`)} is incomplete; missing:`,
        listed(names),
        'Download them into the same folder.',
      ),
    );
  }
  return [...byIndex].sort(([a], [b]) => a - b).map(([, name]) => join(dirname(path), name));
}

const MOST_SHARDS = 1_000;

async function joined(path: string, shards: readonly string[]): Promise<Source> {
  return openAll(path, new Map(shards.map((file) => [file, []])));
}

async function absent(path: string): Promise<string[]> {
  return (await stat(path).catch(() => undefined)) ? [] : [path];
}

/** With the tensors that are expected in each file, where somebody says so. */
async function openAll(path: string, shards: ReadonlyMap<string, readonly string[]>): Promise<Source> {
  const sources: Source[] = [];
  const places = new Map<string, string>();
  const close = async () => void (await Promise.all(sources.map((source) => source.close())));
  try {
    for (const [file, expected] of shards) {
      const source = await inFile(file, () => openFile(file));
      sources.push(source);
      const found = new Set(source.tensors.map(({ name }) => name));
      for (const name of found) {
        const other = places.get(name);
        if (other !== undefined)
          throw new ImportError(
            printed`${file} and ${basename(other)} both hold ${quoted(name)}: they are not shards of one checkpoint. Download all shards again.`,
          );
        places.set(name, file);
      }
      const missing = expected.filter((name) => !found.has(name));
      if (missing.length > 0)
        throw new ImportError(
          printed`${file} lacks ${counted(missing.length, 'tensor')} that its index names, such as ${shown(missing[0] ?? '')}. Download it again.`,
        );
    }
  } catch (error) {
    await close();
    throw error;
  }
  const metadata = new Map(sources.flatMap((source) => [...source.metadata]));
  return { path, files: [...shards.keys()], tensors: sources.flatMap(({ tensors }) => tensors), metadata, close };
}
