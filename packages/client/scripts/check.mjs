/** Whether what would be published is sound: its size, its shape, and whether every kind of resolver finds its types. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const directory = fileURLToPath(new URL('..', import.meta.url));
const LIMIT = 15_000;

const { outputFiles } = await build({
  entryPoints: [`${directory}/src/index.ts`],
  bundle: true,
  minify: true,
  write: false,
  format: 'esm',
  platform: 'neutral',
  external: ['graphql-ws/client'],
});
const size = gzipSync(outputFiles[0].contents, { level: 9 }).length;
console.log(`the kit without graphql-ws: ${size} bytes, minified and compressed; the limit is ${LIMIT}`);
if (size > LIMIT) process.exit(1);

const run = (command, ...args) => execFileSync(command, args, { cwd: directory, stdio: 'inherit' });
run('npx', '--no-install', 'publint', '--strict');
run('npm', 'run', '-s', 'tools', '--prefix', '../..');
run('../../tools/node_modules/.bin/attw', '--pack', '.', '--profile', 'esm-only', '--exclude-entrypoints', 'script');
run('npx', '--no-install', 'tsx', 'scripts/generate.ts', '--check');
