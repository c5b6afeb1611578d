import { defineConfig } from 'vitest/config';

/** Vite would load graphql's `.mjs` for our sources while Node loads its `.js` for packages: two copies of every class. */
const resolve = {
  alias: [
    { find: /^graphql$/, replacement: 'graphql/index.js' },
    // As the studio is built: with the kit as it stands here.
    { find: '@longlive/client', replacement: new URL('packages/client/src/index.ts', import.meta.url).pathname },
  ],
};

export default defineConfig({
  test: {
    projects: [
      {
        resolve,
        test: {
          name: 'unit',
          include: [
            'test/unit/**/*.test.ts',
            'src/**/*.test.ts',
            'packages/*/test/*.test.ts',
            'packages/*/test/player/*.test.ts',
            'studio/test/*.test.ts',
          ],
          environment: 'node',
          // None takes a second by itself; a crowded machine may take its time.
          testTimeout: 30_000,
        },
      },
      {
        resolve,
        test: {
          name: 'integration',
          include: ['test/integration/**/*.test.ts', 'packages/*/test/integration/*.test.ts'],
          environment: 'node',
          testTimeout: 60_000,
          expect: { poll: { timeout: 20_000 } },
          hookTimeout: 300_000,
          fileParallelism: false,
        },
      },
      {
        resolve,
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts', 'packages/*/test/e2e/*.test.ts'],
          environment: 'node',
          testTimeout: 180_000,
          expect: { poll: { timeout: 20_000 } },
          hookTimeout: 300_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
