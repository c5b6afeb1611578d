/** Opens whatever holds tensors: a checkpoint, safetensors, or an index of several safetensors files. */

import type { ByteSource } from './bytes.js';
import { openBytes } from './bytes.js';
import { ImportError, inFile } from './errors.js';
import { isSafeTensors, readIndex, readSafeTensors } from './safetensors.js';
import type { Tensor } from './tensor.js';
import { isLegacyTorch, readLegacyTorch, readTorch } from './torch.js';

export interface Source {
  path: string;
  tensors: Tensor[];
  close(): Promise<void>;
}

export async function openSource(path: string): Promise<Source> {
  return inFile(path, () => (path.endsWith('.index.json') ? openShards(path) : openFile(path)));
}

/** The tensors of a file, by what the file begins with. */
export async function readTensors(file: ByteSource): Promise<Tensor[]> {
  const head = await file.read(0, Math.min(16, file.size));
  if (head[0] === 0x50 && head[1] === 0x4b) return readTorch(file);
  if (isLegacyTorch(head)) return readLegacyTorch(file);
  if (isSafeTensors(head, file.size)) return readSafeTensors(file);
  throw new ImportError(unknownFormat(head));
}

function unknownFormat(head: Uint8Array): string {
  const begin = Buffer.from(head).toString('latin1');
  if (begin.startsWith('GGUF')) return 'GGUF files hold quantised weights; take the original checkpoint.';
  if (begin.startsWith('version https'))
    return 'This is a Git LFS pointer, not the file itself; fetch it with: git lfs pull';
  if (begin.startsWith('<')) return 'This is a web page, not a checkpoint; the download went wrong.';
  if (head[0] === 0x80) return 'This is a bare pickle, not a PyTorch checkpoint.';
  return 'This is neither a PyTorch checkpoint nor a safetensors file, or it is damaged.';
}

async function openFile(path: string): Promise<Source> {
  const file = await openBytes(path);
  try {
    return { path, tensors: await readTensors(file), close: () => file.close() };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function openShards(path: string): Promise<Source> {
  const sources: Source[] = [];
  const close = async () => void (await Promise.all(sources.map((source) => source.close())));
  try {
    for (const [file, expected] of await readIndex(path)) {
      const source = await inFile(file, () => openFile(file));
      sources.push(source);
      const found = new Set(source.tensors.map(({ name }) => name));
      const missing = expected.filter((name) => !found.has(name));
      if (missing.length > 0) throw new ImportError(`${file} lacks ${missing.length} tensors, for one ${missing[0]}.`);
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { path, tensors: sources.flatMap(({ tensors }) => tensors), close };
}
