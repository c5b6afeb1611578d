/** Writes dist/: ES modules with what they share in files of its own, and one file for a script tag. */
import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const at = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));
const common = { bundle: true, target: 'es2022', platform: 'neutral', logLevel: 'warning', absWorkingDir: at('.') };

rmSync(at('dist'), { recursive: true, force: true });
await build({
  ...common,
  entryPoints: ['index', 'react', 'testing'].map((name) => at(`src/${name}.ts`)),
  outdir: at('dist'),
  format: 'esm',
  splitting: true,
  sourcemap: true,
  external: ['graphql-ws/client', 'react'],
});
await build({
  ...common,
  entryPoints: [at('src/index.ts')],
  outfile: at('dist/longlive.global.js'),
  format: 'iife',
  globalName: 'longlive',
  minify: true,
});
