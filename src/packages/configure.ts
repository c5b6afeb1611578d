/** Changes how a package is sampled: its config.json, and with that its manifest. */

import { printed } from '../files/printable.js';
import { open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { applySettings, ImportError, type Setting } from '../import/index.js';
import { digestOf, parseConfig, parseManifest, parseText } from './package.js';

export interface Change {
  /** `sampling.rope`. */
  key: string;
  before: unknown;
  after: unknown;
}

export interface Configured {
  changes: readonly Change[];
  /** Of the package from now on. */
  digest: string;
  /** Whether the manifest had another checksum of config.json: somebody edited it. */
  renewed: boolean;
}

type Config = Record<string, unknown> & { sampling: Record<string, unknown>; video: Record<string, unknown> };

/**
 * Throws an ImportError when a setting cannot be used. Both files are replaced, the manifest last: whoever is stopped in between
 * runs it again. Without settings the manifest is made to agree with config.json as it is.
 */
export async function configurePackage(directory: string, settings: readonly Setting[]): Promise<Configured> {
  const [configPath, manifestPath] = [join(directory, 'config.json'), join(directory, 'manifest.json')];
  const [configBytes, manifestBytes] = await Promise.all([readFile(configPath), readFile(manifestPath)]);
  const manifest = parseManifest(manifestBytes);
  parseConfig(configBytes);
  const before = parseText(configBytes) as Config;
  const after = applySettings(before, settings);
  const changes = changesOf(before, after);
  const bytes = changes.length > 0 ? json(after) : configBytes;
  const entry = { bytes: bytes.length, sha256: digestOf(bytes) };
  const edited = manifest.files['config.json']?.sha256 !== digestOf(configBytes);
  if (changes.length === 0 && !edited) return { changes, digest: digestOf(manifestBytes), renewed: false };
  // The keys keep their order, so that only what changed differs.
  const renewed = json({ ...manifest, files: { ...manifest.files, 'config.json': entry } });
  if (changes.length > 0) await replace(configPath, bytes);
  await replace(manifestPath, renewed);
  return { changes, digest: digestOf(renewed), renewed: edited };
}

function changesOf(before: Config, after: Config): Change[] {
  return (['sampling', 'video'] as const).flatMap((section) =>
    Object.entries(after[section]).flatMap(([key, value]) => {
      const old = before[section][key];
      return JSON.stringify(old) === JSON.stringify(value)
        ? []
        : [{ key: `${section}.${key}`, before: old, after: value }];
    }),
  );
}

function json(value: unknown): Buffer {
  return Buffer.from(`${JSON.stringify(value, null, 2)}\n`);
}

async function replace(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(`${path}.new`, 'w').catch((error: Error) => {
    throw new ImportError(printed`${path} cannot be written: ${error.message}`);
  });
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(`${path}.new`, path);
}
