/**
 * Compiles the native core: `make -C native`. A fresh clone of sources that this user has compiled before takes what came of them from
 * ~/.cache/longlive/native instead of compiling for a minute. Not in CI, nor where anything of the build is chosen by the environment;
 * LONGLIVE_NATIVE_CACHE=off switches it off.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
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

/** Where what is compiled here is kept; nothing where it should not be. */
function placeInCache() {
  const off = process.env.LONGLIVE_NATIVE_CACHE === 'off' || process.env.CI || CHOSEN.some((name) => process.env[name]);
  if (off || process.argv.length > 2) return undefined;
  try {
    const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'longlive', 'native');
    return join(cache, `${keyOf()}.node`);
  } catch {
    return undefined; // no compiler, or no home: make says what is missing
  }
}

function keep(place) {
  try {
    mkdirSync(dirname(place), { recursive: true, mode: 0o700 });
    copyFileSync(addon, `${place}.${process.pid}`);
    renameSync(`${place}.${process.pid}`, place);
    const kept = readdirSync(dirname(place)).map((name) => join(dirname(place), name));
    kept.sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs);
    for (const old of kept.slice(KEPT)) rmSync(old, { force: true });
  } catch {
    // It is only there to save time.
  }
}

const place = placeInCache();
if (place && existsSync(place) && !existsSync(join(native, 'build', 'obj'))) {
  mkdirSync(dirname(addon), { recursive: true });
  copyFileSync(place, addon);
  console.log(`native core: taken from ${place}, compiled before from the same sources`);
} else {
  const { status } = spawnSync('make', ['-C', native, ...process.argv.slice(2)], { stdio: 'inherit' });
  if (status === 0 && place && !existsSync(place)) keep(place);
  process.exitCode = status ?? 1;
}
