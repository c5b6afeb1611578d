/**
 * Runs the steps of the Dockerfile's target without a Docker engine: every stage becomes a clean directory, COPY and RUN
 * act inside it, and the last stage's CMD is started and asked for its health. What a directory cannot stand for is said:
 * base images, users, and system packages (which must be installed already).
 *
 *   node scripts/dockerfile-steps.mjs cpu
 */
import { execFileSync, spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';

const context = resolve(import.meta.dirname, '..');
const target = process.argv[2] ?? 'cpu';
const work = mkdtempSync(join(tmpdir(), 'dockerfile-steps-'));
process.on('exit', () => rmSync(work, { recursive: true, force: true }));

/** Instructions of the file, continuation lines joined, comments dropped. */
function instructions() {
  const text = readFileSync(join(context, 'Dockerfile'), 'utf8')
    .replace(/^#.*\n/gm, '')
    .replace(/\\\n/g, ' ');
  return text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const [, name, rest] = /^(\w+)\s+(.*)$/.exec(line.trim());
      return { name, rest };
    });
}

/** name -> { base, steps } */
function stages() {
  const found = new Map();
  let current;
  for (const { name, rest } of instructions()) {
    if (name === 'FROM') {
      const [base, , stage] = rest.split(/\s+/);
      current = { base, steps: [] };
      found.set(stage, current);
    } else if (current) {
      current.steps.push({ name, rest });
    }
  }
  return found;
}

/** Files git would send as build context, less what .dockerignore names. */
function contextFiles(root) {
  const ignored = readFileSync(join(context, '.dockerignore'), 'utf8').split('\n').filter(Boolean);
  const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: context,
    encoding: 'utf8',
  });
  return listed
    .split('\0')
    .filter((file) => file !== '' && existsSync(join(context, file)))
    .filter((file) => !ignored.some((entry) => file === entry || file.startsWith(`${entry}/`)))
    .filter((file) => root === '.' || file === root || file.startsWith(`${root}/`));
}

function checkSystemPackages(command) {
  const names =
    /install\s+(.*?)\s*&&/
      .exec(command)?.[1]
      .split(/\s+/)
      .filter((word) => !word.startsWith('-')) ?? [];
  for (const name of names) {
    const tool = { 'g++': 'g++', make: 'make', python3: 'python3' }[name] ?? name;
    if (name.startsWith('lib')) requireLibrary(name);
    else execFileSync('which', [tool], { stdio: 'ignore' });
  }
  console.log(`    system packages present: ${names.join(' ')}`);
}

/** `libopenh264-7` is libopenh264.so.7. */
function requireLibrary(name) {
  const file = name.replace(/-(\d+)$/, '.so.$1');
  const known = execFileSync('/sbin/ldconfig', ['-p'], { encoding: 'utf8' });
  if (!known.includes(file)) throw new Error(`${file} is not here: apt-get install ${name}`);
}

const built = new Map();

function build(stage) {
  if (built.has(stage)) return built.get(stage);
  const definition = all.get(stage);
  if (!definition) throw new Error(`The Dockerfile has no stage "${stage}".`);
  for (const { name, rest } of definition.steps) {
    const from = name === 'COPY' && /--from=(\S+)/.exec(rest)?.[1];
    if (from) build(from);
  }
  console.log(`stage ${stage} (base ${definition.base})`);
  const state = { root: join(work, stage), workdir: '/', env: { ...process.env }, command: undefined };
  mkdirSync(state.root, { recursive: true });
  for (const step of definition.steps) run(step, state);
  built.set(stage, state);
  return state;
}

const inside = (state, path) => join(state.root, path.startsWith('/') ? path : join(state.workdir, path));

function run({ name, rest }, state) {
  console.log(`  ${name} ${rest.length > 110 ? `${rest.slice(0, 110)}…` : rest}`);
  if (name === 'WORKDIR') {
    state.workdir = rest;
    mkdirSync(inside(state, '.'), { recursive: true });
  } else if (name === 'ENV') {
    for (const [, key, value] of rest.matchAll(/(\w+)=(\S+)/g)) state.env[key] = value;
  } else if (name === 'COPY') {
    copy(rest, state);
  } else if (name === 'RUN') {
    if (rest.startsWith('apt-get')) checkSystemPackages(rest);
    else if (/\b(chown|useradd)\b/.test(rest)) console.log('    users and ownership need a real image: not run');
    else
      execFileSync('bash', ['-ec', rest], {
        cwd: inside(state, '.'),
        env: state.env,
        stdio: ['ignore', 'ignore', 'inherit'],
      });
  } else if (name === 'CMD') {
    state.command = JSON.parse(rest);
  }
}

function copy(rest, state) {
  const from = /--from=(\S+)/.exec(rest)?.[1];
  const words = rest.split(/\s+/).filter((word) => !word.startsWith('--'));
  const destination = words.pop();
  for (const source of words) {
    if (from) {
      const path = join(built.get(from).root, source);
      cpSync(
        path,
        destination.endsWith('/') && source !== '/app'
          ? join(inside(state, destination), source.split('/').pop())
          : inside(state, destination),
        { recursive: true, verbatimSymlinks: true },
      );
      continue;
    }
    for (const file of contextFiles(source.replace(/\/$/, ''))) {
      const relative = source === '.' ? file : file === source ? basename(file) : file.slice(source.length + 1);
      const to =
        source === '.' || destination.endsWith('/')
          ? join(inside(state, destination), relative)
          : join(inside(state, destination), relative);
      mkdirSync(dirname(to), { recursive: true });
      cpSync(join(context, file), to);
    }
  }
}

async function healthy(url, seconds) {
  for (let i = 0; i < seconds * 4; i += 1) {
    const answer = await fetch(url).catch(() => undefined);
    if (answer?.ok) return true;
    await new Promise((wake) => setTimeout(wake, 250));
  }
  return false;
}

const all = stages();
const image = build(target);
const kilobytes = Number(execFileSync('du', ['-sk', image.root], { encoding: 'utf8' }).split('\t')[0]);
console.log(`beside its base image and system packages the image has ${Math.round(kilobytes / 1000)} MB`);
const port = 41_000 + (process.pid % 1000);
const [program, ...args] = image.command;
const data = join(work, 'data');
// Volumes and the outside of the container do not exist here: their places do, and only loopback is listened on.
const env = {
  ...image.env,
  PORT: String(port),
  HOST: '127.0.0.1',
  LONGLIVE_STORE: `file://${data}`,
  LONGLIVE_SECRETS: join(work, image.env.LONGLIVE_SECRETS),
};
console.log(`start: ${image.command.join(' ')} on port ${port}`);
const service = spawn(program, args, { cwd: inside(image, '.'), env, stdio: ['ignore', 'pipe', 'inherit'] });
let said = '';
service.stdout.on('data', (bytes) => {
  said += bytes;
  process.stdout.write(bytes);
});
const ok = (await healthy(`http://127.0.0.1:${port}/readyz`, 60)) && (await guarded());
service.kill('SIGTERM');
await new Promise((done) => service.once('exit', done));
console.log(
  ok ? `target ${target}: built from its own steps, started, and ready` : `target ${target}: did not become ready`,
);
process.exitCode = ok ? 0 : 1;

/** The first start made a token, says how to open the page with it, and asks for it. */
async function guarded() {
  const [, token] = /#token=(\S+)/.exec(said) ?? [];
  const kept = readFileSync(join(env.LONGLIVE_SECRETS, 'token'), 'utf8').trim();
  const status = async (headers) =>
    (await fetch(`http://127.0.0.1:${port}/graphql?query={__typename}`, { headers })).status;
  const answers = [await status({}), await status({ authorization: `Bearer ${token}` })];
  console.log(`without the token that the first start made: ${answers[0]}, with it: ${answers[1]}`);
  return token === kept && answers[0] === 401 && answers[1] === 200;
}
