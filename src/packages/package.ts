/** Model packages on disk: which there are, and whether they are whole. See docs/model-package.md. */

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { printable, printed } from '../files/printable.js';
import { problemsOf } from '../files/schema-problems.js';
import { readSmall } from '../import/bytes.js';
import { PACKAGE_NAME } from '../import/package-name.js';
import { pictureSide } from '../import/sampling.js';

const MOST_FILES = 256;

/** Of manifest.json and config.json. */
export const MOST_JSON_BYTES = 1 << 20;
/** Of a text that people read. */
const LONGEST_TEXT = 10_000;

const text = z.string().max(LONGEST_TEXT);
const fewSentences = z.string().min(1).max(2_000);

/** What to ask the model for. See docs/model-package.md. */
const promptsSchema = z.strictObject({
  about: fewSentences,
  examples: z.array(fewSentences).max(50),
  vocabulary: z.array(z.string().min(1).max(64)).max(20_000).optional(),
});

const manifestSchema = z.strictObject({
  formatVersion: z.literal(1),
  name: z.string().regex(PACKAGE_NAME),
  version: z.string().max(100),
  title: z.string().max(200),
  description: text,
  license: text,
  createdAt: z.iso.datetime({ offset: true }),
  prompts: promptsSchema.optional(),
  files: z
    .record(
      z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/),
      z.strictObject({ bytes: z.number().int().nonnegative(), sha256: z.string().regex(/^[0-9a-f]{64}$/) }),
    )
    .refine((files) => !('manifest.json' in files), 'must not list manifest.json')
    .refine((files) => Object.keys(files).length <= MOST_FILES, `must list at most ${MOST_FILES} files`),
});

/** What the façade needs of config.json; the native core reads all of it, strictly. */
const configSchema = z.object({
  dit: z.looseObject({
    textLen: z.number().int().min(1).max(65_536),
    ropeTableLength: z.number().int().positive().optional(),
  }),
  tinyVae: z.unknown().optional(),
  sampling: z.object({
    framesPerBlock: z.number().int().min(1).max(256),
    denoisingSteps: z.array(z.number()).min(1).max(64),
    rope: z.enum(['absolute', 'relative']).optional(),
  }),
  video: z.object({ width: pictureSide, height: pictureSide, fps: z.number().min(1).max(240) }),
});

export type Manifest = z.infer<typeof manifestSchema>;

/** What a package says about itself. */
export interface PackageFacts {
  manifest: Manifest;
  config: z.infer<typeof configSchema>;
  /** SHA-256 of manifest.json. */
  digest: string;
}

export interface ModelPackage extends PackageFacts {
  directory: string;
}

/** A package on this machine that stays there until it is released. */
export interface HeldPackage {
  directory: string;
  release(): Promise<void>;
}

/** A directory that is not a usable package, and why. */
export interface PackageProblem {
  directory: string;
  message: string;
}

const REQUIRED = ['config.json', 'dit.safetensors', 'text_encoder.safetensors', 'vae.safetensors', 'tokenizer.json'];

/** The package at a path, or all packages in the directory at that path, by name. */
export async function findPackages(path: string): Promise<{ packages: ModelPackage[]; problems: PackageProblem[] }> {
  const found = await Promise.all((await candidates(path)).map(tryRead));
  const packages = found.filter((entry): entry is ModelPackage => 'manifest' in entry);
  return {
    packages: packages.sort((a, b) => (orderOf(a) < orderOf(b) ? -1 : 1)),
    problems: found.filter((entry): entry is PackageProblem => 'message' in entry),
  };
}

/** By name; of those of one name the one that lies in a directory of that name comes first. */
function orderOf({ directory, manifest }: ModelPackage): string {
  const folder = basename(directory);
  return `${manifest.name}/${folder === manifest.name ? '' : folder}`;
}

/** What is wrong with a file of a package, fit for a terminal as it is: one line or more. */
export class PackageError extends Error {
  override readonly name = 'PackageError';
}

function reasonOf(error: unknown): string {
  if (error instanceof PackageError) return error.message;
  return printable(error instanceof Error ? error.message : String(error));
}

/** Rejects with an Error that says what is wrong. Reads no weights. */
export async function readPackage(directory: string): Promise<ModelPackage> {
  const bytes = await readSmall(join(directory, 'manifest.json'), MOST_JSON_BYTES);
  const manifest = parseManifest(bytes);
  const config = parseConfig(await readSmall(join(directory, 'config.json'), MOST_JSON_BYTES));
  return { directory, manifest, config, digest: digestOf(bytes) };
}

/** Throws an Error that says what is wrong. */
export function parseManifest(bytes: Uint8Array): Manifest {
  const manifest = parse('manifest.json', bytes, manifestSchema);
  for (const file of REQUIRED) {
    if (!manifest.files[file]) throw new PackageError(`manifest.json does not list ${file}.`);
  }
  return manifest;
}

export function parseConfig(bytes: Uint8Array): PackageFacts['config'] {
  return parse('config.json', bytes, configSchema);
}

export function digestOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

export function bytesOf(manifest: Manifest): number {
  return Object.values(manifest.files).reduce((sum, { bytes }) => sum + bytes, 0);
}

/** Reads every file and compares size and checksum; yields what differs. */
export async function* damages({ directory, manifest }: ModelPackage): AsyncGenerator<string> {
  for (const [file, expected] of Object.entries(manifest.files)) {
    const size = await stat(join(directory, file)).then(
      (found) => found.size,
      () => undefined,
    );
    if (size === undefined) yield printed`${file} is missing.`;
    else if (size !== expected.bytes) yield printed`${file} has ${size} bytes; the manifest says ${expected.bytes}.`;
    else if ((await sha256(join(directory, file))) !== expected.sha256)
      yield printed`${file} is damaged: its checksum differs.`;
  }
}

async function candidates(path: string): Promise<string[]> {
  const names = await readdir(path).catch(() => [] as string[]);
  if (names.includes('manifest.json')) return [path];
  const entries = await Promise.all(
    // What begins with a dot is on its way in or out.
    names
      .filter((name) => !name.startsWith('.'))
      .map(async (name) => {
        const directory = join(path, name);
        const manifest = await stat(join(directory, 'manifest.json')).catch(() => undefined);
        return manifest?.isFile() ? directory : undefined;
      }),
  );
  return entries.filter((directory) => directory !== undefined);
}

async function tryRead(directory: string): Promise<ModelPackage | PackageProblem> {
  try {
    return await readPackage(directory);
  } catch (error) {
    return { directory, message: printed`Model package ${basename(directory)}: ` + reasonOf(error) };
  }
}

/** With or without a mark of byte order, which some editors write. Throws what JSON.parse does. */
export function parseText(bytes: Uint8Array): unknown {
  return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
}

function parse<T>(file: string, bytes: Uint8Array, schema: z.ZodType<T>): T {
  let json: unknown;
  try {
    json = parseText(bytes);
  } catch (error) {
    throw new PackageError(printed`${file} is not JSON: ${error instanceof Error ? error.message : error}`);
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  throw new PackageError(`${file} cannot be used: ${problemsOf(parsed.error, json)}.`);
}

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const part of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(part as Uint8Array);
  return hash.digest('hex');
}
