/**
 * Compiles the native core: `make -C native`. A fresh clone of sources that this user has compiled before takes what came of them from
 * ~/.cache/longlive/native instead of compiling for a minute. Not in CI, nor where anything of the build is chosen by the environment;
 * LONGLIVE_NATIVE_CACHE=off switches it off.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

const root = join(import.meta.dirname, '..');
const native = join(root, 'native');
const addon = join(native, 'build', 'longlive.node');
const CHOSEN = [
  'CUDA',
  'CXX',
  'CXXFLAGS',
  'CPPFLAGS',
  'LDFLAGS',
  'LDLIBS',
  'BUILD',
  'OPTIMISE',
  'UNITY',
  'ARCH',
  'MAKEFLAGS',
];
/** Builds that are kept, the newest ones. */
const KEPT = 4;

/** Everything that decides what is compiled: sources, compiler, Node's headers. */
function keyOf() {
  const hash = createHash('sha256');
  const compiler = process.platform === 'darwin' ? 'c++' : 'g++';
  hash.update(execFileSync(compiler, ['-v', '-E', '-x', 'c++', '/dev/null'], { stdio: ['ignore', 'pipe', 'pipe'] }));
  hash.update(execFileSync(compiler, ['--version']));
  for (const name of ['node-addon-api', 'node-api-headers'])
    hash.update(readFileSync(join(root, 'node_modules', name, 'package.json')));
  const files = readdirSync(native, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(?:cpp|h|cu|cuh|inc)$|^Makefile$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((file) => !file.startsWith(join(native, 'build')) && !/\/(?:test|bench)\//.test(file.slice(native.length)))
    .sort();
  for (const file of files) hash.update(file.slice(root.length)).update(readFileSync(file));
  return hash.update(`${process.platform} ${process.arch} ${process.versions.napi}`).digest('hex').slice(0, 40);
}

/** Where builds are kept, and under which name this one is; nothing where it should not be. */
function placeInCache() {
  const off = process.env.LONGLIVE_NATIVE_CACHE === 'off' || process.env.CI || CHOSEN.some((name) => process.env[name]);
  if (off || process.argv.length > 2) return undefined;
  try {
    return { cache: join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'longlive', 'native'), key: keyOf() };
  } catch {
    return undefined; // no compiler, or no home: make says what is missing
  }
}

const digestOf = (bytes) => createHash('sha256').update(bytes).digest('hex').slice(0, 40);

/** A build of these sources whose bytes are those of its name; one that is damaged goes. */
function take({ cache, key }) {
  try {
    for (const name of readdirSync(cache).filter((each) => each.startsWith(`${key}.`) && each.endsWith('.node'))) {
      const file = join(cache, name);
      const bytes = readFileSync(file);
      if (name === `${key}.${digestOf(bytes)}.node`) return { file, bytes };
      rmSync(file, { force: true });
    }
  } catch {
    // There is none, or none that can be read.
  }
  return undefined;
}

function keep({ cache, key }) {
  try {
    const bytes = readFileSync(addon);
    mkdirSync(cache, { recursive: true, mode: 0o700 });
    writeWhole(join(cache, `${key}.${digestOf(bytes)}.node`), bytes);
    const kept = readdirSync(cache).map((name) => join(cache, name));
    kept.sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs);
    for (const old of kept.slice(KEPT)) rmSync(old, { force: true });
  } catch {
    // It is only there to save time.
  }
}

/** Beside it first: nobody finds half a file, and who has the old one loaded keeps it. */
function writeWhole(file, bytes) {
  writeFileSync(`${file}.${process.pid}`, bytes);
  renameSync(`${file}.${process.pid}`, file);
}

const place = placeInCache();
const found = place && !existsSync(join(native, 'build', 'obj')) ? take(place) : undefined;
if (found) {
  mkdirSync(dirname(addon), { recursive: true });
  writeWhole(addon, found.bytes);
  console.log(`native core: taken from ${found.file}, compiled before from the same sources`);
} else {
  const { status } = spawnSync('make', ['-C', native, ...process.argv.slice(2)], { stdio: 'inherit' });
  if (status === 0 && place && !take(place)) keep(place);
  process.exitCode = status ?? 1;
}
