/** Hostile manifest.json and config.json, as they come with packages of strangers, and how a package's reader takes them. */

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFolder } from '../../src/packages/sources.js';
import { ChecksumError } from '../../src/packages/download.js';
import { PackageError } from '../../src/packages/package.js';
import { RemoteError, type RemoteFolder } from '../../src/packages/remote-folder.js';
import { mutate } from './mutate.js';

type Random = (below: number) => number;

export const PACKAGE_FILES = ['manifest.json', 'config.json'] as const;
const FOLDER = new URL('../../models/pocket/', import.meta.url);

export function packageFile(name: string): Buffer {
  return readFileSync(new URL(name, FOLDER));
}

/** Its bytes damaged, or a value of it replaced by one that nobody expects. */
export function damageJson(bytes: Buffer, random: Random): Buffer {
  if (random(3) === 0) return mutate(bytes, [], random);
  let text = bytes.toString();
  for (let changes = 1 + random(4); changes > 0; changes--) {
    const places = [...text.matchAll(/"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null|[[{]/g)];
    const place = places[random(places.length)];
    if (!place) break;
    const whole = /^[[{]/.test(place[0]) ? place[0] : '';
    text =
      text.slice(0, place.index) + strange(random) + (whole && `,${whole}`) + text.slice(place.index + place[0].length);
  }
  return Buffer.from(text);
}

function strange(random: Random): string {
  const values: (() => string)[] = [
    () => 'null',
    () => '-1',
    () => '1e308',
    () => '1e400',
    () => '9007199254740993',
    () => '0.5',
    () => '""',
    () => '"\\u001b[2J\\u0000"',
    () => '"../../etc/passwd"',
    () => '"__proto__"',
    () => '{"__proto__": {"toString": 1}}',
    () => '"\\ud800"',
    () => JSON.stringify('x'.repeat(random(200_000))),
    () => '['.repeat(random(20_000)),
    () => `[${'0,'.repeat(random(50_000))}0]`,
    () =>
      JSON.stringify(Object.fromEntries(Array.from({ length: random(2_000) }, (_, i) => [`${i}.bin`, { bytes: i }]))),
  ];
  return (values[random(values.length)] as () => string)();
}

/**
 * Reads a package of which one file is this, from a folder elsewhere whose manifest agrees with it: why it is refused, nothing
 * when it is taken. Throws for what is no refusal.
 */
export async function answerToPackageFile(name: string, bytes: Buffer): Promise<string | undefined> {
  const files: Record<string, Buffer> = {
    'manifest.json': packageFile('manifest.json'),
    'config.json': packageFile('config.json'),
    [name]: bytes,
  };
  if (name === 'config.json') files['manifest.json'] = manifestOf(bytes);
  const folder: RemoteFolder = {
    address: 'memory',
    read: async (file) => {
      const content = files[file] ?? Buffer.alloc(0);
      return { size: content.length, validator: undefined, bytes: inOne(content) };
    },
  };
  try {
    await readFolder(folder, { attempts: 1 });
    return undefined;
  } catch (error) {
    if (error instanceof Error && isRefusal(error)) return error.message;
    throw error;
  }
}

const isRefusal = (error: Error) =>
  error instanceof PackageError || error instanceof RemoteError || error instanceof ChecksumError;

function manifestOf(config: Buffer): Buffer {
  const manifest = JSON.parse(packageFile('manifest.json').toString()) as { files: Record<string, object> };
  const sha256 = createHash('sha256').update(config).digest('hex');
  manifest.files['config.json'] = { bytes: config.length, sha256 };
  return Buffer.from(JSON.stringify(manifest));
}

async function* inOne(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield bytes;
}
