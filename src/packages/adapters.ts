/** LoRA adapters that sessions may choose: files in a folder, checked against each model by the shapes alone. */

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { basename, extname, join } from 'node:path';
import { z } from 'zod';
import { closeAll, ditShapes, findWeights, ImportError } from '../import/index.js';
import type { PackageFacts, PackageProblem } from './package.js';

export interface AdapterFile {
  name: string;
  path: string;
  /** SHA-256 of the file. */
  digest: string;
  bytes: number;
  /** Rows, columns and rank of what is added, by the matrix it is added to. */
  pairs: ReadonlyMap<string, { rows: number; columns: number; rank: number }>;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const FILE = /\.(safetensors|pt|pth)$/;
/** As written by peft, in a folder of its own. */
const PEFT_FILE = 'adapter_model.safetensors';
/** Complaints of one adapter that are told. */
const COMPLAINTS = 3;

export interface AdapterLibrary {
  adapters: readonly AdapterFile[];
  /** Files that are no adapters, and why. */
  problems: readonly PackageProblem[];
  /** Why an adapter cannot be merged into a model; `undefined` when it can. */
  misfit(adapter: AdapterFile, model: PackageFacts): string | undefined;
}

/** Adapters in a directory, by name. */
export async function findAdapters(directory: string): Promise<AdapterLibrary> {
  const adapters = new Map<string, AdapterFile>();
  const problems: PackageProblem[] = [];
  for (const { name, path } of await candidates(directory, problems)) {
    try {
      if (adapters.has(name)) throw new ImportError(`there are two adapters called "${name}".`);
      adapters.set(name, await readAdapterFile(name, path));
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      problems.push({ directory: path, message: `LoRA ${name}: ${message}` });
    }
  }
  return { adapters: [...adapters.values()], problems, misfit };
}

async function candidates(directory: string, problems: PackageProblem[]): Promise<{ name: string; path: string }[]> {
  const found: { name: string; path: string }[] = [];
  const names = await readdir(directory).catch((error: Error) => {
    problems.push({ directory, message: `LoRAs cannot be read from ${directory}: ${error.message}` });
    return [];
  });
  for (const file of names.filter((each) => NAME.test(each)).sort()) {
    const path = join(directory, file);
    const inFolder = join(path, PEFT_FILE);
    if (FILE.test(file)) found.push({ name: basename(file, extname(file)), path });
    else if ((await stat(inFolder).catch(() => undefined))?.isFile()) found.push({ name: file, path: inFolder });
  }
  return found;
}

async function readAdapterFile(name: string, path: string): Promise<AdapterFile> {
  const found = await findWeights([], { hints: {}, ema: false, loras: [{ path, weight: 1 }] });
  try {
    const [adapter] = found.adapters;
    const pairs = new Map(
      [...(adapter?.pairs ?? [])].map(([target, { a, b }]) => {
        return [target, { rows: b.shape[0] ?? 0, columns: a.shape[1] ?? 0, rank: a.shape[0] ?? 0 }];
      }),
    );
    return { name, path, pairs, bytes: (await stat(path)).size, digest: await digestOfFile(path, adapter?.alpha) };
  } finally {
    await closeAll(found);
  }
}

/** An alpha that is written beside the file belongs to what is merged. */
async function digestOfFile(path: string, alpha: number | undefined): Promise<string> {
  const hash = createHash('sha256');
  for await (const part of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(part as Uint8Array);
  if (alpha !== undefined) hash.update(`alpha ${alpha}`);
  return hash.digest('hex');
}

const size = z.number().int().positive();
const ditSchema = z.object({
  ...{ dim: size, ffnDim: size, numHeads: size, numLayers: size.max(1_000), freqDim: size, inDim: size, outDim: size },
  ...{ textDim: size, textLen: size, patchSize: z.array(size).length(3) },
  ...{ eps: z.number(), ropeTheta: z.number(), ropeTableLength: size },
});

function misfit(adapter: AdapterFile, { config }: PackageFacts): string | undefined {
  const sizes = ditSchema.safeParse(config.dit);
  if (!sizes.success) return 'the model does not say how large its network is.';
  const shapes = ditShapes(sizes.data);
  const complaints = [...adapter.pairs].flatMap(([name, { rows, columns }]) => {
    const shape = shapes.get(name);
    if (!shape) return [`${name} is not in the network`];
    if (shape.length === 2 && shape[0] === rows && shape[1] === columns) return [];
    return [`${name} is [${shape.join(', ')}], the adapter is made for [${rows}, ${columns}]`];
  });
  if (complaints.length === 0) return undefined;
  const more = complaints.length > COMPLAINTS ? `; and ${complaints.length - COMPLAINTS} more` : '';
  return `${complaints.slice(0, COMPLAINTS).join('; ')}${more}.`;
}
