/**
 * From other people's weights to a model package (docs/model-package.md). Everything is checked before the first byte is
 * written. The package grows in a folder beside its place and moves there when it is whole; an import that was interrupted
 * goes on with the files that were finished, if its sources and settings are still the same.
 */

import { createHash } from 'node:crypto';
import { rename, rm, rmdir, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { makeDirectory } from '../files/make-directory.js';
import { printed } from '../files/printable.js';
import { ImportError, inFile } from './errors.js';
import { json } from './json.js';
import { withLock } from './lock.js';
import { PACKAGE_NAME } from './package-name.js';
import { type ImportOptions, type Plan, planOf, type Prepared, whenPrepared } from './plan.js';
import { checkSpace, fingerprint, NoRoom, openState, STATE } from './resume.js';
import { bodyBytes, writeSafeTensors, type WrittenFile } from './writer.js';

export interface Imported {
  directory: string;
  bytes: number;
  parameters: number;
  plan: Plan;
}

export async function importModel(options: ImportOptions): Promise<Imported> {
  const { out, name } = await placeOf(options);
  return whenPrepared(options, (prepared) => write(out, name, prepared, options));
}

/** Everything that an import checks, and nothing of what it writes. */
export async function planImport(options: ImportOptions): Promise<Plan> {
  const { name } = await placeOf(options);
  return whenPrepared(options, async (prepared) => planOf(name, prepared));
}

async function placeOf(options: ImportOptions): Promise<{ out: string; name: string }> {
  const out = resolve(options.out);
  const name = options.name ?? basename(out);
  if (!PACKAGE_NAME.test(name))
    throw new ImportError(printed`"${name}" cannot be the name of a model; use a-z, 0-9, dot, dash, underscore.`);
  await refuseExisting(out);
  return { out, name };
}

async function write(out: string, name: string, prepared: Prepared, options: ImportOptions): Promise<Imported> {
  const made = await makeDirectory(dirname(out));
  try {
    return await withLock(`${out}.lock`, async (lost) => {
      await refuseExisting(out);
      const files = await grow(`${out}.partial`, name, prepared, options);
      lost.throwIfAborted();
      await rename(`${out}.partial`, out);
      return summaryOf(out, planOf(name, prepared), files);
    });
  } catch (error) {
    if (made !== undefined) await removeEmpty(dirname(out), dirname(made));
    throw error;
  }
}

/** The whole package, beside its place. Only what was interrupted can be gone on with: after a refusal nothing is left. */
async function grow(
  partial: string,
  name: string,
  prepared: Prepared,
  options: ImportOptions,
): Promise<Record<string, WrittenFile>> {
  try {
    const files = await writeFiles(partial, prepared, options);
    await writeText(join(partial, 'manifest.json'), json(manifestOf(name, files, options)));
    await rm(join(partial, STATE));
    return files;
  } catch (error) {
    if (error instanceof ImportError && !(error instanceof NoRoom)) await rm(partial, { recursive: true, force: true });
    throw error;
  }
}

/** Folders that are empty, from the inner one outwards. */
async function removeEmpty(from: string, end: string): Promise<void> {
  for (let folder = from; folder !== end; folder = dirname(folder)) {
    const removed = await rmdir(folder).then(
      () => true,
      () => false,
    );
    if (!removed) return;
  }
}

async function writeFiles(
  partial: string,
  { parts, found, tokenizer, config }: Prepared,
  options: ImportOptions,
): Promise<Record<string, WrittenFile>> {
  const total = [...parts.values()].reduce((sum, { tensors, typeOf }) => sum + bodyBytes(tensors, typeOf), 0);
  await makeDirectory(partial);
  const state = await openState(partial, await fingerprint(found, options));
  await checkSpace(partial, total - state.bytes());
  options.onStart?.(total);
  for (const [file, { component, tensors, typeOf }] of parts) {
    const onBytes = (bytes: number) => options.onProgress?.(bytes, file);
    if (state.files[file]) onBytes(bodyBytes(tensors, typeOf));
    else
      await inFile(found.networks.get(component)?.path ?? file, async () =>
        state.add(file, await writeSafeTensors(join(partial, file), tensors, typeOf, onBytes)),
      );
  }
  await state.add('tokenizer.json', await writeText(join(partial, 'tokenizer.json'), tokenizer));
  await state.add('config.json', await writeText(join(partial, 'config.json'), json(config)));
  return state.files;
}

function manifestOf(name: string, files: Record<string, WrittenFile>, options: ImportOptions): object {
  const {
    title = name,
    version = '1.0.0',
    license = 'as that of the imported weights',
    now = () => new Date(),
  } = options;
  const given = [...options.sources, ...(options.loras ?? []).map(({ path }) => path)].map((path) => basename(path));
  return {
    formatVersion: 1,
    ...{ name, version, title, description: `Imported from ${given.join(', ')}`, license },
    ...{ createdAt: now().toISOString(), files },
  };
}

function summaryOf(directory: string, plan: Plan, files: Record<string, WrittenFile>): Imported {
  return {
    ...{ directory, plan },
    bytes: Object.values(files).reduce((sum, { bytes }) => sum + bytes, 0),
    parameters: plan.networks.reduce((sum, { parameters }) => sum + parameters, 0),
  };
}

async function writeText(path: string, text: string): Promise<WrittenFile> {
  await writeFile(path, text, { flush: true });
  return { bytes: Buffer.byteLength(text), sha256: createHash('sha256').update(text).digest('hex') };
}

async function refuseExisting(out: string): Promise<void> {
  if (await stat(out).catch(() => undefined))
    throw new ImportError(printed`${out} exists already; remove it or choose another --out.`);
}
