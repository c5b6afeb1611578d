import js from '@eslint/js';
import tseslint from 'typescript-eslint';

/**
 * The layers of docs/design: cli -> server -> api -> sessions -> {engine, media, storage, cluster}.
 * A folder may import what stands to its right; engine, media, storage and cluster implement interfaces that sessions
 * owns (src/sessions/ports.ts and errors.ts) and may import those, nothing else of it. import stands alone under cli and engine.
 * files is what engine and import have in common of the file system, and imports nothing.
 */
const forbidden = {
  api: ['cli', 'server', 'engine', 'media', 'storage', 'cluster'],
  sessions: ['cli', 'server', 'api', 'engine', 'media', 'storage'],
  engine: ['cli', 'server', 'api', 'media', 'storage', 'cluster'],
  media: ['cli', 'server', 'api', 'engine', 'storage', 'cluster'],
  storage: ['cli', 'server', 'api', 'engine', 'media', 'cluster'],
  cluster: ['cli', 'server', 'api', 'engine', 'media'],
  import: ['cli', 'server', 'api', 'sessions', 'engine', 'media', 'storage', 'cluster'],
  files: ['cli', 'server', 'api', 'sessions', 'engine', 'media', 'storage', 'cluster', 'import'],
  server: ['cli'],
};

const outside = {
  sessions: ['graphql*', '@pothos/*', '@aws-sdk/*', 'ws', 'node:http*'],
};

const layers = Object.entries(forbidden).map(([layer, folders]) => ({
  files: [`src/${layer}/**/*.ts`],
  rules: {
    'no-restricted-imports': [
      'error',
      {
        patterns: [
          { regex: `^(\\.\\./)+(${folders.join('|')})/`, message: `${layer} must not import upward or sideways.` },
          ...(outside[layer] ? [{ group: outside[layer], message: `${layer} knows no transport and no cloud.` }] : []),
        ],
      },
    ],
  },
}));

export default tseslint.config(
  { ignores: ['dist/', 'native/build/', 'infra/', 'data/', 'models/', 'training/', 'coverage/'] },
  js.configs.recommended,
  ...tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: {
      parserOptions: {
        projectService: { allowDefaultProject: ['eslint.config.js', 'scripts/*.mjs'] },
        tsconfigRootDir: import.meta.dirname,
      },
    },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
    },
  },
  { files: ['**/*.{js,mjs}'], ...tseslint.configs.disableTypeChecked },
  {
    files: ['**/*.mjs', 'eslint.config.js'],
    languageOptions: {
      globals: { process: 'readonly', console: 'readonly', URL: 'readonly', fetch: 'readonly', setTimeout: 'readonly' },
    },
  },
  ...layers,
);
