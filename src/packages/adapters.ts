/** LoRA adapters that sessions may choose: files in a folder, checked against each model by the shapes alone. */

import { printed } from '../files/printable.js';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { basename, extname, join } from 'node:path';
import { z } from 'zod';
import {
  adapterFileAt,
  closeAll,
  ditShapes,
  findWeights,
  ImportError,
  OTHER_FILES,
  WEIGHT_FILES,
} from '../import/index.js';
import type { PackageFacts, PackageProblem } from './package.js';

export interface AdapterFile {
  name: string;
  path: string;
  /** SHA-256 of the file. */
  digest: string;
  bytes: number;
  /** Rows, columns and rank of what is added, by the matrix it is added to. */
  pairs: ReadonlyMap<string, { rows: number; columns: number; rank: number }>;
  /** Shapes of what is added as it is, by the tensor it is added to. */
  differences: ReadonlyMap<string, readonly number[]>;
}

const LONGEST_NAME = 128;
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
      if (adapters.has(name)) throw new ImportError(printed`there are two adapters called "${name}".`);
      const { adapter, notes } = await readAdapterFile(name, path);
      adapters.set(name, adapter);
      problems.push(...notes.map((note) => ({ directory: path, message: printed`LoRA ${name}: ` + note })));
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      problems.push({ directory: path, message: printed`LoRA ${name}: ` + message.replace(`${path}: `, '') });
    }
  }
  return { adapters: [...adapters.values()], problems, misfit };
}

/** Everything that may be an adapter, by the name of its file or folder; what cannot be one is told, a line each. */
async function candidates(directory: string, problems: PackageProblem[]): Promise<{ name: string; path: string }[]> {
  const found: { name: string; path: string }[] = [];
  const entries = await readdir(directory).catch((error: Error) => {
    problems.push({ directory, message: printed`LoRAs cannot be read from ${directory}: ${error.message}` });
    return [];
  });
  for (const entry of entries.filter((each) => !each.startsWith('.')).sort()) {
    const path = join(directory, entry);
    const refuse = (why: string) => problems.push({ directory: path, message: `LoRA ${shown(entry)}: ${why}` });
    const there = await stat(path).catch(() => undefined);
    const folder = there?.isDirectory() === true;
    if (!folder && !WEIGHT_FILES.test(entry)) {
      if (OTHER_FILES.some(({ name }) => name.test(entry)))
        refuse('this file type is not supported; save it as safetensors.');
      continue;
    }
    // What is typed must be what is stored, however a file system composes it.
    const name = (folder ? entry : basename(entry, extname(entry))).normalize('NFC').trim();
    if (!there) refuse('broken link.');
    else if (!isName(name))
      refuse(`its name is not valid; use 1 to ${LONGEST_NAME} characters, none of them control characters.`);
    else if (!folder) found.push({ name, path });
    else
      await adapterFileAt(path).then(
        (file) => found.push({ name, path: file }),
        (error: Error) => refuse(error.message),
      );
  }
  return found;
}

function isName(name: string): boolean {
  return name.length > 0 && name.length <= LONGEST_NAME && !/\p{C}/u.test(name);
}

/** On one line, whatever is in it. */
function shown(name: string): string {
  return /\p{C}/u.test(name) || name.length > LONGEST_NAME ? JSON.stringify(name.slice(0, LONGEST_NAME)) : name;
}

async function readAdapterFile(name: string, path: string): Promise<{ adapter: AdapterFile; notes: string[] }> {
  const found = await findWeights([], { hints: {}, ema: false, loras: [{ path, weight: 1 }] });
  try {
    const read = found.adapters[0] as (typeof found.adapters)[number];
    const pairs = new Map(
      [...read.pairs].map(([target, { a, b, rank }]) => {
        return [target, { rows: b.shape[0] ?? 0, columns: product(a.shape.slice(1)), rank }];
      }),
    );
    const differences = new Map([...read.differences].map(([target, { shape }]) => [target, shape]));
    const bytes = (await stat(path)).size;
    const digest = await digestOfFile(path, besideOf(read.pairs));
    return { adapter: { name, path, pairs, differences, bytes, digest }, notes: read.notes };
  } finally {
    await closeAll(found);
  }
}

function product(sizes: readonly number[]): number {
  return sizes.reduce((count, each) => count * each, 1);
}

type Strengths = ReadonlyMap<string, { rank: number; strength: { factor: number; where: string } }>;

/** What a file beside the adapter says of its strength belongs to what is merged. */
function besideOf(pairs: Strengths): string | undefined {
  const beside = [...pairs].filter(([, { strength }]) => strength.where === 'adapter_config.json');
  if (beside.length === 0) return undefined;
  const alphas = beside.map(([target, { rank, strength }]) => [target, strength.factor * rank] as const);
  const different = new Set(alphas.map(([, alpha]) => alpha));
  return different.size === 1 ? `alpha ${alphas[0]?.[1]}` : JSON.stringify(alphas);
}

async function digestOfFile(path: string, beside: string | undefined): Promise<string> {
  const hash = createHash('sha256');
  for await (const part of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(part as Uint8Array);
  if (beside !== undefined) hash.update(beside);
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
  if (!sizes.success) return 'the model does not state the size of its network.';
  const shapes = ditShapes(sizes.data);
  const complaints = [...adapter.pairs].flatMap(([name, { rows, columns }]) => {
    const shape = shapes.get(name);
    if (!shape) return [printed`${name} is not in the network`];
    if (shape.length >= 2 && shape[0] === rows && product(shape.slice(1)) === columns) return [];
    return [printed`${name} is [${shape.join(', ')}], the adapter is made for [${rows}, ${columns}]`];
  });
  for (const [name, shape] of adapter.differences) {
    const wanted = shapes.get(name);
    if (!wanted) complaints.push(printed`${name} is not in the network`);
    else if (product(wanted) !== product(shape))
      complaints.push(printed`${name} is [${wanted.join(', ')}], the adapter has a difference [${shape.join(', ')}]`);
  }
  if (complaints.length === 0) return undefined;
  const more = complaints.length > COMPLAINTS ? `; and ${complaints.length - COMPLAINTS} more` : '';
  return `${complaints.slice(0, COMPLAINTS).join('; ')}${more}.`;
}
