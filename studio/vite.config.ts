import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

const service = process.env['LONGLIVE_URL'] ?? 'http://localhost:4000';
const at = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  root: import.meta.dirname,
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  // The kit as it stands here, so that a change of it needs no build.
  resolve: { alias: { '@longlive/client': at('../packages/client/src/index.ts') } },
  build: { outDir: '../dist/studio', emptyOutDir: true, assetsInlineLimit: 0, reportCompressedSize: false },
  // `npm run dev:studio`: the page changes as it is edited; what it asks for comes from a running service.
  server: { proxy: { '/graphql': { target: service, ws: true }, '/sessions': service } },
});
