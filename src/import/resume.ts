/** What an import that was interrupted has finished, and whether the next one may go on with it. */

import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import { ImportError } from './errors.js';
import type { Found, FoundTokenizer } from './find.js';
import { json } from './json.js';
import { type ImportOptions, plannedAdapter } from './plan.js';
import type { WrittenFile } from './writer.js';

export const STATE = 'import.json';
/** Kept free beside the package. */
const SPARE_BYTES = 64 * 2 ** 20;

interface State {
  files: Record<string, WrittenFile>;
  bytes(): number;
  add(file: string, written: WrittenFile): Promise<void>;
}

/** Files finished by an earlier import of the same sources with the same settings are kept, others removed. */
export async function openState(directory: string, key: string): Promise<State> {
  const path = join(directory, STATE);
  const before = await readState(path);
  if (before.key !== key) {
    await rm(directory, { recursive: true });
    await mkdir(directory);
  }
  const files = before.key === key ? before.files : {};
  return {
    files,
    bytes: () => Object.values(files).reduce((sum, { bytes }) => sum + bytes, 0),
    async add(file, written) {
      files[file] = written;
      await writeFile(`${path}.new`, json({ key, files }));
      await rename(`${path}.new`, path);
    },
  };
}

const stateSchema = z.object({
  key: z.string(),
  files: z.record(z.string(), z.object({ bytes: z.number(), sha256: z.string() })),
});

async function readState(path: string): Promise<{ key: string; files: Record<string, WrittenFile> }> {
  try {
    return stateSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch {
    return { key: '', files: {} };
  }
}

/** Names, sizes and times of all sources, and every setting that changes what is written. */
export async function fingerprint(found: Found, options: ImportOptions): Promise<string> {
  const { precision, textEncoder, ema, hints, settings, dequantize } = options;
  const paths = [...found.sources.flatMap(({ files }) => files), (found.tokenizer as FoundTokenizer).path];
  const files = await Promise.all(
    paths.map(async (path) => [resolve(path), (await stat(path)).size, (await stat(path)).mtimeMs]),
  );
  const adapters = found.adapters.map((adapter) => plannedAdapter(adapter));
  const chosen = { precision, textEncoder, ema, hints, settings, dequantize };
  return createHash('sha256')
    .update(json({ files, adapters, ...chosen }))
    .digest('hex');
}

/** What an earlier import has finished is of use when there is room again. */
export class NoRoom extends ImportError {}

export async function checkSpace(directory: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  const free = bavail * bsize;
  if (free > bytes + SPARE_BYTES) return;
  const place = dirname(directory);
  throw new NoRoom(
    `The package needs ${sizeOf(bytes + SPARE_BYTES)}, but ${place} has only ${sizeOf(free)} left. Free some space, or choose another --out.`,
  );
}

function sizeOf(bytes: number): string {
  return bytes < 2 ** 30 ? `${Math.ceil(bytes / 2 ** 20)} MiB` : `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
