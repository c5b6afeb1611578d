import { defineConfig } from 'vite';

const service = process.env['LONGLIVE_URL'] ?? 'http://localhost:4000';

export default defineConfig({
  root: import.meta.dirname,
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: { outDir: '../dist/studio', emptyOutDir: true, assetsInlineLimit: 0, reportCompressedSize: false },
  // `npm run dev:studio`: the page changes as it is edited; what it asks for comes from a running service.
  server: { proxy: { '/graphql': { target: service, ws: true }, '/sessions': service } },
});
