/**
 * Feeds damaged checkpoints and SentencePiece models to the readers of `longlive import`, and manifests and configurations to
 * the one of packages. Whatever a file holds, the answer is tensors and networks, a tokenizer, a package, or a refusal, soon
 * and without much memory.
 *
 *     npx tsx test/fuzz/readers.ts [--minutes 60] [--seed 1] [--out result.json]
 */

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { memoryBytes } from '../../src/import/bytes.js';
import { componentOf, readNetwork } from '../../src/import/components.js';
import { ImportError } from '../../src/import/errors.js';
import { isAdapter, readAdapter } from '../../src/import/lora.js';
import { pickTensors } from '../../src/import/names.js';
import { convertSentencePiece } from '../../src/import/sentencepiece.js';
import { readTensors } from '../../src/import/source.js';
import { countOf } from '../../src/import/tensor.js';
import { readZip } from '../../src/import/zip.js';
import { writeZip } from '../support/zip-writer.js';
import { mutate, randomFrom } from './mutate.js';
import { answerToPackageFile, damageJson, PACKAGE_FILES, packageFile } from './package-files.js';

const FOLDER = new URL('../golden/checkpoints/', import.meta.url);
const SENTENCE_PIECE = new URL('../unit/engine/fixtures/umt5_like.model', import.meta.url);
const MODEL = 'spiece.model';
/** Elements read of each tensor, from its front and its end. */
const TASTE = 64;
/** Of processor time. */
const SLOW_MICROSECONDS = 5_000_000;
/** Of memory beyond what was there before. */
const [MOST_BYTES, MOST_TIMES] = [512 * 2 ** 20, 16];
const LONGEST_MESSAGE = 20_000;

export interface Seed {
  name: string;
  bytes: Buffer;
  /** Ranges worth damaging: what is not weights. */
  focus: [number, number][];
  /** For archives: their parts, so that the pickle can be damaged without damaging the archive. */
  parts?: { name: string; bytes: Buffer }[];
}

export async function loadSeeds(): Promise<Seed[]> {
  const names = readdirSync(FOLDER).filter((name) => /\.(pth?|safetensors)$/.test(name));
  const seeds = await Promise.all(names.map(async (name) => seedOf(name, readFileSync(new URL(name, FOLDER)))));
  const model = readFileSync(SENTENCE_PIECE);
  // The pieces stand in front of the character map, which is never looked into.
  return [
    ...seeds,
    ...PACKAGE_FILES.map((name) => ({ name, bytes: packageFile(name), focus: [] })),
    {
      name: MODEL,
      bytes: model,
      focus: [
        [0, 12_000],
        [model.length - 400, model.length],
      ],
    },
  ];
}

async function seedOf(name: string, bytes: Buffer): Promise<Seed> {
  const entries = await readZip(memoryBytes(bytes)).catch(() => undefined);
  if (!entries) return { name, bytes, focus: [[0, Math.min(bytes.length, 16_384)]] };
  const pickle = [...entries.values()].find((entry) => entry.name.endsWith('data.pkl'));
  const last = Math.max(...[...entries.values()].map(({ to }) => to));
  const focus: [number, number][] = [[last, bytes.length]];
  if (pickle) focus.push([0, pickle.from]);
  const parts = [...entries.values()].map((entry) => ({
    name: entry.name,
    bytes: bytes.subarray(entry.from, entry.to),
  }));
  return { name, bytes, focus, parts };
}

const isPackageFile = (name: string) => PACKAGE_FILES.some((each) => each === name);

/** A damaged file: its bytes anywhere, or only its pickle in a sound archive. */
export function damage(seed: Seed, random: (below: number) => number): Buffer {
  if (isPackageFile(seed.name)) return damageJson(seed.bytes, random);
  if (!seed.parts || random(3) === 0) return mutate(seed.bytes, seed.focus, random);
  const parts = seed.parts.map(({ name, bytes }) =>
    name.endsWith('data.pkl') ? { name, bytes: mutate(bytes, [], random) } : { name, bytes },
  );
  return writeZip(parts, { zip64: random(2) === 0 });
}

/**
 * Reads a file as the importer would, by its name: why it is refused, nothing when it is taken. Throws for anything but an
 * ImportError, and for time, memory and messages that the file's size does not justify.
 */
export async function answerTo(name: string, bytes: Buffer): Promise<string | undefined> {
  const [cpu, memory] = [process.cpuUsage(), process.resourceUsage().maxRSS];
  const message = await messageOf(name, bytes);
  const { user, system } = process.cpuUsage(cpu);
  const excess = (what: string) => new Error(`A file of ${bytes.length} bytes took ${what}: ${name}`);
  if (user + system > SLOW_MICROSECONDS) throw excess(`${user + system} µs`);
  const more = 1024 * (process.resourceUsage().maxRSS - memory);
  if (more > MOST_BYTES + MOST_TIMES * bytes.length) throw excess(`${more} bytes`);
  if ((message?.length ?? 0) > LONGEST_MESSAGE) throw excess(`a message of ${message?.length} characters`);
  return message;
}

async function messageOf(name: string, bytes: Buffer): Promise<string | undefined> {
  if (isPackageFile(name)) return answerToPackageFile(name, bytes);
  try {
    if (name === MODEL) convertSentencePiece(bytes);
    else await readCheckpoint(bytes);
    return undefined;
  } catch (error) {
    if (!(error instanceof ImportError)) throw error;
    return error.message;
  }
}

async function readCheckpoint(bytes: Buffer): Promise<void> {
  const tensors = await readTensors(memoryBytes(bytes));
  for (const tensor of tensors) {
    const count = countOf(tensor.shape);
    await tensor.read(0, Math.min(count, TASTE));
    await tensor.read(Math.max(0, count - TASTE), count);
  }
  if (isAdapter(tensors)) await readAdapter('adapter', tensors, { weight: 1 });
  const { tensors: plain } = pickTensors(tensors);
  const component = componentOf(plain);
  if (component) readNetwork(component, plain, { numHeads: 2 });
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { minutes: { type: 'string' }, seed: { type: 'string' }, out: { type: 'string' } },
  });
  const end = Date.now() + 60_000 * Number(values.minutes ?? 1);
  const first = Number(values.seed ?? 1);
  const seeds = await loadSeeds();
  const began = Date.now();
  let [runs, accepted, failures] = [0, 0, 0];
  for (; Date.now() < end; runs++) {
    const seed = seeds[runs % seeds.length] as Seed;
    const bytes = damage(seed, randomFrom(first + runs));
    try {
      if ((await answerTo(seed.name, bytes)) === undefined) accepted++;
    } catch (error) {
      const file = `crash-${first + runs}-${crc32(bytes).toString(16)}-${seed.name}`;
      writeFileSync(file, bytes);
      process.stderr.write(`${file}: ${error instanceof Error ? error.stack : String(error)}\n`);
      failures++;
      process.exitCode = 1;
    }
  }
  const result = {
    ...{ files: runs, accepted, refused: runs - accepted - failures, failures, firstSeed: first },
    seconds: Math.round((Date.now() - began) / 1000),
    processorSeconds: Math.round(process.cpuUsage().user / 1e6),
    // Linux and macOS both report kibibytes here.
    peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
  };
  process.stdout.write(`${JSON.stringify(result)}\n`);
  if (values.out) writeFileSync(values.out, `${JSON.stringify(result, null, 2)}\n`);
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) await main();
